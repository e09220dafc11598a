from pathlib import Path

import pytest

from portfolio_stream.kafka.tools.repository import base_address, mirror_of_central, settings_files

NAMESPACE = ' xmlns="https://settings.example/1.0.0"'


def settings(folder: Path, mirrors: str, namespace: str = "") -> Path:
    path = folder / "settings.xml"
    path.write_text(f"<settings{namespace}><mirrors>{mirrors}</mirrors></settings>", encoding="utf-8")
    return path


def mirror(of: str, url: str, more: str = "") -> str:
    return f"<mirror><id>m</id><mirrorOf>{of}</mirrorOf><url>{url}</url>{more}</mirror>"


@pytest.mark.parametrize("of", ["central", "*", "external:*", "other, central", "*,!internal"])
@pytest.mark.parametrize("namespace", ["", NAMESPACE], ids=["plain", "namespace"])
def test_a_mirror_of_central_is_found(tmp_path: Path, of: str, namespace: str) -> None:
    """By each pattern that means central, with and without the settings' XML namespace."""
    assert (
        mirror_of_central(settings(tmp_path, mirror(of, "https://mirror.example/m2"), namespace))
        == "https://mirror.example/m2"
    )


@pytest.mark.parametrize(
    "entry",
    [
        mirror("external:http:*", "http://0.0.0.0/", "<blocked>true</blocked>"),
        mirror("*", "http://0.0.0.0/", "<blocked>true</blocked>"),
        mirror("*,!central", "https://mirror.example/m2"),
        mirror("snapshots", "https://mirror.example/m2"),
        mirror("*", "${env.MIRROR}/m2"),
        mirror("*", "https://${mirror.host}/m2"),
        mirror("*", ""),
        "<mirror/>",
        "",
    ],
)
def test_a_mirror_that_does_not_serve_central_is_passed_over(tmp_path: Path, entry: str) -> None:
    """Blocked ones, other repositories', excluded central, placeholders, empty entries."""
    assert mirror_of_central(settings(tmp_path, entry)) is None


def test_the_exact_id_beats_a_wildcard(tmp_path: Path) -> None:
    """As in Maven, whatever the order in the file."""
    mirrors = mirror("*", "https://any.example") + mirror("central", "https://exact.example")
    assert mirror_of_central(settings(tmp_path, mirrors)) == "https://exact.example"


@pytest.mark.parametrize("content", [b"", b"<settings><mirrors>", b"\xff\xfe\x00"], ids=["empty", "torn", "binary"])
def test_damaged_settings_are_passed_over(tmp_path: Path, content: bytes) -> None:
    """They are Maven's to report."""
    path = tmp_path / "settings.xml"
    path.write_bytes(content)
    assert mirror_of_central(path) is None


def test_the_environment_beats_the_settings(tmp_path: Path) -> None:
    """MAVEN_MIRROR is the nearest to the user."""
    path = settings(tmp_path, mirror("*", "https://mirror.example/m2"))
    assert base_address({"MAVEN_MIRROR": "https://given.example/m2/"}, [path]) == "https://given.example/m2"


def test_the_first_settings_with_a_mirror_win(tmp_path: Path) -> None:
    """A missing or silent file lets the next one speak."""
    path = settings(tmp_path, mirror("*", "https://mirror.example/m2/"))
    assert base_address({}, [tmp_path / "missing.xml", path]) == "https://mirror.example/m2"


def test_without_any_setting_the_library_knows(tmp_path: Path) -> None:
    """jgo's own default, taken as it is."""
    from jgo.constants import MAVEN_CENTRAL_URL

    assert MAVEN_CENTRAL_URL.rstrip("/") == base_address({}, [tmp_path / "missing.xml"])


def test_the_users_settings_come_first() -> None:
    """Then the installation's that the environment names, then the machine's."""
    files = settings_files({"MAVEN_HOME": "/opt/maven"})
    assert [Path("~/.m2/settings.xml").expanduser(), Path("/opt/maven/conf/settings.xml")] == list(files[:2])

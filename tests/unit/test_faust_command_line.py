"""Faust's own options, commands and variables: each is judged, and what is judged is so."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import faust.cli
import mode.worker
import pytest
from faust.cli.faust import cli
from faust.types.settings import Settings as FaustSettings

from portfolio_stream.exactly_once.faust.command_line import (
    COMMANDS,
    OPTIONS,
    REFUSED_COMMANDS,
    REFUSED_OPTIONS,
    VARIABLES,
    idle_variables,
)
from portfolio_stream.settings import Settings
from portfolio_stream.worker import make_app
from tests.integration.sensor_averages import code
from tests.integration.workers import FAUST

PAGE = Path(__file__).parents[2] / "docs" / "faust.md"
HOSTILE = "tcp://10.0.0.7:80"
#: set by Faust's command line for its own use
OWN = frozenset({"GEVENT_LOOP"})


def sources() -> Iterator[str]:
    for package in (Path(faust.cli.__file__).parents[1], Path(mode.worker.__file__).parent):
        for path in sorted(package.rglob("*.py")):
            yield path.read_text()


def test_every_option_and_command_is_judged() -> None:
    """A new version's new one fails here until somebody has looked at it."""
    names = {parameter.name for command in (cli, cli.commands["worker"]) for parameter in command.params}
    assert names | {"help"} == OPTIONS.keys() | REFUSED_OPTIONS.keys()
    assert not OPTIONS.keys() & REFUSED_OPTIONS.keys()
    assert cli.commands.keys() == COMMANDS.keys() | REFUSED_COMMANDS.keys()


def test_every_variable_is_judged() -> None:
    """All that Faust and mode read of the environment, beside Faust's settings."""
    read = {name for text in sources() for name in re.findall(r'os\.environ(?:\.get\(|\[)"(\w+)"', text)}
    prefixed = {name for text in sources() for name in re.findall(r'= \w+\(_getenv\("(\w+)"|= _getenv\("(\w+)"', text)}
    names = {f"FAUST_{one or other}" for one, other in prefixed}
    names |= {re.sub("^F_", "FAUST_", name) for name in read} - OWN
    assert names == VARIABLES.keys()


@pytest.mark.parametrize("prefix", ["", "APP_"])
def test_no_variable_of_fausts_settings_counts(prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them set to what Kubernetes would set it to: the app is the one without."""

    def seen() -> dict[str, str]:
        conf = make_app(Settings()).conf
        names = [setting.storage_name for setting in FaustSettings.SETTINGS.values()]
        return {name: repr(getattr(conf, name)) for name in names if not name.startswith("_reply_to")}

    before = seen()
    names = {setting.env_name for setting in FaustSettings.SETTINGS.values()} - {None}
    for name in names:
        monkeypatch.setenv(str(name), HOSTILE)
        monkeypatch.setenv(f"{prefix}{name}", HOSTILE)
    monkeypatch.setenv("APP_ENV_PREFIX", prefix)
    assert before == seen()
    assert "BROKER_URL" in idle_variables(os.environ) and len(idle_variables(os.environ)) == len(names)


def test_the_documentation_has_what_is_refused() -> None:
    """A short table, and nothing that is not so."""
    page = PAGE.read_text()
    for name in (*REFUSED_COMMANDS, *(f"--{option.replace('_', '-')}" for option in REFUSED_OPTIONS)):
        assert f"`{name}`" in page, name


def ended(folder: Path, *arguments: str, app: str = "portfolio_stream", **variables: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `faust`, with a broker that nobody can be and no PORTFOLIO_ of the machine's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PORTFOLIO_")}
    own = {"PORTFOLIO_BOOTSTRAP_SERVERS": "127.0.0.1:1", "KAFKA": "127.0.0.1:1", "PYTHONPATH": str(folder)}
    one = subprocess.run(
        [FAUST, "-A", app, *arguments],
        env=kept | own | variables,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in one.stdout + one.stderr, one
    return one.returncode, one.stdout, one.stderr


def made(folder: Path) -> list[str]:
    """But what Python and its test libraries leave."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith((".", "__pycache__")))


@pytest.mark.parametrize(
    ("app", "arguments", "variables", "named"),
    [
        ("portfolio_stream", ["send", "portfolio-events", "x"], {}, "faust send"),
        ("portfolio_stream", ["reset"], {}, "faust reset"),
        ("portfolio_stream", ["clean-versions"], {}, "faust clean-versions"),
        ("portfolio_stream", ["livecheck"], {}, "faust livecheck"),
        ("portfolio_stream", ["worker", "--web-transport", "tcp://"], {}, "--web-transport"),
        ("portfolio_stream", ["worker", "-h", "worker-1.example"], {}, "--web-host"),
        ("portfolio_stream", ["worker", "--console-port", "50101"], {}, "--console-port"),
        ("portfolio_stream", ["--blocking-timeout", "10", "worker"], {}, "--blocking-timeout"),
        ("portfolio_stream", ["worker"], {"F_STRICT": "1"}, "FAUST_STRICT"),
        ("sensor_averages", ["send", "portfolio-events", "x"], {}, "faust send"),
        ("sensor_averages", ["worker", "-h", "worker-1.example"], {}, "--web-host"),
    ],
)
def test_what_is_refused_is_named(
    app: str, arguments: list[str], variables: dict[str, str], named: str, tmp_path: Path
) -> None:
    """Two lines, exit code 2, and nothing was made, opened or sent; whatever app stands on the engine."""
    (tmp_path / "sensor_averages.py").write_text(code())
    status, _, err = ended(tmp_path, *arguments, app=app, **variables)
    cause, action = err.splitlines()
    assert (2, True) == (status, action.startswith("Operator action: ")), err
    assert cause.startswith(f"{named} is not for an app"), err
    assert ["sensor_averages.py"] == made(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "variables", "shown"),
    [
        (["--web-port", "6066"], {"PORTFOLIO_WEB_PORT": "41707"}, "http://127.0.0.1:6066"),
        ([], {"PORTFOLIO_WEB_PORT": "41707", "WEB_PORT": "41708"}, "http://127.0.0.1:41707"),
        ([], {"PORTFOLIO_WEB_PORT": "41707", "WEB_PORT": HOSTILE}, "http://127.0.0.1:41707"),
        ([], {"BROKER_URL": "kafka://127.0.0.1:1"}, "exactly-once://127.0.0.1:1"),
        (["--web-bind", "127.0.0.2"], {"PORTFOLIO_WEB_HOST": "127.0.0.1"}, "http://127.0.0.2:6066"),
        (["-b", "::1"], {"PORTFOLIO_WEB_TOKEN": "secret"}, "http://[::1]:6066"),
        ([], {"FAUST_DEBUG": "1", "DJANGO_SETTINGS_MODULE": "none"}, "exactly-once://127.0.0.1:1"),
    ],
)
def test_an_option_counts_and_a_variable_of_fausts_does_not(
    arguments: list[str], variables: dict[str, str], shown: str, tmp_path: Path
) -> None:
    """The banner says what the worker takes; then no broker answers. Ports that are taken are another matter."""
    status, out, err = ended(tmp_path, "worker", *arguments, **variables)
    assert shown in out and 1 == status, (out, err)
    assert "No Kafka broker answers" in err or "is already in use" in err, err
    ignored = sorted(variables.keys() & {"WEB_PORT", "BROKER_URL"})
    assert all(f"ignored variables={name} " in err for name in ignored), err


@pytest.mark.parametrize(
    ("arguments", "cause"),
    [
        (["--web-bind", "0.0.0.0"], "only with a token"),
        (["--web-bind", "http://127.0.0.1"], "--web-bind is 'http://127.0.0.1', but must be a host name"),
        (["--web-bind", ""], "--web-bind is '', but must be a host name"),
    ],
)
def test_an_open_address_needs_a_token_however_it_is_given(arguments: list[str], cause: str, tmp_path: Path) -> None:
    """As PORTFOLIO_WEB_HOST does."""
    status, _, err = ended(tmp_path, "worker", *arguments)
    assert 2 == status and cause in err, err


@pytest.mark.parametrize("arguments", [["--datadir", "{there}"], ["-D", "{there}"]])
@pytest.mark.parametrize("variables", [{"PORTFOLIO_DATA_DIR": "ours"}, {"FAUST_DATADIR": "fausts"}])
def test_the_data_folder_is_the_options(arguments: list[str], variables: dict[str, str], tmp_path: Path) -> None:
    """In both of its forms; the variables' folders are not even made."""
    assert 1 == ended(tmp_path, *arguments, "worker", **variables)[0]
    assert ["{there}"] == made(tmp_path)


def test_our_variable_beats_fausts(tmp_path: Path) -> None:
    """Faust's own counts where ours says nothing."""
    assert 1 == ended(tmp_path, "worker", FAUST_DATADIR="fausts", PORTFOLIO_DATA_DIR="ours")[0]
    assert ["ours"] == made(tmp_path)
    assert 1 == ended(tmp_path, "worker", F_DATADIR="fausts")[0]
    assert ["fausts", "ours"] == made(tmp_path)


def test_the_lists_are_printed(tmp_path: Path) -> None:
    """Commands that only look work, also as JSON, and make nothing."""
    assert "positions" in ended(tmp_path, "--json", "tables")[1]
    assert "portfolio_events" in ended(tmp_path, "agents")[1]
    assert 0 == ended(tmp_path, "models")[0]
    assert [] == made(tmp_path)


def test_a_misspelt_setting_is_named_at_the_start(tmp_path: Path) -> None:
    """One line of the log; the worker goes on."""
    _, _, err = ended(tmp_path, "worker", PORTFOLIO_BOOTSTRAP_SERVER="a:1")
    assert 1 == err.count("ignored variables=PORTFOLIO_BOOTSTRAP_SERVER "), err

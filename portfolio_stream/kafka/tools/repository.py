"""The address of the Maven repository that Kafka's jars come from. This project contains no such address.

The first of these that exists counts: the environment's MAVEN_MIRROR; a mirror of `central` in Maven's own settings
(first the user's, then the machine's); the default of jgo, a library for Maven repositories.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

CENTRAL = "central"  # Maven's id of its default repository
#: values of `mirrorOf` that include central; the exact id first, since Maven prefers it
PATTERNS = (CENTRAL, "*", "external:*")


class Mirror(NamedTuple):
    patterns: tuple[str, ...]
    url: str

    def serves(self, pattern: str) -> bool:
        return pattern in self.patterns and f"!{CENTRAL}" not in self.patterns


def settings_files(environment: Mapping[str, str]) -> tuple[Path, ...]:
    """Returns the paths of Maven's settings files, the one with priority first. The files need not exist."""
    installations = [Path(environment[name]) / "conf" for name in ("MAVEN_HOME", "M2_HOME") if environment.get(name)]
    folders = [Path("~/.m2").expanduser(), *installations, Path("/etc/maven"), Path("/usr/share/maven/conf")]
    return tuple(folder / "settings.xml" for folder in folders)


def base_address(environment: Mapping[str, str], settings: Iterable[Path] | None = None) -> str:
    """Returns the repository's address, without a trailing slash."""
    given = environment.get("MAVEN_MIRROR")
    if given:
        return given.rstrip("/")
    for path in settings_files(environment) if settings is None else settings:
        url = mirror_of_central(path)
        if url is not None:
            return url.rstrip("/")
    from jgo.constants import MAVEN_CENTRAL_URL  # imported here: the import of jgo is slow, and rarely needed

    return str(MAVEN_CENTRAL_URL).rstrip("/")


def mirror_of_central(settings: Path) -> str | None:
    """Returns the address of the mirror that a settings.xml gives for central, or None.

    Ignores mirrors that are blocked or have a placeholder in their address. Ignores a file that is missing, unreadable
    or not XML: reporting a broken file is Maven's task.
    """
    try:
        root = ElementTree.fromstring(settings.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ElementTree.ParseError):
        return None
    mirrors = [mirror for element in root.iterfind("{*}mirrors/{*}mirror") if (mirror := _read(element)) is not None]
    served = (mirror.url for pattern in PATTERNS for mirror in mirrors if mirror.serves(pattern))
    return next(served, None)


def _read(element: ElementTree.Element) -> Mirror | None:
    url = _text(element, "url")
    is_usable = url.startswith(("https://", "http://", "file:")) and "${" not in url
    if not is_usable or _text(element, "blocked") == "true":
        return None
    return Mirror(tuple(part.strip() for part in _text(element, "mirrorOf").split(",")), url)


def _text(element: ElementTree.Element, name: str) -> str:
    return (element.findtext(f"{{*}}{name}") or "").strip()

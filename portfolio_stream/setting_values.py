"""The kinds of settings. Options, environment variables and Faust's options are all read by these.

A `SettingKind` turns text into a value. It raises ValueError only if the text is not what `expected` says. No kind asks
the network.
"""

import re
from collections.abc import Callable
from ipaddress import IPv6Address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

MOST_DIGITS = 18  # every setting needs fewer, and Python refuses to read a number of more than 4,300
LONGEST_HOST = 253  # RFC 1035, 2.3.4, without the last dot
LAST_PORT = 65_535

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_ADDRESS = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<host>[^\[\]:]*)):(?P<port>[0-9]{1,5})")
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_DURATION = re.compile(r"(?P<count>[0-9]{1,9})(?P<unit>ms|[smhd]?)")
_UNIT_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}
_BUCKET = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](?P<prefix>(?:/[^/]+)*)/?")  # Amazon's rules for a bucket
#: Kafka's internal topics
_KAFKAS_OWN = frozenset({"__consumer_offsets", "__transaction_state", "__share_group_state"})


class SettingKind(NamedTuple):
    """`read` turns text into the value, or raises ValueError. If `is_secret`, no message may show the text."""

    expected: str
    read: Callable[[str], Any]
    is_secret: bool = False


def matching(pattern: str, expected: str, *, is_secret: bool = False) -> SettingKind:
    """Returns a kind whose value is the text itself. The whole text must match."""
    compiled = re.compile(pattern)
    return SettingKind(expected, lambda text: _checked(text, compiled.fullmatch(text) is not None), is_secret)


def whole_number_setting(low: int, high: int) -> SettingKind:
    def read(text: str) -> int:
        is_number = text.isascii() and text.isdigit() and len(text) <= MOST_DIGITS
        return int(_checked(text, is_number and low <= int(text) <= high))

    return SettingKind(f"a whole number from {low} to {high}", read)


def duration_setting(low: float, high: float) -> SettingKind:
    """The value is in seconds."""

    def read(text: str) -> float:
        match = _DURATION.fullmatch(text)
        if match is None:
            raise ValueError
        seconds = int(match["count"]) * _UNIT_SECONDS[match["unit"]]
        _checked(text, low <= seconds <= high)
        return seconds

    return SettingKind(
        f"a number of seconds from {low:.16g} to {high:.16g}, or such as 500ms, 60s, 10m, 2h or 1d", read
    )


def one_of(*allowed: str) -> SettingKind:
    return SettingKind(f"one of {', '.join(allowed)}", lambda text: _checked(text, text in allowed))


def _checked(text: str, is_right: bool) -> str:
    if not is_right:
        raise ValueError
    return text


def _host(text: str) -> str:
    if ":" in text:
        return _checked(text, _is_ipv6(text))
    return _checked(text, _HOST_NAME.fullmatch(text) is not None and len(text) <= LONGEST_HOST)


def _is_ipv6(text: str) -> bool:
    try:
        return IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _address(text: str) -> str:
    match = _ADDRESS.fullmatch(text)
    if match is None or not 1 <= int(match["port"]) <= LAST_PORT:
        raise ValueError
    if match["ipv6"] is not None:
        return _checked(text, _is_ipv6(match["ipv6"]))
    _host(match["host"])
    return text


def _addresses(text: str) -> str:
    for address in text.split(","):
        _address(address)
    return text


def _web_address(text: str) -> str:
    """Accepts http://host and http://host:port, and behind a proxy also a path before ours."""
    _checked(text, text.isascii() and text.isprintable() and " " not in text)
    parts = urlsplit(text)  # raises ValueError for wrong brackets
    _checked(text, parts.scheme in ("http", "https") and not parts.query and not parts.fragment)
    has_port = ":" in parts.netloc.rpartition("]")[2]
    _address(parts.netloc if has_port else f"{parts.netloc}:80")
    return text


def _any_topic(text: str) -> str:
    return _checked(text, _TOPIC.fullmatch(text) is not None and text not in (".", ".."))


def _topic(text: str) -> str:
    return _checked(_any_topic(text), text not in _KAFKAS_OWN)


def _printable(text: str) -> str:
    """Refuses control characters, and bytes of the environment that are not UTF-8: isprintable() is False for both."""
    return _checked(text, text.isprintable())


def _folder(text: str) -> Path:
    """Accepts a folder, or a path at which a folder can be created."""
    path = Path(_printable(text))
    try:
        place = next(place for place in (path, *path.absolute().parents) if place.exists())
        _checked(text, place.is_dir())
    except OSError:  # the name is too long, or this user may not look into a folder
        raise ValueError from None
    return path


def _savepoints(text: str) -> str:
    """Accepts a folder as `_folder` does, and a bucket with or without a path in it."""
    if "://" not in text:
        _folder(text)
        return text
    match = _BUCKET.fullmatch(_printable(text))
    if match is None or {".", ".."} & set(match["prefix"].split("/")) or set(" ?#") & set(text):
        raise ValueError
    return text


def _utf8(text: str) -> str:
    """Refuses an argument that is not UTF-8. Python gives its bytes as surrogates, which cannot be encoded.

    UnicodeEncodeError is a ValueError.
    """
    return text.encode().decode()


def _log_file(text: str) -> str:
    """Accepts a file that can be opened for writing. To open is the best test, and creates the log file."""
    try:
        with Path(_printable(text)).open("ab"):
            return text
    except OSError:
        raise ValueError from None


ADDRESS = SettingKind("host:port, such as 10.0.0.7:6066 or [::1]:6066", _address)
ADDRESSES = SettingKind(
    "host:port, or several joined by commas without spaces, such as kafka-1:9092,[::1]:9092", _addresses
)
LINK = matching(  # Prometheus would take two braces for a template
    r"https?://[!$-z~]{1,500}", "a URL without a fragment, such as https://wiki/runbook"
)
WEB_ADDRESS = SettingKind("a worker's address, such as http://127.0.0.1:6066", _web_address)
HOST = SettingKind("a host name or an IP address, without brackets and without a port", _host)
PORT = whole_number_setting(1, LAST_PORT)
TOPIC = SettingKind("a topic's name: at most 249 of A-Z a-z 0-9 . _ -, and none of Kafka's own", _topic)
#: for commands that only read a topic's description
ANY_TOPIC = SettingKind("a topic's name: at most 249 of A-Z a-z 0-9 . _ -", _any_topic)
GROUP = matching(  # GROUP-changelog is a topic: its name has at most 249 characters
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", "at most 200 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit"
)
NAME = matching(  # the name of a folder, and a part of client ids
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "at most 64 of A-Z a-z 0-9 . _ -, beginning with a letter or a digit"
)
FOLDER = SettingKind("a folder, or a place where one can be made", _folder)
SAVEPOINTS = SettingKind("a folder, a place where one can be made, or s3://bucket/prefix", _savepoints)
FILE = SettingKind("a file's path without control characters", _printable)
UTF8 = SettingKind("UTF-8", _utf8)
LOG_FILE = SettingKind("a file that this user can write", _log_file)
TEXT = SettingKind("text without control characters", _printable)
PASSWORD = SettingKind("UTF-8 without control characters", _printable, is_secret=True)
TOKEN = matching(  # an HTTP header changes any other text
    r"[!-~](?:[ -~]*[!-~])?", "printable ASCII characters, without spaces at its ends", is_secret=True
)

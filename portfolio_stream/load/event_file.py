"""Read events from a file that has one JSON object per line.

1. An event's bytes are its line without the line end, LF or CRLF. So the same event in files of two systems is a
   duplicate, not a conflict. The line is not changed otherwise: a line that is not an event becomes a dead letter.
2. A UTF-8 byte order mark belongs to the file, not to the first event.
3. Some files are refused by their first bytes, before any event is sent: other encodings, compressed files, and JSON
   that does not have one object per line.
4. If a line is too long for any broker, or cannot be read, the reading ends with an error that names the line.
"""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from portfolio_stream.errors import EventFileUnusable
from portfolio_stream.load.events import Generated

STANDARD_INPUT = Path("-")
LINE_BYTES_LIMIT = 16 << 20  # far above a topic's limit; a file without line ends must not fill the memory
HEAD_BYTES = 8
UTF8_MARK = b"\xef\xbb\xbf"
#: (pattern of the first bytes, the kind of file, a command that turns it into lines of JSON or None); the first match
#: counts. JSON begins with ASCII characters (RFC 4627, 3), so the zero bytes show the encoding of text without a mark.
FOREIGN_HEADS = tuple(
    (re.compile(pattern, re.DOTALL), what, command)
    for pattern, what, command in (
        (rb"\xff\xfe\x00\x00|\x00\x00\xfe\xff", "UTF-32 text", "iconv -f UTF-32 -t UTF-8"),
        (rb"\xff\xfe|\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
        (rb"[\t\n\r -~]\x00\x00\x00", "UTF-32 text", "iconv -f UTF-32LE -t UTF-8"),
        (rb"\x00\x00\x00[\t\n\r -~]", "UTF-32 text", "iconv -f UTF-32BE -t UTF-8"),
        (rb"[\t\n\r -~]\x00", "UTF-16 text", "iconv -f UTF-16LE -t UTF-8"),
        (rb"\x00[\t\n\r -~]", "UTF-16 text", "iconv -f UTF-16BE -t UTF-8"),
        (rb"\x1f\x8b", "compressed with gzip", "gzip -dc"),
        (rb"\x28\xb5\x2f\xfd", "compressed with Zstandard", "zstd -dc"),
        (rb"\x04\x22\x4d\x18", "compressed with LZ4", "lz4 -dc"),
        (rb"\xfd7zX", "compressed with xz", "xz -dc"),
        (rb"BZh", "compressed with bzip2", "bzip2 -dc"),
        (rb"PK\x03\x04", "a ZIP archive", "unzip -p"),
        (rb"\[", "a JSON array", "jq -c '.[]'"),
        (rb"\{\r?\n", "JSON of several lines an event", "jq -c ."),
        (rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", "no text", None),
    )
)


@contextmanager
def open_events(path: Path) -> Iterator[BinaryIO]:
    """Open the file, or standard input for `-`, and skip its byte order mark. Raises EventFileUnusable."""
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise EventFileUnusable(path, "it is closed")
        yield _behind_mark(path, sys.stdin.buffer)
        return
    try:
        file = path.open("rb")
    except OSError as error:
        raise EventFileUnusable(path, str(error.strerror)) from error
    with file:
        yield _behind_mark(path, file)


def read_events(path: Path, file: BinaryIO, timestamp: int) -> Iterator[Generated]:
    """Yields one record per line, without empty lines. Raises EventFileUnusable.

    The record's key is the event's portfolio_id. A line whose portfolio_id cannot be read gives a record without a key.
    """
    number = 0
    while line := _read_line(path, file, number := number + 1):
        value = line.removesuffix(b"\n").removesuffix(b"\r")
        if value.strip():
            yield Generated(_portfolio_id(value), value, timestamp)


def _behind_mark(path: Path, file: BinaryIO) -> BinaryIO:
    try:
        head = file.peek(HEAD_BYTES)  # type: ignore[attr-defined]  # both are BufferedReaders
    except OSError as error:
        raise EventFileUnusable(path, str(error.strerror)) from error
    beginning = head.removeprefix(UTF8_MARK)
    for pattern, what, command in FOREIGN_HEADS:
        if pattern.match(beginning):
            raise EventFileUnusable(path, f"it is {what}", command and _piped(command, path))
    if beginning is not head:
        file.read(len(UTF8_MARK))
    return file


def _piped(command: str, path: Path) -> str:
    """Returns a shell command that sends the file through `command`. The path is quoted."""
    name = f"./{path}" if str(path).startswith("-") and path != STANDARD_INPUT else str(path)
    return f"{command} {shlex.quote(name)} | portfolio-stream produce --from-file -"


def _read_line(path: Path, file: BinaryIO, number: int) -> bytes:
    try:
        line = file.readline(LINE_BYTES_LIMIT + 1)
    except OSError as error:
        raise EventFileUnusable(path, f"line {number} cannot be read ({error.strerror})") from error
    if len(line) > LINE_BYTES_LIMIT:
        raise EventFileUnusable(path, f"line {number} is longer than {LINE_BYTES_LIMIT:,} bytes")
    return line


def _portfolio_id(value: bytes) -> bytes | None:
    try:
        members = json.loads(value)
        portfolio_id = members.get("portfolio_id") if isinstance(members, dict) else None
        return portfolio_id.encode() if isinstance(portfolio_id, str) else None
    except (ValueError, RecursionError):
        return None

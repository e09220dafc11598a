"""Events in a file, one JSON object a line, as people's tools write them.

1. An event's bytes are its line without the line end, LF or CRLF: an event that comes again in another system's file is
   a duplicate, and no conflict. Everything else is sent as it is, so that what is no event becomes a dead letter.
2. A byte order mark of UTF-8 belongs to the file, not to its first event.
3. What no line of JSON begins with is refused before anything is sent: other encodings, compressed files.
4. A line that no broker takes, and a read that fails, end the reading with an error that names the line.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from portfolio_stream.errors import EventFileUnusable
from portfolio_stream.generator import Generated

STANDARD_INPUT = Path("-")
LINE_BYTES_LIMIT = 16 << 20  # far above what a topic takes; a file without line ends must not fill the memory
HEAD_BYTES = 4
UTF8_MARK = b"\xef\xbb\xbf"
#: what a file begins with, what it is then, and what makes lines of JSON of it; the first that fits counts
FOREIGN_HEADS = (
    (b"\xff\xfe", "UTF-16 or UTF-32 text", "iconv -f UTF-16 -t UTF-8"),
    (b"\xfe\xff", "UTF-16 text", "iconv -f UTF-16 -t UTF-8"),
    (b"{\x00", "UTF-16 text", "iconv -f UTF-16LE -t UTF-8"),
    (b"\x00{", "UTF-16 text", "iconv -f UTF-16BE -t UTF-8"),
    (b"\x00\x00\xfe\xff", "UTF-32 text", "iconv -f UTF-32 -t UTF-8"),
    (b"\x1f\x8b", "compressed with gzip", "gzip -dc"),
    (b"\x28\xb5\x2f\xfd", "compressed with Zstandard", "zstd -dc"),
    (b"\xfd7zX", "compressed with xz", "xz -dc"),
    (b"BZh", "compressed with bzip2", "bzip2 -dc"),
    (b"PK\x03\x04", "a ZIP archive", "unzip -p"),
)


@contextmanager
def open_events(path: Path) -> Iterator[BinaryIO]:
    """The file behind its byte order mark; `-` is standard input. Raises EventFileUnusable."""
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
    """One record a line; empty lines are passed over. Raises EventFileUnusable.

    The key is the event's portfolio_id, or none where that cannot be read.
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
    for start, what, command in FOREIGN_HEADS:
        if head.startswith(start):
            raise EventFileUnusable(path, f"it is {what}", f"{command} {path} | portfolio-stream produce --from-file -")
    if head.startswith(UTF8_MARK):
        file.read(len(UTF8_MARK))
    return file


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

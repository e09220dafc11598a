"""The one way in which commands print: answers on standard output, everything else on standard error.

1. Text is printed line by line, and each line goes through `printable`: no caller can forget what a stranger wrote.
2. JSON is ASCII: a program reads the same in every encoding, and no terminal obeys it.
3. A line is written when its function returns, or the function raises as `standard_streams` says.
"""

import json
import re
import sys
from collections.abc import Iterable, Sequence

from portfolio_stream.foreign import printable

_NOT_ASCII = re.compile(r"[^\x20-\x7e]")


def print_line(line: str) -> None:
    print_lines((line,))


def print_lines(lines: Iterable[str]) -> None:
    sys.stdout.write("".join(printable(line) + "\n" for line in lines))
    sys.stdout.flush()


def print_json(value: object) -> None:
    print_line(compact_json(value))


def print_json_text(text: str) -> None:
    """JSON that is encoded already, without white space between its tokens but blanks."""
    print_line(_NOT_ASCII.sub(_json_escape, text))


def print_bytes(content: bytes) -> None:
    """As they are: for a program, never for a terminal."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


WIDEST = 60  # characters; a key of a megabyte would pad every other row to its width


def print_columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Columns as wide as their widest cell, but at most WIDEST: a longer cell moves the rest of its row. Numbers to the
    right, two spaces between."""
    table = [header, *rows]
    columns = [list(column) for column in zip(*table, strict=True)]
    sides = [">" if any(isinstance(cell, int) for cell in column) else "<" for column in columns]
    shown = [[printable(str(cell)) for cell in row] for row in table]
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*shown, strict=True)]
    for row in shown:
        print_line("  ".join(f"{c:{side}{width}}" for c, side, width in zip(row, sides, widths, strict=True)).rstrip())


def note(line: str) -> None:
    """Progress, on stderr: stdout is the command's answer alone."""
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]

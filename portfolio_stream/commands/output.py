"""All output of the commands. A command's result goes to standard output, everything else to standard error.

1. Each line of text goes through `printable`: a stranger's text can never send control characters to a terminal.
2. JSON is ASCII. It is the same in every encoding, and it has no control characters.
3. When a print function returns, its lines are written. If they cannot be written, the function raises the errors of
   `standard_streams`.
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
    """Print JSON text as one ASCII line. The only white space between the text's tokens must be blanks."""
    print_line(_NOT_ASCII.sub(_json_escape, text))


def print_bytes(content: bytes) -> None:
    """Write the bytes unchanged. Only for a pipe or a file: a terminal would obey control characters."""
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


WIDEST = 60  # characters; without a limit, one key of a megabyte would make every row a megabyte long


def print_columns(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table. Columns with numbers are aligned to the right.

    A column is as wide as its widest cell, but at most WIDEST. A longer cell moves the rest of its row to the right.
    """
    table = [header, *rows]
    columns = [list(column) for column in zip(*table, strict=True)]
    sides = [">" if any(isinstance(cell, int) for cell in column) else "<" for column in columns]
    shown = [[printable(str(cell)) for cell in row] for row in table]
    widths = [min(WIDEST, max(map(len, column))) for column in zip(*shown, strict=True)]
    for row in shown:
        print_line("  ".join(f"{c:{side}{width}}" for c, side, width in zip(row, sides, widths, strict=True)).rstrip())


def note(line: str) -> None:
    """Print progress or a remark to stderr; stdout has only the command's result."""
    sys.stderr.write(printable(line) + "\n")
    sys.stderr.flush()


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


def _json_escape(match: re.Match[str]) -> str:
    return json.dumps(match[0])[1:-1]

"""Compare what a command did with what is expected of it. Pure."""

import re

from tests.runbook.expected import Outcome, Row
from tests.runbook.shell import Done

SHOWN = 1_500  # characters of a command's output, in a message
ELLIPSIS = "..."


def differences(row: Row, done: Done) -> list[str]:
    """Returns a sentence for each way in which the command did something else; none if all is as expected."""
    found = []
    if done.code is None:
        found.append("did not end")
    elif done.code != row.code:
        found.append(f"exit code {done.code}, expected {row.code}")
    if not re.search(row.shows, done.text, re.MULTILINE | re.DOTALL):
        found.append(f"shows nothing that matches {row.shows!r}")
    if row.reason not in done.err:
        found.append(f"does not say {row.reason!r} on standard error")
    if row.outcome is Outcome.REFUSED and "Operator action: " not in done.err:
        found.append("does not say what to type instead")
    return found


def unlike(printed: str, found: str) -> str | None:
    """Returns the first line of a page's text that the output does not have, or None if the output is like the text.

    `...` stands for any text, also of several lines, and a line of its own for any number of lines, also none. The
    number of spaces does not matter.
    """
    lines = [line for line in map(_spaced, printed.splitlines()) if line]
    text = "".join(f"{line}\n" for line in map(_spaced, found.splitlines()) if line)
    for count in range(1, len(lines) + 1):
        end = r"\Z" if count == len(lines) else ""
        if not re.match("".join(map(_pattern, lines[:count])) + end, text, re.DOTALL):
            return lines[count - 1]
    return None if lines or not text else text.splitlines()[0]


def _pattern(line: str) -> str:
    if line == ELLIPSIS:
        return r"(?:[^\n]*\n)*?"
    return re.escape(line).replace(re.escape(ELLIPSIS), ".*?") + "\n"


def shown(done: Done) -> str:
    return f"$ {done.command}\n{done.text[-SHOWN:]}\n[exit {done.code}, {done.seconds:.1f} s]"


def _spaced(line: str) -> str:
    return " ".join(line.split())

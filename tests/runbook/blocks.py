"""Read the command blocks of a runbook in Markdown.

A block is a fence of bash. Blocks are numbered from 1, in the order of the page. A block's title is the nearest heading
above it, with the bold line in between, if there is one: `P0: Kafka Cluster Down: Resolution`.

A command is what bash would run as one: a line with the lines that continue it. A line continues after a backslash,
after `&&`, `||` or `|`, in a loop, in quotes, and to the end of a here-document. Comments are no commands,
but what follows `# Or:` is one: an operator types it.

The text fence directly after a block, if there is one, is what the block prints.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FENCE = "```"
LANGUAGE = "bash"
PRINTED = "text"
HEADING = re.compile(r"#+ (.+)")
BOLD = re.compile(r"\*\*(.+?):?\*\*:?$")
HERE_DOCUMENT = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
CONTINUES = re.compile(r"(\\|&&|\|\||\|)$")
QUOTED = re.compile(r"'[^']*'|\"(?:\\.|[^\"\\])*\"")
OR = re.compile(r"# Or: ")
LOOPS = {"for": 1, "while": 1, "until": 1, "done": -1, "if": 1, "fi": -1}


class Block(NamedTuple):
    number: int
    title: str
    #: the line of the page at which the block's first line stands
    line: int
    text: str
    commands: tuple[str, ...]
    #: what the page says that the block prints; None: the page does not say
    printed: str | None


def read(page: Path) -> tuple[Block, ...]:
    """Returns the bash blocks of a page."""
    return tuple(_blocks(page.read_text(encoding="utf-8").splitlines()))


def commands_of(text: str) -> tuple[str, ...]:
    """Returns the commands of a block, in order."""
    return tuple(_commands(text.splitlines()))


def _blocks(lines: list[str]) -> Iterator[Block]:
    heading = bold = ""
    at = number = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(FENCE):
            end = lines.index(FENCE, at + 1)
            if line == FENCE + LANGUAGE:
                number += 1
                text = "\n".join(lines[at + 1 : end])
                title = f"{heading}: {bold}" if bold else heading
                yield Block(number, title, at + 2, text, commands_of(text), _printed(lines, end + 1))
            at = end
        elif found := HEADING.match(line):
            heading, bold = found[1], ""
        elif found := BOLD.match(line):
            bold = found[1]
        at += 1


def _printed(lines: list[str], at: int) -> str | None:
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at == len(lines) or lines[at] != FENCE + PRINTED:
        return None
    return "\n".join(lines[at + 1 : lines.index(FENCE, at + 1)])


def _commands(lines: list[str]) -> Iterator[str]:
    parts: list[str] = []
    until: str | None = None  # the word that ends the here-document in which we are
    for line in lines:
        line = OR.sub("", line) if OR.match(line) else line
        if until is not None:
            parts.append(line)
            until = None if line == until else until
        elif parts or (line.strip() and not line.lstrip().startswith("#")):
            parts.append(line)
            found = HERE_DOCUMENT.search(line)
            until = found[2] if found else None
        if parts and until is None and _is_whole("\n".join(parts)):
            yield "\n".join(parts)
            parts = []
    if parts:
        raise ValueError(f"the block ends in the middle of a command: {parts[0]}")


def _is_whole(command: str) -> bool:
    if HERE_DOCUMENT.search(command):  # its text may have any quotes
        return True
    bare = QUOTED.sub("Q", re.sub(r"\s#.*$", "", command, flags=re.MULTILINE))
    depth = sum(LOOPS.get(word, 0) for word in re.split(r"[\s;]+", bare))
    return depth == 0 and not CONTINUES.search(bare) and not re.search(r"['\"]", bare)

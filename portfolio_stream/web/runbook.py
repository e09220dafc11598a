"""GET /runbook/SECTION: a section of docs/runbook.md as plain text, for the links of alerts.

The runbook lies beside the package in a checkout. An installed package has no docs: the answer then says so.
"""

import re
from http import HTTPStatus
from pathlib import Path

from aiohttp import web

from portfolio_stream.http.problem import Problem

PATH = "/runbook/{section:[a-z0-9-]{1,100}}"
FILE = Path(__file__).parents[2] / "docs" / "runbook.md"
NO_DOCS = "This worker runs without the project's docs: read docs/runbook.md of the source."
_HEADING = re.compile(r"(#{1,6}) (.+)")
_FENCE = "```"


def section_of(text: str, section: str) -> str | None:
    """Returns the section of a Markdown text whose heading has this anchor, with its subsections; None without one."""
    found: list[str] = []
    depth, is_code = 0, False
    for line in text.splitlines():
        is_code ^= line.startswith(_FENCE)  # a comment of a shell looks like a heading
        heading = None if is_code else _HEADING.fullmatch(line)
        if heading is not None and found and len(heading[1]) <= depth:
            break
        if heading is not None and not found and anchor_of(heading[2]) == section:
            depth = len(heading[1])
            found.append(line)
        elif found:
            found.append(line)
    return "\n".join(found).rstrip() + "\n" if found else None


def anchor_of(heading: str) -> str:
    """Returns the anchor that GitHub gives the heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


async def show(request: web.Request) -> web.Response:
    try:
        text = FILE.read_text(encoding="utf-8")
    except OSError:
        return Problem(HTTPStatus.NOT_FOUND, NO_DOCS).response()
    found = section_of(text, request.match_info["section"])
    if found is None:
        return Problem(HTTPStatus.NOT_FOUND, "The runbook has no such section.").response()
    return web.Response(text=found, content_type="text/plain", charset="utf-8")

"""README.md and docs/*.md: what they name is there."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
MODULE = re.compile(r"`((?:\w+/)*\w+\.py)`")
#: a path stands below one of these; the glossary leaves the engine's folder out, and the proof the simulation's
FOLDERS = [ROOT / folder for folder in (".", "portfolio_stream", "portfolio_stream/exactly_once", "tests/simulation")]


def prose(page: Path) -> str:
    return FENCED.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(prose(page))}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    """To a file of the project, and to a heading of it where one is named."""
    broken = []
    for link in LINK.findall(prose(page)):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if "://" not in link and (not target.exists() or (anchor and anchor not in anchors(target))):
            broken.append(link)
    assert [] == broken


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_module_that_is_named_exists(page: Path) -> None:
    """A module that moves takes its name in the documents with it."""
    named = set(MODULE.findall(prose(page))) - {"sensor_averages.py"}  # the reader writes that one
    assert [] == sorted(name for name in named if not any((folder / name).exists() for folder in FOLDERS))


def test_every_page_is_reached_from_the_readme() -> None:
    """By its links, or by theirs."""
    reached, left = set(), [ROOT / "README.md"]
    while left:
        page = left.pop().resolve()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = (link.partition("#")[0] for link in LINK.findall(prose(page)) if "://" not in link)
            left += [page.parent / link for link in links if link]
    assert [] == sorted(page.name for page in set(PAGES) - reached)

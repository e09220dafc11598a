"""Write docs/performance.md and its plots from results.

    python -m benchmarks report [build/benchmarks/*.json] [--page docs/performance.md]

Results come in the order of ORDER, all others after them by name. The page has no figure of its own: run the benchmarks
again, and it is new.
"""

import argparse
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import plots, results, table
from benchmarks.results import FOLDER, Result, ratio

PAGE = Path("docs/performance.md")
IMAGES = "images"
ORDER = (
    "throughput", "latency", "peers", "accounting", "watching", "scrape", "aged", "restart", "failover", "backlog",
    "scale",
)  # fmt: skip
HEAD = """\
# Performance

`python -m benchmarks report` makes this page from the results of benchmarks. Each section names the command of its
benchmark. One machine runs everything: the measured workers, the Kafka broker, the load (which sends events) and the
reader (which reads outputs).

## How to read it

The speed of a machine drifts, and other machines are faster or slower. So the variants of a benchmark take turns within
one command, and each table has the ratios of neighbouring runs first. A ratio of 0.50 in the column `now / before` for
`CPU us/event` means that an event now costs half of the CPU time that it cost before. In a round each variant runs
once. A figure is the median of the rounds; the least and the most stand in brackets, or are the ends of the thin line
on a bar. Quote ratios: absolute figures hold for the named machine only.

- `events/s`: events whose outputs a read_committed reader can see, per second.
- `CPU us/event`: user and system time of the worker's process for each of these events, in microseconds. `broker`,
  `load` and `reader` before the name mean those processes.
- `p50 ms`, `p99 ms`: half, or 99 %, of the events had their committed output within so many milliseconds.
- `RSS MiB`: resident memory of the worker's process.
- `events/transaction`: events for each Kafka transaction of the worker.
- `% of one core`: how much CPU time each kind of process used. `bench` is the benchmark's own process. `others` are
  programs that do not belong to the benchmark, and the kernel's own work.
- A line that begins with **MARKED** names a run during which other programs used the machine: do not quote its figures.
- A line that begins with **WRONG** names a fault of the measured system, for example a missing output, or a worker that
  fell behind the rate.
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("results", nargs="*", type=Path, help=f"default: all of {FOLDER}")
    parser.add_argument("--page", type=Path, default=PAGE)


def main(given: argparse.Namespace) -> int:
    paths: Sequence[Path] = given.results or sorted(FOLDER.glob("*.json"))
    if not paths:
        raise SystemExit(f"{FOLDER} has no result; run a benchmark first")
    write(map(results.read, paths), given.page)
    print(f"Wrote {given.page}.")
    return 0


def write(found: Iterable[Result], page: Path) -> None:
    images = page.parent / IMAGES
    images.mkdir(parents=True, exist_ok=True)
    for old in images.glob("performance-*.svg"):
        old.unlink()
    ordered = sorted(found, key=_place)
    sections = [section(result, _draw(result, images)) for result in ordered]
    page.write_text("\n".join((HEAD, summary(ordered), *sections)), encoding="utf-8")


def summary(found: Sequence[Result]) -> str:
    """Returns a table with the ratios of the figures that a result plots as bars."""
    rows: list[table.Row] = [["benchmark", "of", "ratio"]]
    for result in found:
        figures = dict.fromkeys(name for plot in result.plots if plot.kind == "bars" for name in plot.figures)
        for other in result.compared():
            ratios = [(name, ratio(result, other, name)) for name in figures]
            shown = [f"{name} {table.ratio_text(one.median)}" for name, one in ratios if one is not None]
            if shown:
                link = f"[{result.title}](#{_anchor(result.title)})"
                rows.append([link, f"{result.variants[0].name} / {other}", ", ".join(shown)])
    return f"## In short\n\n{table.markdown(rows)}\n"


def _anchor(title: str) -> str:
    """Returns the anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _place(result: Result) -> tuple[int, list[str | int]]:
    group = next((place for place, name in enumerate(ORDER) if result.name.startswith(name)), len(ORDER))
    return group, [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", result.name)]


def _draw(result: Result, folder: Path) -> list[tuple[str, str]]:
    """Write the plots into the folder. Returns title and file name of each."""
    drawn = []
    for number, plot in enumerate(result.plots, 1):
        svg = plots.render(result, plot)
        if svg is not None:
            name = f"performance-{result.name}-{number}.svg"
            (folder / name).write_text(svg, encoding="utf-8")
            drawn.append((plot.title, name))
    return drawn


def section(result: Result, images: Sequence[tuple[str, str]]) -> str:
    parts = [
        f"## {result.title}",
        result.text,
        f"    {result.command}",
        *map(table.markdown, table.figure_tables(result)),
    ]
    parts += [f"![{title}]({IMAGES}/{name})" for title, name in images]
    if rows := table.share_rows(result):
        parts.append(table.markdown(rows))
    parts.append(". ".join([*table.builds(result), table.machine_line(result)]) + ".")
    notes = [f"- **WRONG**: {_line(finding)}" for finding in result.findings()]
    notes += [f"- **MARKED**: {mark}" for mark in result.marks()]
    if notes:
        parts.append("\n".join(notes))
    return "\n\n".join(parts) + "\n"


def _line(text: str) -> str:
    return text.partition("\n")[0]

"""The table of a result for a terminal and for the report: ratios first, then absolute figures."""

from collections.abc import Sequence

from benchmarks.results import Result, Run, Spread, ratio, spread
from benchmarks.rounds import figure

Row = Sequence[str]


def table(result: Result) -> str:
    """Returns the table as text for a terminal, with the machine's state and all marks."""
    lines = ["", result.title, *aligned(figure_rows(result))]
    lines += footer(result)
    return "\n".join(lines)


def markdown(result: Result) -> str:
    return as_markdown(figure_rows(result))


def as_markdown(rows: Sequence[Row]) -> str:
    """Returns rows as a table in Markdown; the first row is the heading."""
    head, *others = ("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *others])


def aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def figure_rows(result: Result) -> list[Row]:
    """Returns the heading and a row for each figure: its name, the ratios, and each variant's figure."""
    subject, *others = (variant.name for variant in result.variants)
    rounds = max((run.round for run in result.runs), default=1)
    of = f"median of {rounds} (least..most)" if rounds > 1 else "one round"
    head = [of, *(f"{subject} / {other}" for other in others), subject, *others]
    rows: list[Row] = [head]
    for name in result.figure_names():
        ratios = [_spread(ratio(result, other, name), places=2) for other in others]
        rows.append([name, *ratios, *(_spread(spread(result, variant, name)) for variant in (subject, *others))])
    return rows


def _spread(found: Spread | None, places: int | None = None) -> str:
    if found is None:
        return "-"
    shown = [figure(value) if places is None else f"{value:.{places}f}" for value in found]
    return shown[0] if shown[1] == shown[2] else f"{shown[0]} ({shown[1]}..{shown[2]})"


def share_rows(result: Result) -> list[Row]:
    """Returns the heading and a row for each kind of process: its share of one core in per cent, by variant."""
    kinds = list(dict.fromkeys(name for run in result.runs for name in run.shares))
    variants = [variant.name for variant in result.variants]
    rows: list[Row] = [["% of one core", *variants]]
    for kind in kinds:
        shares = [[100 * run.shares[kind] for run in result.runs_of(name) if kind in run.shares] for name in variants]
        rows.append([kind, *(_spread(Spread.of(found)) if found else "-" for found in shares)])
    return rows if kinds else []


def footer(result: Result) -> list[str]:
    lines = []
    if rows := share_rows(result):
        lines += ["", *aligned(rows)]
    lines += ["", *(f"{variant.name}: commit {variant.revision}" for variant in result.variants if variant.revision)]
    lines.append(machine_line(result))
    lines += [f"WRONG: {finding}" for finding in result.findings()]
    lines += [f"MARKED, do not quote: {mark}" for mark in result.marks()]
    return lines


def machine_line(result: Result) -> str:
    machine = result.machine
    return (
        f"{result.date} UTC, {machine.cores} cores ({machine.processor}), {machine.memory_gib:.0f} GiB, "
        f"Python {machine.python}; idle before each run: {_idle(result.runs)}"
    )


def _idle(runs: Sequence[Run]) -> str:
    shares = [100 * run.idle_before for run in runs if run.idle_before is not None]
    return f"{min(shares):.0f} to {max(shares):.0f} %" if shares else "not measured"

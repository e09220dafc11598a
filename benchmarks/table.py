"""The table of a result for a terminal and for the report: ratios first, then absolute figures."""

from collections.abc import Callable, Sequence

from benchmarks.results import Result, Run, Spread, ratio, spread
from benchmarks.rounds import figure

Row = Sequence[str]
MOST_COLUMNS = 3  # variants; with more of them a table with a column for each ratio is too wide


def table(result: Result) -> str:
    """Returns the tables as text for a terminal, with the machine's state and all marks."""
    lines = ["", result.title]
    for rows in (*figure_tables(result), share_rows(result)):
        lines += [*aligned(rows), ""] if rows else []
    lines += builds(result)
    lines.append(machine_line(result))
    lines += [f"WRONG: {finding}" for finding in result.findings()]
    lines += [f"MARKED, do not quote: {mark}" for mark in result.marks()]
    return "\n".join(lines)


def markdown(rows: Sequence[Row]) -> str:
    """Returns rows as a table in Markdown; the first row is the heading."""
    head, *others = ("| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in rows)
    return "\n".join([head, "|" + " --- |" * len(rows[0]), *others])


def aligned(rows: Sequence[Row]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def figure_tables(result: Result) -> list[list[Row]]:
    """Returns one table with a row for each figure, or for many variants two with a row for each variant."""
    return [_by_figure(result)] if len(result.variants) <= MOST_COLUMNS else _by_variant(result)


def _by_figure(result: Result) -> list[Row]:
    names, compared = [variant.name for variant in result.variants], result.compared()
    rows: list[Row] = [[_rounds(result), *(f"{names[0]} / {other}" for other in compared), *names]]
    for name in result.figure_names():
        ratios = [_shown(ratio(result, other, name), ratio_text) for other in compared]
        rows.append([name, *ratios, *(_shown(spread(result, variant, name)) for variant in names)])
    return rows


def _by_variant(result: Result) -> list[list[Row]]:
    """Returns the table of ratios, if there are any, and the table of absolute figures."""
    names = result.figure_names()
    ratios: list[Row] = [[f"{result.variants[0].name} / ...", *names]]
    ratios += [
        [other, *(_shown(ratio(result, other, name), ratio_text) for name in names)] for other in result.compared()
    ]
    figures: list[Row] = [[_rounds(result), *names]]
    figures += [[one.name, *(_shown(spread(result, one.name, name)) for name in names)] for one in result.variants]
    return [ratios, figures] if len(ratios) > 1 else [figures]


def _rounds(result: Result) -> str:
    rounds = max((run.round for run in result.runs), default=1)
    return f"median of {rounds} (least..most)" if rounds > 1 else "one round"


def _shown(found: Spread | None, text: Callable[[float], str] = figure) -> str:
    if found is None:
        return "-"
    median, lowest, highest = map(text, found)
    return median if lowest == highest else f"{median} ({lowest}..{highest})"


def ratio_text(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def share_rows(result: Result) -> list[Row]:
    """Returns the heading and a row for each variant: what each kind of process used of one core, in per cent."""
    kinds = list(dict.fromkeys(name for run in result.runs for name in run.shares))
    rows: list[Row] = [["% of one core", *kinds]]
    for name in (variant.name for variant in result.variants):
        shares = [[100 * run.shares[kind] for run in result.runs_of(name) if kind in run.shares] for kind in kinds]
        rows.append([name, *(_shown(Spread.of(found)) if found else "-" for found in shares)])
    return rows if kinds else []


def builds(result: Result) -> list[str]:
    """Returns a line for each variant: its version, or its commit and whether its fold was compiled."""
    lines = []
    for variant in result.variants:
        told = {run.is_compiled for run in result.runs_of(variant.name)}
        how = ", compiled" if True in told else ", interpreted" if False in told else ""
        if variant.version:
            lines.append(f"{variant.name}: version {variant.version}")
        if variant.revision:
            lines.append(f"{variant.name}: commit {variant.revision}{how}")
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

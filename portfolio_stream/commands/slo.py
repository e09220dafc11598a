"""portfolio-stream slo: the objectives of docs/runbook.md, their error budgets, exactly-once, and the capacity."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from portfolio_stream.commands.common import OutputFormat, output_option, read_settings, run
from portfolio_stream.commands.output import print_columns, print_json_text, print_lines
from portfolio_stream.commands.watcher_client import ask_watcher

if TYPE_CHECKING:
    from portfolio_stream.watch.shown import BurnSeverity, ShownObjective
    from portfolio_stream.watch.slo_report import CapacityFigures, ExactlyOnce, SloReport, SloState

COLUMNS = ("OBJECTIVE", "TARGET", "FIGURE", "BUDGET-LEFT", "BURN-RATE", "BAD", "OF", "UNIT")
EXIT_CODES: "dict[SloState, int]" = {"kept": 0, "broken": 1, "unknown": 2}
WHEN: "dict[BurnSeverity, str]" = {"page": "act now", "ticket": "act on the next working day"}


@click.command()
@output_option
@click.pass_context
def slo(context: click.Context, output: OutputFormat) -> None:
    """Show each objective with its figure, and what is left of its error budget.

    BUDGET-LEFT is a share of the budget of the time that the watcher knows, at most 30 days; below zero the budget is
    overspent. BURN-RATE says how many times faster than allowed the budget burned in the last hour.

    Exit code 0: all budgets are kept, and exactly-once holds. 1: a budget is overspent, or exactly-once is violated.
    2: something is unknown: no watcher answers (start one with `portfolio-stream watch`), something was not counted
    yet, or the auditor has no newer verdict.
    """
    import msgspec

    from portfolio_stream.watch.slo_report import slo_report

    report = slo_report(run(ask_watcher(read_settings())))
    if output == "json":
        print_json_text(msgspec.json.encode(report).decode())
    else:
        print_columns(COLUMNS, map(_row, report.objectives))
        print_lines(_lines(report))
    context.exit(EXIT_CODES[report.state])


def _row(one: "ShownObjective") -> tuple[str, ...]:
    return (
        one.name,
        f"{one.objective:g} %",
        _floored(one.figure, 3),
        _floored(None if one.budget_left is None else 100 * one.budget_left, 1),
        "-" if one.burn_rate is None else f"{one.burn_rate:.1f}",
        f"{one.bad:,.0f}",
        f"{one.total:,.0f}",
        one.unit,
    )


def _floored(percent: float | None, digits: int) -> str:
    """Rounded down: a figure that is not 100 % never looks as if it were, and -0.01 % does not look like 0."""
    if percent is None:
        return "-"
    scale = 10**digits
    return f"{math.floor(round(percent * scale, 3)) / scale:.{digits}f} %"


def _lines(report: "SloReport") -> Iterator[str]:
    from portfolio_stream.watch.thresholds import WINDOW_DAYS
    from portfolio_stream.watch.words import duration

    for one in report.objectives:
        if one.too_fast is not None:
            yield (
                f"The budget of {one.name} burned at {one.too_fast.burn_rate:.1f} times the allowed rate in the last "
                f"{duration(min(one.too_fast.seconds, report.at - report.since))}: {WHEN[one.too_fast.severity]}."
            )
    yield _exactly_once(report.exactly_once)
    yield _capacity(report.capacity)
    known, looked = duration(report.at - report.since), duration(report.seconds)
    yield f"Known: the last {known}; the watcher looked for {looked} of it. A budget is of {WINDOW_DAYS} days at most."


def _exactly_once(told: "ExactlyOnce") -> str:
    from portfolio_stream.watch.words import counted, duration

    age = "not decided" if told.age_seconds is None else f"decided {duration(told.age_seconds)} ago"
    found = "anomalies unknown" if told.anomalies is None else counted(told.anomalies, "anomaly", "anomalies")
    return f"Exactly-once: {told.verdict}, {age}, {found}. No budget."


def _capacity(told: "CapacityFigures") -> str:
    from portfolio_stream.watch.words import number

    now = "unknown" if told.processed is None else f"{number(told.processed)} events/s"
    could = "unknown" if told.possible is None else f"{number(told.possible)} events/s"
    return f"Capacity: {could} with these workers (target: {number(told.target)} events/s). Processed now: {now}."

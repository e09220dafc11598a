"""Events a second and CPU microseconds an event of one worker on a backlog.

The worker does everything that the contract asks for: all tables, outputs, dead letters, deduplication, transactions.
With `--aged` there are few portfolios, by default of 25,000 events each, so that each one's deduplication window moves.
"""

import argparse
from functools import partial

from benchmarks import measure, variants
from benchmarks.contract import contract
from benchmarks.results import Plot, Result, now, this_machine
from benchmarks.rounds import run

PORTFOLIOS, AGED_PORTFOLIOS = 10_000, 20
TEXT = """\
One worker processes a backlog of {events:,} events of {portfolios:,} portfolios with everything that the contract
asks for. The broker runs on the same machine. The time runs from the first committed outputs to the last ones. CPU
us/event is the worker's CPU time divided by the number of these events. If all cores are busy, CPU us/event says more
than events/s: it does not depend on how much CPU the broker uses at the same moment."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--aged", action="store_true", help=f"only {AGED_PORTFOLIOS} portfolios")
    variants.add_options(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    portfolios = AGED_PORTFOLIOS if given.aged else PORTFOLIOS
    cases = variants.cases(given, partial(measure.backlog, subject=contract(portfolios), events=given.events))
    title = f"Throughput of the full contract{', aged portfolios' if given.aged else ''}"
    return Result(
        name="throughput-aged" if given.aged else "throughput",
        title=title,
        text=TEXT.format(events=given.events, portfolios=portfolios),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=tuple(run(cases, given.rounds, strict=given.strict)),
        plots=(
            Plot(kind="bars", title=f"{title}: CPU time", figures=("CPU us/event",), unit="CPU microseconds an event"),
            Plot(kind="bars", title=title, figures=("events/s",), unit="events a second"),
        ),
    )

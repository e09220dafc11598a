"""The latency at a steady rate, as a read_committed reader of processed-events sees it, and whose CPU is whose.

An event's latency runs from its record's timestamp, which is set when the load sends the record, until the reader has
its output. Every event counts, except those of the first seconds.
"""

import argparse
from functools import partial

from benchmarks import measure, variants
from benchmarks.contract import contract
from benchmarks.results import Plot, Result, now, this_machine
from benchmarks.rounds import run

TEXT = """\
Events of {portfolios:,} portfolios come at {rate:,} a second for {seconds} seconds; {workers} processes them with
everything that the contract asks for. An event's latency runs from the timestamp of its record, which is set when the
record is sent, until a read_committed reader has its committed output. Every event after the first {warm:.0f} seconds
counts. If events/s is lower than the rate, the worker fell behind. Broker, load, reader and worker share the machine;
the shares say how much of one core each of them used. If they add up to all cores, the latency is mostly waiting for
a core."""
PORTFOLIOS = 10_000


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--workers", type=int, default=1)
    variants.add_options(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    steady = partial(
        measure.steady, subject=contract(PORTFOLIOS), rate=given.rate, seconds=given.seconds, workers=given.workers
    )
    cases = variants.cases(given, steady)
    workers = "one worker" if given.workers == 1 else f"{given.workers} workers"
    return Result(
        name=f"latency-{given.rate}" + (f"-{given.workers}-workers" if given.workers > 1 else ""),
        title=f"Latency of the full contract at {given.rate:,} events/s, {workers}",
        text=TEXT.format(
            portfolios=PORTFOLIOS,
            rate=given.rate,
            seconds=given.seconds,
            workers=workers,
            warm=measure.WARM_SECONDS,
        ),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=tuple(run(cases, given.rounds, strict=given.strict)),
        plots=latency_plots(f"{given.rate:,} events/s"),
    )


def latency_plots(what: str) -> tuple[Plot, ...]:
    return (
        Plot(kind="bars", title=f"Latency at {what}", figures=("p50 ms", "p99 ms"), unit="milliseconds"),
        Plot(
            kind="series",
            title=f"99th percentile of each second at {what}",
            figures=("p99 ms",),
            unit="milliseconds, logarithmic",
            over="seconds",
            is_logarithmic=True,
        ),
        Plot(kind="stack", title=f"Who uses the cores at {what}", figures=(), unit="cores"),
    )

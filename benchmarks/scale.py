"""1, 2 and 4 workers on one machine on a backlog: events a second, CPU an event, and who used the CPU.

All workers share this machine with the broker, so with as many workers as cores the events a second say how the cores
are shared, not how the system scales. What scales is the CPU: if the CPU an event of workers and broker stays the same
with more workers, more machines give more events in proportion. The shares say who used the cores meanwhile.

The workers start on empty topics and share out the partitions. Then the backlog is sent, much faster than workers
process. The measurement begins when the whole backlog is in Kafka. In the end `verify` must hold.
"""

import argparse
import time
from functools import partial

from benchmarks.drill import (
    SETTINGS,
    add_build,
    await_shared,
    build_for,
    pairs,
    result_name,
    revision_of,
    send_events,
    verify,
    work_off,
)
from benchmarks.measure import Measured
from benchmarks.results import Plot, Result, Variant, now, this_machine
from benchmarks.rounds import Case, run
from benchmarks.system import System
from benchmarks.variants import add_common
from portfolio_stream.load.events import Mixture, generate

PORTFOLIOS = 10_000
TEXT = """\
Workers share a machine of {cores} cores with the broker, and process a backlog of {events:,} events. With as many
workers as cores, events/s says how these cores are shared, and not how the system scales. The CPU says how it scales:
if an event costs workers and broker as much CPU with four workers as with one, then more machines process more
events in proportion. The shares say who used the cores meanwhile. The measurement begins when the workers have
shared out the partitions and the whole backlog is in Kafka."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--events", type=int, default=500_000)
    add_build(parser)
    add_common(parser, rounds=3)


def result(given: argparse.Namespace, command: str) -> Result:
    build, revision = build_for(given), revision_of(given)
    cases = [
        Case(
            Variant(name=workers_of(count), revision=revision, environment=dict(build.environment), size=count),
            partial(measure, count=count, events=given.events),
            build,
        )
        for count in given.workers
    ]
    machine = this_machine()
    return Result(
        name=result_name("scale-out", given),
        title="More workers on one machine",
        text=TEXT.format(cores=machine.cores, events=given.events),
        command=command,
        date=now(),
        machine=machine,
        variants=tuple(case.variant for case in cases),
        runs=tuple(run(cases, given.rounds, strict=given.strict)),
        plots=(
            Plot(
                kind="curve",
                title="CPU an event by the number of workers",
                figures=("CPU us/event", "broker CPU us/event"),
                unit="CPU microseconds an event",
                over="workers",
            ),
            Plot(
                kind="curve",
                title="Events a second by the number of workers on one machine",
                figures=("events/s",),
                unit="events a second",
                over="workers",
            ),
        ),
    )


def measure(made: System, count: int, events: int) -> Measured:
    mixture = Mixture(seed=1, start_time=int(time.time() * 1000), portfolios=PORTFOLIOS, partitions=SETTINGS.partitions)
    records = list(pairs(generate(mixture, events)))  # made before: the sending must be fast
    workers = [made.start_worker(f"w{number + 1}") for number in range(count)]
    await_shared(workers)
    send_events(made, records)
    done = work_off(made, workers, events)
    broker = 1e6 * done.used.shares["broker"] * done.seconds / done.events
    return Measured(
        done.figures() | {"broker CPU us/event": broker},
        done.used.shares,
        findings=list(verify(made)),
        foreign=done.used.foreign,
    )


def workers_of(count: int) -> str:
    return f"{count} worker{'s' if count > 1 else ''}"

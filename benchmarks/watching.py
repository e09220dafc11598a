"""What watching costs a worker: its CPU time for an event at a steady rate, watched and alone.

One worker runs all the time, and windows with and without observers take turns. benchmarks/observers.py says who
watches. The observers' own CPU time does not count: they may run anywhere.
"""

import argparse
import os
import statistics
import time
from collections.abc import Iterator
from contextlib import nullcontext

from msgspec.structs import replace

from benchmarks import machine, variants
from benchmarks.builds import working_tree
from benchmarks.drill import await_running, committed, even_load, told
from benchmarks.observers import SCRAPE, observed
from benchmarks.results import Plot, Result, Run, Variant, now, ratio, this_machine
from benchmarks.rounds import NotQuiet, figure
from benchmarks.system import MeasuredWorker, system

PORTFOLIOS = 10_000
WATCHED, ALONE = "watched", "alone"
COST = "CPU us/event"
MOST_COST = 1.03
WARM_SECONDS = 15.0  # a fresh broker still compiles itself, and the views fill up
TURN_SECONDS = 1.5  # the page's stream opens or closes connections to Kafka
START_SECONDS = 20.0  # of the worker
LEAST_RATE = 0.97  # of the wanted rate; a worker that falls behind is measured on a backlog
TEXT = """\
One worker runs at {rate:,} events a second, with everything that the contract asks for. In every second window of
{seconds} s it is watched: Prometheus scrapes `/metrics` each second, a page is open (`/live`), and somebody asks for
`/worker/figures` every 2 s, as `portfolio-stream watch` does. The cost of watching is the ratio of CPU us/event; it
must not be above {bound:.2f}."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5.0, help="of a window")
    variants.add_common(parser, rounds=30)


def result(given: argparse.Namespace, command: str) -> Result:
    found = Result(
        name=f"watching-{given.rate}",
        title=f"The cost of watching at {given.rate:,} events/s",
        text=TEXT.format(rate=given.rate, seconds=figure(given.seconds), bound=MOST_COST),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=(
            Variant(name=WATCHED, revision=working_tree()),
            Variant(name=ALONE, revision=working_tree(), is_same_work=True),
        ),
        runs=tuple(_runs(given)),
        plots=(
            Plot(kind="bars", title="CPU time of a worker, watched and alone", figures=(COST,), unit="CPU us an event"),
        ),
    )
    return judged(found)


def judged(found: Result) -> Result:
    """Add a finding if watching costs more than MOST_COST."""
    cost = ratio(found, ALONE, COST)
    if cost is None or cost.median <= MOST_COST:
        return found
    *before, last = found.runs
    finding = f"watching costs {cost.median - 1:.1%} of {COST}; the bound is {MOST_COST - 1:.1%}"
    return replace(found, runs=(*before, replace(last, findings=(*last.findings, finding))))


def _runs(given: argparse.Namespace) -> Iterator[Run]:
    idle = machine.idle_share()
    seconds = START_SECONDS + WARM_SECONDS + 2 * given.rounds * (given.seconds + 2 * TURN_SECONDS)
    with system() as made, even_load(made, given.rate, seconds, PORTFOLIOS) as load:
        worker = made.start_worker()
        await_running(worker)
        time.sleep(WARM_SECONDS)
        groups = {
            "worker": [worker.process.pid],
            "broker": made.broker_pids(),
            "load": [load.pid],
            "bench": [os.getpid()],
        }
        for number in range(1, given.rounds + 1):
            for name in (WATCHED, ALONE) if number % 2 else (ALONE, WATCHED):
                run = told(_run(worker, groups, name, number, idle, given))
                if load.poll() is not None:
                    raise SystemExit("the load ended before the last window")
                if given.strict and run.marks:
                    raise NotQuiet(f"refused: {'; '.join(run.marks)}")
                yield run


def _run(
    worker: MeasuredWorker, groups: machine.Groups, name: str, number: int, idle: float, given: argparse.Namespace
) -> Run:
    """Measure one window."""
    with observed(_port(worker)) if name == WATCHED else nullcontext() as observers:
        time.sleep(TURN_SECONDS)
        events, first = committed([worker]), machine.read(groups)
        time.sleep(given.seconds)
        events, last = committed([worker]) - events, machine.read(groups)
    used = machine.between(first, last, groups)
    rate = events / used.seconds
    figures = {COST: 1e6 * used.shares["worker"] / rate, "events/s": rate}
    if observers is not None:
        figures["scrape ms"] = 1e3 * statistics.median(observers.answers[SCRAPE])
    lacks = rate < LEAST_RATE * given.rate
    return Run(
        variant=name,
        round=number,
        figures=figures,
        shares=dict(used.shares),
        idle_before=idle,
        findings=(f"the worker processed only {rate:,.0f} events/s",) if lacks else (),
        marks=tuple(machine.marks(idle, used.foreign)),
    )


def _port(worker: MeasuredWorker) -> int:
    assert worker.port is not None
    return worker.port

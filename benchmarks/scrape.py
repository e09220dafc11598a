"""What a scrape of a worker's /metrics costs the worker: CPU microseconds, milliseconds and bytes.

The worker has processed some events, so that every metric of its work is there, and rests. What it uses at rest is
taken off. With `--before REVISION` an older worker is measured in turns with this one.
"""

import argparse
import time
import urllib.request
from functools import partial

from benchmarks import machine, variants
from benchmarks.drill import await_committed, await_running, pairs, send_events
from benchmarks.load import make_events
from benchmarks.measure import Measured
from benchmarks.observers import PROMETHEUS, SCRAPE
from benchmarks.results import Plot, Result, now, this_machine
from benchmarks.rounds import run
from benchmarks.system import System

EVENTS = 20_000
PORTFOLIOS = 1_000
REST_SECONDS = 3.0
TEXT = """\
One worker has processed {events:,} events and rests. It answers {scrapes:,} scrapes of `/metrics`, one after the
other, as Prometheus asks for them. CPU us/scrape is the worker's CPU time for each of them, without what the worker
uses at rest."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scrapes", type=int, default=1_000)
    variants.add_options(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    cases = variants.cases(given, partial(measure, scrapes=given.scrapes))
    return Result(
        name="scrape",
        title="What a scrape costs a worker",
        text=TEXT.format(events=EVENTS, scrapes=given.scrapes),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=tuple(run(cases, given.rounds, strict=given.strict)),
        plots=(Plot(kind="bars", title="CPU time of a scrape", figures=("CPU us/scrape",), unit="CPU us a scrape"),),
    )


def measure(made: System, scrapes: int) -> Measured:
    worker = made.start_worker()
    await_running(worker)
    send_events(made, pairs(make_events(EVENTS, PORTFOLIOS)))
    await_committed(EVENTS, [worker])
    groups = {"worker": [worker.process.pid], "broker": made.broker_pids()}
    first = machine.read(groups)
    time.sleep(REST_SECONDS)
    rest = machine.between(first, machine.read(groups), groups)
    first = machine.read(groups)
    size = sum(_scrape(worker.port) for _ in range(scrapes))
    used = machine.between(first, machine.read(groups), groups)
    return Measured(
        figures={
            "CPU us/scrape": 1e6 * used.seconds * (used.shares["worker"] - rest.shares["worker"]) / scrapes,
            "ms/scrape": 1e3 * used.seconds / scrapes,
            "bytes/scrape": size / scrapes,
        },
        shares=used.shares,
    )


def _scrape(port: int | None) -> int:
    """Returns the bytes of the answer."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{SCRAPE}", headers=PROMETHEUS)
    with urllib.request.urlopen(request) as reply:
        return len(reply.read())

"""An aged system at a steady rate: the longest turn of the event loop, and the latency.

There are few portfolios, by default 20 with 25,000 events each, so that each one's deduplication window moves. When the
worker has processed them, events of the same portfolios come at `--rate`. The worker runs with a watch on its event
loop (benchmarks/turns.py).
"""

import argparse
import shutil
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import msgspec

from benchmarks import machine, turns, variants
from benchmarks.drill import SETTINGS, await_committed, even_load, pairs, send_events, verify
from benchmarks.measure import STUCK_SECONDS, Measured, child, line_of
from benchmarks.reader import Seen
from benchmarks.results import Plot, Result, now, this_machine
from benchmarks.rounds import run
from benchmarks.system import ROOT, MeasuredWorker, System
from benchmarks.turns import BOUNDS_MS, Second
from benchmarks.two_tables import START_TIME
from portfolio_stream.load.events import Mixture, generate

PORTFOLIOS, EVENTS = 20, 500_000
WARM_SECONDS = 10.0
BOUND_MS = 20  # no turn of the loop may be longer
SHOWN = 5
VERIFY_EVENTS = 1_500_000  # `verify` compares some 14,000 events a second
WATCH = ("benchmarks/watched.py", "benchmarks/turns.py")
TEXT = """\
{portfolios} portfolios have {events:,} events together, and the deduplication window is 10,000 events, so each new
event also removes an old one. Then events come at {rate:,} a second for {seconds} seconds. A turn is what the event
loop does between two calls of the selector: heartbeats and HTTP wait for it. `CPU` is the CPU time of the turn: the
wall time also has the time in which other processes used the core."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rate", type=int, default=10_000)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--portfolios", type=int, default=PORTFOLIOS)
    parser.add_argument("--events", type=int, default=EVENTS, help="before the measurement")
    variants.add_options(parser, rounds=1)


def result(given: argparse.Namespace, command: str) -> Result:
    cases = variants.cases(given, partial(measure, given=given))
    return Result(
        name="aged",
        title="An aged system",
        text=TEXT.format(portfolios=given.portfolios, events=given.events, rate=given.rate, seconds=given.seconds),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(case.variant for case in cases),
        runs=tuple(run(cases, given.rounds, strict=given.strict)),
        plots=(
            Plot(
                kind="series",
                title="Longest turn of the event loop in each second, CPU",
                figures=("longest turn ms",),
                unit="milliseconds",
                over="seconds",
            ),
            Plot(kind="bars", title="Latency of an aged system", figures=("p50 ms", "p99 ms"), unit="milliseconds"),
        ),
    )


def measure(made: System, given: argparse.Namespace) -> Measured:
    before = START_TIME - given.events - 60_000  # the load's events are newer: event time advances a ms with each event
    mixture = Mixture(seed=2, start_time=before, portfolios=given.portfolios, partitions=SETTINGS.partitions)
    send_events(made, pairs(generate(mixture, given.events)))
    lend(made.build.tree)
    path = made.folder / "turns"
    worker = made.start_worker(app="benchmarks.watched", BENCHMARK_TURNS=str(path))
    await_committed(given.events, [worker])
    return observe(made, worker, path, given)


def lend(tree: Path) -> None:
    """Give the source tree of an older revision the watch."""
    for name in WATCH:
        if not (tree / name).exists():
            shutil.copy(ROOT / name, tree / name)


def observe(made: System, worker: MeasuredWorker, path: Path, given: argparse.Namespace) -> Measured:
    seconds = WARM_SECONDS + given.seconds
    options = ["--topic", SETTINGS.output_topic, "--partitions", str(SETTINGS.partitions)]
    options += ["--prime", str(given.events), "--expect", str(given.events + int(given.rate * seconds))]
    options += ["--warm", str(WARM_SECONDS)]
    groups = {"worker": [worker.process.pid], "broker": made.broker_pids()}
    with child("reader", made, options) as reader:
        line_of(reader, STUCK_SECONDS)  # it has seen all earlier outputs
        with even_load(made, given.rate, seconds, given.portfolios):
            time.sleep(WARM_SECONDS)
            since, first = time.time(), machine.read(groups)
            time.sleep(given.seconds - 1)
            used = machine.between(first, machine.read(groups), groups)
            seen = msgspec.json.decode(line_of(reader, STUCK_SECONDS), type=Seen)
    found = [one for one in turns.read(path, since) if one.second < since + given.seconds]
    tell(found)
    figures = {
        "longest turn ms": max(one.most_cpu_ms for one in found),
        "longest turn ms, wall": max(one.wall_ms for one in found),
        f"turns above {BOUND_MS} ms": float(sum(one.above[BOUNDS_MS.index(BOUND_MS)] for one in found)),
        "turns/s": sum(one.turns for one in found) / len(found),
        "CPU us/event": 1e6 * used.shares["worker"] / given.rate,
        **{f"p{share} ms": seen.percentiles[share] for share in ("50", "99", "99.9")},
    }
    series = {
        "longest turn ms": [(one.second - since, one.most_cpu_ms) for one in found],
        "p99 ms": seen.by_second,
    }
    is_short = given.events + given.rate * seconds <= VERIFY_EVENTS
    return Measured(figures, used.shares, series, list(verify(made)) if is_short else [], foreign=used.foreign)


def tell(found: Sequence[Second]) -> None:
    """Print the longest turns, and which callback took most of each."""
    for one in sorted(found, key=lambda one: -one.wall_ms)[:SHOWN]:
        parts = f"CPU {one.cpu_ms:.1f} ms, garbage collector {one.gc_ms:.1f} ms"
        print(f"turn of {one.wall_ms:.1f} ms ({parts}): {one.callback_ms:.1f} ms in {one.callback}", flush=True)

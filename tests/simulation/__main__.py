"""Workers on a simulated Kafka, in virtual time, while everything fails.

    python -m tests.simulation [--profile storm|steps|days] [--seeds N] [--first SEED] [--minutes M] [--jobs J]
    python -m tests.simulation --replay SEED [--profile P]      what happened, line by line; shrunk if it failed

Each seed is a run of its own, the same whenever it is run. Exit code 1 if exactly-once is violated anywhere: the seed
is named, its plan is cut down to what it takes to fail, and its timeline is printed.
"""

import argparse
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from random import SystemRandom
from typing import NamedTuple

from tests.simulation.plan import PROFILES, Plan, make
from tests.simulation.shrink import shrink
from tests.simulation.world import run

SHOWN_LINES = 120


class Tally(NamedTuple):
    """What one run adds up to."""

    seed: int
    anomaly: str | None
    worker_seconds: float
    events: int
    transactions: int
    faults: Counter[str]


def tally_of(profile: str, seed: int) -> Tally:
    logging.disable(logging.CRITICAL)
    outcome = run(make(seed, PROFILES[profile]))
    return Tally(seed, outcome.anomaly, outcome.worker_seconds, outcome.events, outcome.transactions, outcome.faults)


def run_all(profile: str, seeds: Iterator[int], jobs: int) -> Iterator[Tally]:
    """As they end."""
    with ProcessPoolExecutor(jobs, max_tasks_per_child=50) as pool:
        pending = set()
        for seed in seeds:
            pending.add(pool.submit(tally_of, profile, seed))
            if len(pending) >= 2 * jobs:
                done = next(as_completed(pending))
                pending.discard(done)
                yield done.result()
        for future in as_completed(pending):
            yield future.result()


def seeds_from(first: int, count: int, minutes: float | None) -> Iterator[int]:
    begun = time.monotonic()
    seed = first
    while (minutes is None and seed < first + count) or (minutes and time.monotonic() - begun < 60 * minutes):
        yield seed
        seed += 1


def explain(plan: Plan) -> None:
    """Cut a failing plan down and say what happens in it."""
    logging.disable(logging.CRITICAL)
    small = shrink(plan, lambda smaller: run(smaller).anomaly is not None)
    outcome = run(small, with_logs=True)
    print(
        f"\nseed {plan.seed}, profile {plan.profile.name}: {len(small.faults)} of {len(plan.faults)} faults are needed"
    )
    for fault in small.faults:
        print(f"  {fault}")
    print(*outcome.timeline.lines(SHOWN_LINES), sep="\n")
    print(f"ANOMALY: {outcome.anomaly}")


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=PROFILES, default="storm")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=None, help="the first seed; a fresh one if none is given")
    parser.add_argument("--minutes", type=float, help="instead of --seeds: as many as fit")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--replay", type=int, metavar="SEED")
    given = parser.parse_args(arguments)
    if given.replay is not None:
        plan = make(given.replay, PROFILES[given.profile])
        outcome = run(plan, with_logs=True)
        if outcome.anomaly is None:
            print(*outcome.timeline.lines(), "exactly-once holds", sep="\n")
            return 0
        explain(plan)
        return 1
    return campaign(given.profile, given.first, given.seeds, given.minutes, given.jobs)


def campaign(profile: str, first: int | None, count: int, minutes: float | None, jobs: int) -> int:
    first = SystemRandom().randrange(1 << 40) if first is None else first
    print(f"profile {profile}, seeds from {first}", flush=True)
    begun = time.monotonic()
    total = Tally(0, None, 0.0, 0, 0, Counter())
    runs, wrong = 0, []
    for one in run_all(profile, seeds_from(first, count, minutes), jobs):
        runs += 1
        total = Tally(
            0, None, total.worker_seconds + one.worker_seconds, total.events + one.events,
            total.transactions + one.transactions, total.faults + one.faults,
        )  # fmt: skip
        if one.anomaly is not None:
            wrong.append(one.seed)
            print(f"seed {one.seed}: {one.anomaly[:500]}", flush=True)
    seconds = time.monotonic() - begun
    hours = total.worker_seconds / 3600
    print(
        f"{runs} runs, {hours:,.1f} worker-hours in {seconds / 60:.1f} minutes ({hours / seconds * 60:,.1f} a minute), "
        f"{total.events:,} events in {total.transactions:,} transactions, {total.faults.total():,} faults, "
        f"{len(wrong)} anomalies"
    )
    print(*(f"  {kind} {times:,}" for kind, times in sorted(total.faults.items())), sep="\n")
    if wrong:
        explain(make(wrong[0], PROFILES[profile]))
    return 1 if wrong else 0


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":  # sets of names must have one order, or no seed would be the same twice
        command = [sys.executable, "-m", "tests.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, os.environ | {"PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1:]))

"""Many seeds, side by side, and what they add up to; a failure is explained."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
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
    endings: Counter[str]


def tally_of(profile: str, seed: int) -> Tally:
    logging.disable(logging.CRITICAL)
    outcome = run(make(seed, PROFILES[profile]))
    return Tally(
        seed, outcome.anomaly, outcome.worker_seconds, outcome.events, outcome.transactions, outcome.faults,
        outcome.endings,
    )  # fmt: skip


def run_all(profile: str, seeds: Iterator[int], jobs: int) -> Iterator[Tally]:
    """As they end."""
    pending: set[Future[Tally]] = set()
    with ProcessPoolExecutor(jobs) as pool:
        try:
            for seed in seeds:
                pending.add(pool.submit(tally_of, profile, seed))
                if len(pending) >= 2 * jobs:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    yield from (one.result() for one in done)
            done, pending = wait(pending)
            yield from (one.result() for one in done)
        finally:
            pool.shutdown(cancel_futures=True)


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


def first_caught(profile: str, most: int, jobs: int) -> tuple[int, str] | None:
    """How many seeds it took until one failed, and the anomaly."""
    logging.disable(logging.CRITICAL)
    for runs, one in enumerate(run_all(profile, iter(range(most)), jobs), 1):
        if one.anomaly is not None:
            return runs, one.anomaly
    return None


def replayed(profile: str, seed: int) -> int:
    """One run, line by line; what failed is explained."""
    logging.disable(logging.CRITICAL)
    plan = make(seed, PROFILES[profile])
    outcome = run(plan, with_logs=True)
    if outcome.anomaly is None:
        print(*outcome.timeline.lines(), "exactly-once holds", sep="\n")
        return 0
    explain(plan)
    return 1


def campaign(profile: str, first: int | None, count: int, minutes: float | None, jobs: int) -> int:
    """Exit code 1 if exactly-once was violated in any run."""
    first = SystemRandom().randrange(1 << 40) if first is None else first
    print(f"profile {profile}, seeds from {first}", flush=True)
    begun = time.monotonic()
    total = Tally(0, None, 0.0, 0, 0, Counter(), Counter())
    runs, wrong = 0, []
    for one in run_all(profile, seeds_from(first, count, minutes), jobs):
        runs += 1
        total = Tally(
            0, None, total.worker_seconds + one.worker_seconds, total.events + one.events,
            total.transactions + one.transactions, total.faults + one.faults, total.endings + one.endings,
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
    print(" ", *(f"{kind} {times:,}" for kind, times in sorted(total.faults.items())))
    print("  workers that ended by themselves:", *(f"{name} {n:,}" for name, n in sorted(total.endings.items())))
    if wrong:
        explain(make(wrong[0], PROFILES[profile]))
    return 1 if wrong else 0

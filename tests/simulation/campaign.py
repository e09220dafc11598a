"""Runs many seeds side by side, adds their figures up, and explains a failure."""

import logging
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context
from random import SystemRandom
from typing import NamedTuple

from tests.simulation.plan import PROFILES, Plan, at_step, make
from tests.simulation.shrink import shrink
from tests.simulation.world import run

SHOWN_LINES = 120
NEVER = 1 << 60


class Tally(NamedTuple):
    """The figures of one run."""

    plan: Plan
    anomaly: str | None
    worker_seconds: float
    events: int
    transactions: int
    faults: Counter[str]
    endings: Counter[str]
    operations: Counter[str]


def tally_of(plan: Plan) -> Tally:
    logging.disable(logging.CRITICAL)
    outcome = run(plan)
    return Tally(
        plan, outcome.anomaly, outcome.worker_seconds, outcome.events, outcome.transactions, outcome.faults,
        outcome.endings, outcome.operations,
    )  # fmt: skip


def run_all(plans: Iterator[Plan], jobs: int) -> Iterator[Tally]:
    """Yield the figures of each run when the run ends."""
    pending: set[Future[Tally]] = set()
    with ProcessPoolExecutor(jobs, get_context("fork")) as pool:  # a fork has the seeded bug of its parent
        try:
            for plan in plans:
                pending.add(pool.submit(tally_of, plan))
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
    """Cut a failing plan down, and print the timeline of the smaller plan."""
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
    """Returns the number of runs until the first failure, and its anomaly. None if no run failed."""
    logging.disable(logging.CRITICAL)
    plans = (make(seed, PROFILES[profile]) for seed in range(most))
    for runs, one in enumerate(run_all(plans, jobs), 1):
        if one.anomaly is not None:
            return runs, one.anomaly
    return None


def replayed(profile: str, seed: int) -> int:
    """Print a run line by line, and explain a failure."""
    logging.disable(logging.CRITICAL)
    plan = make(seed, PROFILES[profile])
    outcome = run(plan, with_logs=True)
    if outcome.anomaly is None:
        print(*outcome.timeline.lines(), "exactly-once holds", sep="\n")
        return 0
    explain(plan)
    return 1


def seeded(profile: str, first: int | None, count: int, minutes: float | None, jobs: int) -> int:
    """Exit code 1 if exactly-once was violated in any run."""
    first = SystemRandom().randrange(1 << 40) if first is None else first
    print(f"profile {profile}, seeds from {first}", flush=True)
    return add_up((make(seed, PROFILES[profile]) for seed in seeds_from(first, count, minutes)), jobs)


def every_step(seed: int, stride: int, jobs: int) -> int:
    """Crash a worker at every await of a short life: one run for each step, or for each `stride`-th step."""
    logging.disable(logging.CRITICAL)
    steps = run(at_step(seed, NEVER)).first_steps
    struck = range(1, steps + 1, stride)
    print(f"seed {seed}: killed before {len(struck)} of {steps} steps, one a run", flush=True)
    return add_up((at_step(seed, step) for step in struck), jobs)


def add_up(plans: Iterator[Plan], jobs: int) -> int:
    begun = time.monotonic()
    runs, worker_seconds, events, transactions = 0, 0.0, 0, 0
    faults: Counter[str] = Counter()
    endings: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    wrong: list[Plan] = []
    for one in run_all(plans, jobs):
        runs += 1
        worker_seconds += one.worker_seconds
        events += one.events
        transactions += one.transactions
        faults += one.faults
        endings += one.endings
        operations += one.operations
        if one.anomaly is not None:
            wrong.append(one.plan)
            print(f"seed {one.plan.seed}: {one.anomaly[:500]}", flush=True)
    minutes = (time.monotonic() - begun) / 60
    hours = worker_seconds / 3600
    print(
        f"{runs} runs, {hours:,.1f} worker-hours in {minutes:.1f} minutes ({hours / minutes:,.1f} a minute), "
        f"{events:,} events in {transactions:,} transactions, {faults.total():,} faults, {len(wrong)} anomalies"
    )
    print(" ", *(f"{kind} {times:,}" for kind, times in sorted(faults.items())))
    print("  workers that ended by themselves:", *(f"{name} {times:,}" for name, times in sorted(endings.items())))
    print("  operations on the job:", *(f"{name} {times:,}" for name, times in sorted(operations.items())))
    if wrong:
        explain(wrong[0])
    return 1 if wrong else 0

"""Strike two workers at every step of commit, recovery and rebalance, on a real Kafka, and judge the history.

    python -m tests.sweep [--seed S] [--seeds N] [--only POINT ...] [--variant VARIANT ...] [--brokers 3] [--keep]

Each seed has a stage of its own: a fresh cluster, two workers that reach the cluster through proxies, and a mixture of
events. The seed chooses the order of all points and variants. The seed also chooses which occurrence of a step is
struck, and in which worker. Each run prints a line. After a failed run the stage stays, with its folder of logs and
data, and a new stage takes the next run. Exit code 1 if anything is wrong.
"""

import argparse
import asyncio
import shutil
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random, SystemRandom
from signal import SIGINT, SIGTERM

import pytest

from portfolio_stream.kafka.quiet_logs import quieten
from tests.sweep.points import BY_NAME, POINTS, Point, Variant
from tests.sweep.stage import StruckStage, struck_stage
from tests.sweep.sweep import Run, Sweep

STAGE_EVENTS = 200_000  # then a fresh stage: a worker that lost its store replays four changelog records for each event
WRONG_LINES = 40  # of a failed run's message; the run's folder has the rest


@dataclass
class Outcome:
    #: seconds until new outputs on every partition, by point and variant
    seconds: dict[tuple[str, Variant], list[float]] = field(default_factory=lambda: defaultdict(list))
    wrong: list[Run] = field(default_factory=list)
    events: int = 0


def runs_of(seed: int, points: Sequence[Point], variants: Iterable[Variant]) -> list[Run]:
    wanted = set(variants)
    runs = [Run(point=point, variant=v, seed=seed) for point in points for v in point.variants if v in wanted]
    Random(seed).shuffle(runs)
    return runs


def sweep_all(runs: list[Run], brokers: int, outcome: Outcome, *, keep: bool = False) -> None:
    """Carry out the runs. A stage ends with its first failure, or when its history is long; then the next begins."""
    left = list(reversed(runs))
    while left:
        folder = Path(tempfile.mkdtemp(prefix="sweep-"))
        before = len(outcome.wrong)
        try:
            with struck_stage(folder, brokers) as stage:
                asyncio.run(sweep_stage(stage, left, outcome))
        finally:
            if keep or len(outcome.wrong) > before:
                print(f"logs and data are in {folder}", flush=True)
            else:
                shutil.rmtree(folder)


async def sweep_stage(stage: StruckStage, left: list[Run], outcome: Outcome) -> None:
    """Take runs off the end of `left`, and carry them out on this stage."""
    task = asyncio.current_task()
    assert task is not None
    for number in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    sweep = Sweep(stage, left[-1].seed)

    def events() -> int:
        return sum(sweep.history.sent().values())

    try:
        async with sweep.judged("w1", "w2"):
            while left and events() < STAGE_EVENTS:
                await judge(sweep, left.pop(), outcome)
    except RunFailed:
        return
    finally:
        outcome.events += events()


class RunFailed(Exception):
    """A run failed. No other run can start from the stage's history."""


async def judge(sweep: Sweep, run: Run, outcome: Outcome) -> None:
    started = time.monotonic()
    line = f"{run.point.name:30} {run.variant.value:6} seed {run.seed}"
    try:
        seconds = await sweep.run(run)
    except (AssertionError, TimeoutError, pytest.fail.Exception) as wrong:
        outcome.wrong.append(run)
        reason = str(wrong) or type(wrong).__name__
        print(f"{line}  WRONG: {run}\n" + "\n".join(reason.splitlines()[:WRONG_LINES]), flush=True)
        raise RunFailed from wrong
    outcome.seconds[run.point.name, run.variant].append(seconds)
    print(f"{line}  {seconds:5.1f} s  of {time.monotonic() - started:4.1f} s  holds", flush=True)


def table(outcome: Outcome, points: Sequence[Point]) -> str:
    """The median and the largest number of seconds until new outputs, for each point and variant."""
    lines = [f"{'point':30}" + "".join(f"{variant.value:>22}" for variant in Variant)]
    for point in points:
        cells = [cell(point, variant, outcome.seconds.get((point.name, variant), [])) for variant in Variant]
        lines.append(f"{point.name:30}" + "".join(f"{text:>22}" for text in cells))
    return "\n".join(lines)


def cell(point: Point, variant: Variant, seconds: Sequence[float]) -> str:
    if variant not in point.variants:
        return "not applicable"
    return f"{len(seconds)} runs {statistics.median(seconds):.1f} {max(seconds):.1f}" if seconds else "-"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--seeds", type=int, default=1, help="so many, from --seed on")
    parser.add_argument("--only", nargs="+", choices=BY_NAME, metavar="POINT", help=", ".join(BY_NAME))
    variants = [variant.value for variant in Variant]
    parser.add_argument("--variant", nargs="+", choices=variants, default=variants)
    parser.add_argument("--brokers", type=int, choices=(1, 3), default=1)
    parser.add_argument("--keep", action="store_true", help="leave logs and data, also where all holds")
    given = parser.parse_args()
    chosen = [point for point in POINTS if point.name in (given.only or BY_NAME) and point.brokers <= given.brokers]
    quieten()
    outcome = Outcome()
    started = time.monotonic()
    is_whole = False
    try:
        for seed in range(given.seed, given.seed + given.seeds):
            sweep_all(runs_of(seed, chosen, map(Variant, given.variant)), given.brokers, outcome, keep=given.keep)
        is_whole = True
    except asyncio.CancelledError:
        print("stopped")
    count = sum(map(len, outcome.seconds.values()))
    print(f"\n{table(outcome, chosen)}")
    print(
        f"{count} runs hold, {len(outcome.wrong)} do not; {outcome.events:,} events, {time.monotonic() - started:.0f} s"
    )
    for run in outcome.wrong:
        print(f"WRONG: {run}")
    if outcome.wrong or not count:
        return 1
    return 0 if is_whole else 130


if __name__ == "__main__":
    sys.exit(main())

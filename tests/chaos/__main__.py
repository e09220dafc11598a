"""Seeded chaos on a real cluster of three brokers with two to four workers under load.

    python -m tests.chaos [--minutes 60] [--seed S] [--rate 1200] [--pause 11] [--only KIND ...] [--keep-logs] [--plan]

The plan is printed first, then each deed when the deed is done. The last lines give, for each kind of deed, the seconds
until every partition had new outputs. While the load runs, the tests' judge compares each output with the contract's
replay. After each chapter the load rests, the audit compares everything, and `verify` compares everything once more,
with the values that the workers serve. The next chapter has a new cluster. Exit code 1 if anything is wrong: the folder
with logs and data then stays.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from random import SystemRandom
from signal import SIGINT, SIGTERM

from benchmarks.faults import verify
from portfolio_stream.kafka.quiet_logs import quieten
from tests.chaos.chaos import BROKERS, HEALTH_SECONDS, Chaos, table
from tests.chaos.deeds import DEEDS
from tests.chaos.plan import WEIGHTS, Chapter, make
from tests.integration.workers import new_stage, until
from tests.proxy.stage import NetworkedStage

CHAPTER_SECONDS = 300.0
DEDUPLICATION_WINDOW = 100  # so small that each portfolio forgets events many times


async def run(stage: NetworkedStage, chapter: Chapter, rate: float, seed: int) -> Chaos:
    chaos = Chaos(stage, rate, seed)
    task = asyncio.current_task()
    assert task is not None
    for number in (SIGINT, SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await until(chaos.is_healthy, HEALTH_SECONDS, "the cluster is healthy")
    try:
        async with chaos.judged("w1", "w2", "w3"):
            await chaos.chapter(chapter, DEEDS)
            await asyncio.to_thread(verify, stage)
            for worker in chaos.workers:
                await chaos.stop(worker)
    except AssertionError as wrong:
        raise AssertionError("\n  ".join((str(wrong), "the last deeds:", *chaos.last_deeds))) from wrong
    return chaos


def on_a_cluster(chapter: Chapter, rate: float, seed: int, are_logs_kept: bool) -> Chaos:
    """Run a chapter on a cluster of its own: each replay of one long history would take longer than the one before.

    The folder stays if the chapter fails.
    """
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    try:
        with new_stage(folder, BROKERS) as made, ExitStack() as stack:
            settings = replace(made.settings, deduplication_window=DEDUPLICATION_WINDOW)
            stage = NetworkedStage(made.cluster, settings, folder, stack=stack)
            stack.callback(stage.end)
            chaos = asyncio.run(run(stage, chapter, rate, seed))
    except AssertionError:
        print(f"WRONG in chapter {chapter.number}: brokers' and workers' logs and data are in {folder}")
        raise
    except (asyncio.CancelledError, KeyboardInterrupt):
        shutil.rmtree(folder)
        raise
    if are_logs_kept:
        print(f"chapter {chapter.number}: brokers' and workers' logs and data are in {folder}")
    else:
        shutil.rmtree(folder)
    return chaos


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0, help="of load")
    parser.add_argument("--seed", type=int, default=SystemRandom().randrange(1 << 31))
    parser.add_argument("--rate", type=float, default=1_200, help="events a second")
    parser.add_argument("--pause", type=float, default=11.0, help="mean seconds between two deeds")
    parser.add_argument("--only", nargs="+", choices=WEIGHTS, default=tuple(WEIGHTS), metavar="KIND")
    parser.add_argument("--keep-logs", action="store_true", help="keep the folders with logs and data")
    parser.add_argument("--plan", action="store_true", help="print the plan, do nothing")
    given = parser.parse_args()
    seconds = min(CHAPTER_SECONDS, given.minutes * 60)
    chapters = make(given.seed, given.minutes, given.pause, seconds, given.only)
    print(f"seed {given.seed}")
    for chapter in chapters:
        print(f"chapter {chapter.number}, {chapter.seconds:.0f} s", *chapter.deeds, sep="\n  ", flush=True)
    if given.plan:
        return 0
    quieten()
    seconds_by_kind: dict[str, list[float]] = defaultdict(list)
    endings: Counter[str] = Counter()
    skipped: Counter[str] = Counter()
    events = 0
    try:
        for chapter in chapters:
            chaos = on_a_cluster(chapter, given.rate, given.seed + chapter.number, given.keep_logs)
            endings += chaos.endings
            skipped += chaos.skipped
            events += sum(chaos.history.sent().values())
            for kind, found in chaos.seconds.items():
                seconds_by_kind[kind] += found
            deeds = sum(map(len, seconds_by_kind.values()))
            print(f"{deeds} deeds, {events:,} events, 0 anomalies so far.", flush=True)
    except AssertionError as wrong:
        print(f"{wrong}\nWRONG with --seed {given.seed}")
        return 1
    except (asyncio.CancelledError, KeyboardInterrupt):
        return 130
    finally:
        print(table(sorted(seconds_by_kind.items())))
        print("workers' endings:", *(f"\n  {times:4} {reason}" for reason, times in endings.most_common()))
        print("nothing to do:", dict(skipped))
    return 0


if __name__ == "__main__":
    sys.exit(main())

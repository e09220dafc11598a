"""Measure a worker with a large state, and its restart after kill -9, by the number of position keys.

    python -m benchmarks restart [--keys 10000 100000 1000000] [--rate 1000] [--hits 300000]

One worker folds a trade for each key (portfolio and symbol), so the tables positions and seen_events each have a row
for each key. The state grows from one number of keys to the next, so one run fills the largest state once. At each
number of keys:

1. a backlog of `--hits` events on random keys: events a second, CPU, memory, and bytes on disk;
2. then events come at `--rate`, and the worker is killed with -9 and started again at once, with its data folder;
3. it is killed again, and its data folder is lost: it replays the whole changelog.

The seconds run from the kill until the new process has committed an output of an event that was sent after the kill:
for the first partition, and for the last one. `start s` is the part until the new process is a member of the group.
In the end `verify` must hold. It is left out above `--verify-keys`, because a replay of everything takes long.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from benchmarks.arrivals import Arrivals, source_ends
from benchmarks.drill import (
    SETTINGS,
    SYMBOLS,
    await_committed,
    await_running,
    committed,
    events_of,
    key_events,
    load,
    pairs,
    send_events,
    stop,
    store_folder,
    told_at,
    topic_bytes,
    until,
    work_off,
)
from benchmarks.processes import MEBIBYTE, disk_bytes, memory_of
from benchmarks.results import Run
from benchmarks.system import MeasuredWorker, System, system
from portfolio_stream.load.events import Mixture, generate

WARM_SECONDS = 5.0
OUTPUT_SECONDS = 900.0  # the replay of 10,000,000 keys takes minutes
VERIFY_KEYS = 1_000_000


def measure(keys: list[int], rate: int, hits: int, verify_keys: int = VERIFY_KEYS) -> Iterator[Run]:
    with system() as made:
        worker, filled, rounds = made.start_worker(), 0, count(3)
        await_running(worker)
        for number in sorted(keys):
            seconds = fill(made, worker, filled, number)
            figures = {"fill events/s": (number - filled) / seconds}
            filled = number
            stop(worker)
            send_events(made, pairs(generate(mixture(number, next(rounds)), hits)))
            worker = made.start_worker()
            backlog = work_off(made, [worker], hits)
            figures |= backlog.figures() | sizes(made)
            with load(made, rate, "--portfolios", str(number // SYMBOLS), "--seed", str(next(rounds))):
                time.sleep(WARM_SECONDS)
                worker = restart(made, worker, "", lambda: None, figures)
                worker = restart(made, worker, "lost folder: ", lambda: lose(made), figures)
            await_running(worker)
            figures["RSS MiB"] = memory_of(worker.process.pid).now / MEBIBYTE
            yield Run(variant=f"{number:,} keys", figures=figures, shares=dict(backlog.shares))
        if filled <= verify_keys:
            made.run("verify")


def mixture(keys: int, seed: int) -> Mixture:
    return Mixture(
        seed=seed,
        start_time=int(time.time() * 1000),
        portfolios=keys // SYMBOLS,
        symbols=SYMBOLS,
        partitions=SETTINGS.partitions,
    )


def fill(made: System, worker: MeasuredWorker, first: int, last: int) -> float:
    """Give the worker a trade for each key of this range. Returns the seconds until all are committed."""
    begun, before = time.monotonic(), committed([worker])
    send_events(made, key_events(first, last))
    await_committed(before + last - first, [worker])
    return time.monotonic() - begun


def sizes(made: System) -> dict[str, float]:
    return {
        "store MiB": disk_bytes([store_folder(made, "w1")]) / MEBIBYTE,
        "changelog MiB": topic_bytes(made, SETTINGS.changelog_topic) / MEBIBYTE,
    }


def lose(made: System) -> None:
    """Lose the data folder at once: removing its files may take seconds."""
    folder = store_folder(made, "w1")
    folder.rename(folder.with_name(f"lost-{time.monotonic_ns()}"))


def restart(
    made: System, worker: MeasuredWorker, name: str, lose: Callable[[], None], figures: dict[str, float]
) -> MeasuredWorker:
    """Kill the worker, call `lose`, and start the worker again. Returns the new process."""
    servers, partitions = made.cluster.bootstrap_servers, SETTINGS.partitions
    with Arrivals(servers, SETTINGS.output_topic, partitions) as outputs:
        worker.process.kill()
        killed, killed_at = time.monotonic(), time.time()
        worker.process.wait()
        ends = source_ends(servers, SETTINGS.input_topic, partitions)
        lose()
        restarted = made.start_worker()
        until(lambda: outputs.have_passed(ends), OUTPUT_SECONDS, "an output of each partition", restarted)
        came = [at - killed for place, end in ends.items() if (at := outputs.first(place, end)) is not None]
    joined = [told_at(event) for event in events_of(restarted) if event["action"] == "membership joined"]
    figures |= {
        f"{name}start s": joined[0] - killed_at,
        f"{name}first output s": min(came),
        f"{name}last partition s": max(came),
        f"{name}highest RSS MiB": memory_of(restarted.process.pid).highest / MEBIBYTE,
    }
    for folder in Path(made.environment["PORTFOLIO_DATA_DIR"]).glob("lost-*"):
        shutil.rmtree(folder)
    return restarted


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--hits", type=int, default=300_000)
    arguments = parser.parse_args()
    for run in measure(arguments.keys, arguments.rate, arguments.hits):
        print(run.variant, {k: round(v, 1) for k, v in run.figures.items()}, flush=True)

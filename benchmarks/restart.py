"""A worker with a large state, and its restart after kill -9, by the number of position keys.

One worker folds a trade for each key (portfolio and symbol), so the tables positions and seen_events each have a row
for each key. The state grows from one number of keys to the next, so one run fills the largest state once. At each
number of keys:

1. a backlog of `--hits` events on random keys: events a second, CPU, memory, and bytes on disk;
2. then events come at `--rate`, and the worker is killed with -9 and started again at once, with its data folder;
3. it is killed again, and its data folder is lost: it replays the whole changelog.

The seconds run from the kill until the new process has committed an output of an event that was sent after the kill:
for the first partition, and for the last one. `start s` is the part until the new process is a member of the group.
In the end `verify` must hold. It is left out above `--verify-keys`, because the replay of everything takes long.
"""

import argparse
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import machine
from benchmarks.arrivals import Arrivals, source_ends
from benchmarks.drill import (
    SETTINGS,
    SYMBOLS,
    add_build,
    await_committed,
    await_running,
    build_for,
    committed,
    events_of,
    key_events,
    load,
    pairs,
    result_name,
    revision_of,
    send_events,
    stop,
    store_folder,
    told,
    told_at,
    topic_bytes,
    until,
    verify,
    work_off,
)
from benchmarks.outputs import Stuck
from benchmarks.processes import MEBIBYTE, disk_bytes, memory_of
from benchmarks.results import Plot, Result, Run, Variant, now, this_machine
from benchmarks.system import Build, MeasuredWorker, System, system
from portfolio_stream.load.events import Mixture, generate

WARM_SECONDS = 5.0
START = 'portfolio_stream_start_seconds{{step="{step}"}}'
STEPS = ("process", "store", "topics", "connections", "fold", "fence", "join", "recovery")  # see docs/metrics.md
OUTPUT_SECONDS = 900.0  # the replay of 10,000,000 keys takes minutes
KEYS = [10_000, 100_000, 1_000_000]
TEXT = """\
A worker has folded a trade for each position key, so the tables positions and seen_events have a row for each key.
The state grows from column to column. At each size the worker processes a backlog of {hits:,} events on random
keys: events/s, CPU us/event and highest RSS MiB are those of this backlog, and store MiB and changelog MiB are the
bytes on disk after it. Then events come at {rate:,} a second, and the worker is killed with -9 and started again at
once: first with its data folder, then with the folder lost, so that the whole changelog is replayed. The seconds
run from the kill until a read_committed reader has an output of an event that was sent after the kill: of the first
partition, and of the last one. `start s` is the part until the new process is a member of the group, and `start,
STEP s` are the worker's own figures of its first start (docs/metrics.md). A worker that has lost its folder is a
new member, so it also waits until the session of the killed process (3 s) has ended."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=int, nargs="+", default=KEYS, help=f"multiples of {SYMBOLS}; default {KEYS}")
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--hits", type=int, default=300_000, help="events of the backlog at each number of keys")
    parser.add_argument("--verify-keys", type=int, default=1_000_000, help="no `verify` if there are more keys")
    add_build(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    build, revision = build_for(given), revision_of(given)
    keys = sorted(given.keys)
    runs = tuple(measure(keys, given.rate, given.hits, given.verify_keys, build))
    figures = ("first output s", "last partition s", "lost folder: first output s", "lost folder: last partition s")
    return Result(
        name=result_name("restart", given),
        title="Restart after kill -9, and a large state",
        text=TEXT.format(rate=given.rate, hits=given.hits),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(
            Variant(name=name_of(number), revision=revision, environment=dict(build.environment), size=number)
            for number in keys
        ),
        runs=runs,
        plots=(
            Plot(
                kind="curve",
                title="From kill -9 to new output",
                figures=figures,
                unit="seconds",
                over="position keys",
                is_logarithmic=True,
            ),
            Plot(
                kind="curve",
                title="Memory by the size of the state",
                figures=("highest RSS MiB", "lost folder: highest RSS MiB", "store MiB"),
                unit="MiB",
                over="position keys",
            ),
            Plot(
                kind="curve",
                title="A backlog on random keys, by the size of the state",
                figures=("CPU us/event",),
                unit="CPU microseconds an event",
                over="position keys",
            ),
        ),
    )


def measure(keys: Sequence[int], rate: int, hits: int, verify_keys: int, build: Build) -> Iterator[Run]:
    """Yields a run for each number of keys. A run that gets stuck has what it found so far, and is the last one."""
    idle = machine.idle_share()
    with system(build=build) as made:
        worker, filled = made.start_worker(), 0
        await_running(worker)
        for place, number in enumerate(keys):
            figures: dict[str, float] = {}
            used = machine.Shares(0.0, {"others": 0.0})
            wrong: tuple[str, ...] = ()
            try:
                worker, used = grow(made, worker, filled, number, hits, 2 * place, figures)
                worker = kill_twice(made, worker, number, rate, 2 * place + 1, figures)
            except Stuck as stuck:
                wrong = (f"after {len(figures)} figures: {stuck}",)
            filled = number
            is_last = wrong or number == keys[-1]
            yield told(
                Run(
                    variant=name_of(number),
                    figures=figures,
                    shares=dict(used.shares),
                    idle_before=idle,
                    findings=wrong or (verify(made) if is_last and number <= verify_keys else ()),
                    marks=tuple(machine.marks(idle, used.foreign)),
                )
            )
            if is_last:
                return


def grow(
    made: System, worker: MeasuredWorker, first: int, last: int, hits: int, seed: int, figures: dict[str, float]
) -> tuple[MeasuredWorker, machine.Shares]:
    """Fold a trade for each new key, then a backlog on random keys. Returns the new process and whose CPU was used."""
    figures["fill events/s"] = (last - first) / fill(made, worker, first, last)
    stop(worker)
    send_events(made, pairs(generate(mixture(last, seed), hits)))
    restarted = made.start_worker()
    backlog = work_off(made, [restarted], hits)
    figures |= backlog.figures() | sizes(made)
    return restarted, backlog.used


def kill_twice(
    made: System, worker: MeasuredWorker, keys: int, rate: int, seed: int, figures: dict[str, float]
) -> MeasuredWorker:
    """Kill the worker with its data folder kept, then with its data folder lost. Returns the new process."""
    with load(made, rate, "--portfolios", str(keys // SYMBOLS), "--seed", str(seed)):
        time.sleep(WARM_SECONDS)
        worker = restart(made, worker, "", lambda: None, figures)
        worker = restart(made, worker, "lost folder: ", lambda: lose(made), figures)
    await_running(worker)
    return worker


def name_of(keys: int) -> str:
    return f"{keys:,} keys"


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
    metrics = restarted.metrics()
    seconds = {step: metrics.get(START.format(step=step)) for step in STEPS}
    steps = {f"start, {step} s": value for step, value in seconds.items() if value is not None and not name}
    figures |= {
        **steps,
        f"{name}replayed records": metrics.get("portfolio_stream_replayed_records_total", 0.0),
        f"{name}start s": joined[0] - killed_at,
        f"{name}first output s": min(came),
        f"{name}last partition s": max(came),
        f"{name}highest RSS MiB": memory_of(restarted.process.pid).highest / MEBIBYTE,
    }
    for folder in Path(made.environment["PORTFOLIO_DATA_DIR"]).glob("lost-*"):
        shutil.rmtree(folder)
    return restarted

"""A savepoint of a large state under load, its restore, and a disaster: all workers, folders and the changelog lost.

One worker folds a trade for each position key. Then events come at `--rate`:

1. the latency of `--quiet` seconds, then `savepoint create`: its seconds and bytes, and the latency meanwhile;
2. `job start --from latest` with one worker, and with three: the seconds from the command's start until each partition
   has an output of an event that was sent after the command's end. Records that came since the savepoint are folded
   again, and their outputs are compared;
3. with a scheduled savepoint each minute: all workers are killed, their folders and the changelog topic are deleted,
   the newest savepoint is restored, and the workers are started again. `RPO s` is the age of the savepoint at the kill,
   `RTO s` the time from the kill until each partition has a new output.

In the end `verify` must hold.
"""

import argparse
import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any, NamedTuple, Self

from confluent_kafka import OFFSET_END, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from benchmarks import machine
from benchmarks.arrivals import OPTIONS, Arrivals, source_ends
from benchmarks.drill import (
    SETTINGS,
    SYMBOLS,
    add_build,
    await_committed,
    await_running,
    await_shared,
    build_for,
    even_load,
    key_events,
    result_name,
    revision_of,
    send_events,
    store_folder,
    told,
    until,
    verify,
)
from benchmarks.outputs import Stuck
from benchmarks.processes import MEBIBYTE
from benchmarks.reader import percentile
from benchmarks.results import Result, Run, Variant, now, this_machine
from benchmarks.system import MeasuredWorker, System, system

OUTPUT_SECONDS = 600.0
WARM_SECONDS = 10.0
INTERVAL_SECONDS = 60.0  # of scheduled savepoints, in the disaster
AGE_SECONDS = 45.0  # of the newest savepoint, at least, when disaster strikes: otherwise luck decides
LOAD_SECONDS = 1_800.0  # longer than everything takes
TEXT = """\
One worker has {keys:,} position keys. Events come at {rate:,} a second. `create` is a savepoint under this load; p50
and p99 are those of every event in the {quiet:.0f} seconds before, and while it is written. `restore` runs from the
command until each partition has an output of an event that was sent after the command began: the state is loaded and
checked, the workers replay it, and all records since the savepoint are folded again, with their outputs compared. In
the disaster all workers are killed, their folders and the changelog topic are deleted; RPO is the age of the newest
scheduled savepoint then (no event is lost: the source has them), RTO runs from the kill to new outputs everywhere."""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=int, default=1_000_000, help=f"a multiple of {SYMBOLS}")
    parser.add_argument("--rate", type=int, default=5_000)
    parser.add_argument("--quiet", type=float, default=30.0, help="seconds of load before the savepoint")
    add_build(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    name = f"{given.keys:,} keys"
    return Result(
        name=result_name("savepoint", given),
        title="Savepoint, restore and disaster",
        text=TEXT.format(keys=given.keys, rate=given.rate, quiet=given.quiet),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=(Variant(name=name, revision=revision_of(given), environment={}, size=given.keys),),
        runs=(measure(name, given),),
        plots=(),
    )


def measure(name: str, given: argparse.Namespace) -> Run:
    idle, figures = machine.idle_share(), dict[str, float]()
    wrong: tuple[str, ...] = ()
    with system(build=build_for(given)) as made:
        made.environment["PORTFOLIO_SAVEPOINT_DIR"] = str(made.folder / "savepoints")
        try:
            workers = [made.start_worker("w1")]
            await_running(*workers)
            begun = time.monotonic()
            send_events(made, key_events(0, given.keys))
            await_committed(given.keys, workers)
            figures["fill events/s"] = given.keys / (time.monotonic() - begun)
            with even_load(made, given.rate, LOAD_SECONDS, given.keys // SYMBOLS):
                create(made, given.quiet, figures)
                restore(made, workers, "restore to 1 worker", figures)
                workers += [made.start_worker("w2"), made.start_worker("w3")]
                await_shared(workers)
                create_again(made)
                restore(made, workers, "restore to 3 workers", figures)
                workers = disaster(made, workers, figures)
            settle(made, workers)
        except (Stuck, subprocess.CalledProcessError) as stuck:
            wrong = (f"after {len(figures)} figures: {stuck}",)
        return told(
            Run(
                variant=name,
                figures=figures,
                shares={},
                idle_before=idle,
                findings=wrong or verify(made),
                marks=tuple(machine.marks(idle, 0.0)),
            )
        )


def create(made: System, quiet: float, figures: dict[str, float]) -> None:
    with Latency(made.cluster.bootstrap_servers) as latency:
        time.sleep(WARM_SECONDS)
        first = time.time()
        time.sleep(quiet)
        begun = time.time()
        done = command(made, "savepoint", "create", "-o", "json")
        ended = time.time()
        time.sleep(2.0)  # the outputs of the last events
    before, during = latency.between(first, begun), latency.between(begun, ended)
    figures |= {
        "create s": ended - begun,
        "create MiB": done["result"]["bytes"] / MEBIBYTE,
        "create rows": done["result"]["rows"],
        "p50 before ms": percentile(before, 50),
        "p99 before ms": percentile(before, 99),
        "p50 during ms": percentile(during, 50),
        "p99 during ms": percentile(during, 99),
        "p99 during / before": percentile(during, 99) / percentile(before, 99),
    }


def create_again(made: System) -> None:
    """A savepoint from just now: a restore folds again what came since."""
    command(made, "savepoint", "create", "-o", "json")


def restore(made: System, workers: list[MeasuredWorker], name: str, figures: dict[str, float]) -> None:
    with outputs_after(made, *workers) as seconds:
        command(made, "job", "start", "--from", "latest", "--yes", "-o", "json")
        figures[f"{name}: command s"] = seconds(None)
        figures[f"{name}: first output s"], figures[f"{name}: every partition s"] = seconds(OUTPUT_SECONDS)


@contextmanager
def outputs_after(made: System, *workers: MeasuredWorker) -> Iterator[Callable[[float | None], Any]]:
    """Gives a clock. With None it tells the seconds until now; else it waits for an output of each partition.

    Then it returns the seconds of the first and of the last partition.
    """
    servers, partitions = made.cluster.bootstrap_servers, SETTINGS.partitions
    with Arrivals(servers, SETTINGS.output_topic, partitions) as outputs:
        begun = time.monotonic()

        def seconds(limit: float | None) -> Any:
            if limit is None:
                return time.monotonic() - begun
            # only now: while the workers still leave, they give outputs of the old generation
            ends = source_ends(servers, SETTINGS.input_topic, partitions)
            until(lambda: outputs.have_passed(ends), limit, "an output of each partition", *workers)
            came = [at - begun for place, end in ends.items() if (at := outputs.first(place, end)) is not None]
            return min(came), max(came)

        yield seconds


def disaster(made: System, workers: list[MeasuredWorker], figures: dict[str, float]) -> list[MeasuredWorker]:
    """Lose all workers, their folders and the changelog. Returns the workers that were started afterwards."""
    for worker in workers:
        worker.end()
    names = [f"w{number}" for number, _ in enumerate(workers, start=1)]
    interval = {"PORTFOLIO_SAVEPOINT_INTERVAL": f"{INTERVAL_SECONDS:.0f}s"}
    workers = [made.start_worker(name, **interval) for name in names]
    await_running(*workers)
    newest = scheduled(made, workers)
    until(lambda: time.time() > newest + AGE_SECONDS, AGE_SECONDS + 5.0, "the savepoint has an age")
    topic = command(made, "job", "describe", "-o", "json")["generation"]["changelog_topic"]
    with outputs_after(made) as seconds:
        killed_at = time.time()
        for worker in workers:
            worker.process.kill()
        for worker, name in zip(workers, names, strict=True):
            worker.process.wait()
            shutil.rmtree(store_folder(made, name))
        delete_topic(made, topic)
        command(made, "job", "start", "--from", "latest", "--yes", "-o", "json")
        figures["disaster: restored s"] = seconds(None)
        workers = [made.start_worker(name) for name in names]
        figures["disaster: RPO s"] = killed_at - newest
        _, figures["disaster: RTO s"] = seconds(OUTPUT_SECONDS)
    return workers


def scheduled(made: System, workers: list[MeasuredWorker]) -> float:
    """Wait for a scheduled savepoint. Returns when it was begun, in seconds since 1970."""
    found: list[float] = []

    def is_there() -> bool:
        operations = command(made, "job", "describe", "-o", "json")["operations"]
        found[:] = [
            time.mktime(time.strptime(one["asked_at"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
            for one in operations
            if one["arguments"].get("reason") == "scheduled" and one["state"] == "done"
        ]
        return bool(found)

    until(is_there, OUTPUT_SECONDS, "a scheduled savepoint", *workers)
    return max(found)


def settle(made: System, workers: list[MeasuredWorker]) -> None:
    """The load is over: wait until everything is folded, so that `verify` compares all of it."""
    servers, partitions = made.cluster.bootstrap_servers, SETTINGS.partitions
    ends = source_ends(servers, SETTINGS.input_topic, partitions)

    def is_folded() -> bool:
        lag = [value for worker in workers for key, value in worker.metrics().items() if "_lag_records" in key]
        return len(lag) >= partitions and not sum(lag)

    until(is_folded, OUTPUT_SECONDS, f"all {sum(ends.values()):,} records are folded", *workers)


def delete_topic(made: System, topic: str) -> None:
    admin = AdminClient({"bootstrap.servers": made.cluster.bootstrap_servers, "log_level": 3})
    admin.delete_topics([topic], operation_timeout=30)[topic].result()
    until(lambda: topic not in admin.list_topics(timeout=10).topics, 30.0, "the changelog is deleted")


def command(made: System, *arguments: str) -> dict[str, Any]:
    """Run a command that prints JSON. Raises CalledProcessError."""
    done = subprocess.run(
        [made.build.command, *arguments], env=made.environment, cwd=made.build.tree, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


class _Output(NamedTuple):
    #: milliseconds since 1970
    timestamp: int
    latency: float


class Latency:
    """A context manager: how old each output is when a read_committed reader has it."""

    def __init__(self, servers: str) -> None:
        self._servers = servers
        self._is_over = Event()
        self._thread = Thread(target=self._read, name="latency", daemon=True)
        self._outputs: list[_Output] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join(10.0)

    def between(self, first: float, last: float) -> list[float]:
        """The latencies, in milliseconds and ordered, of records with timestamps between two seconds since 1970."""
        found = [one.latency for one in self._outputs if first * 1000 <= one.timestamp < last * 1000]
        if not found:
            raise Stuck("no output came while latency was measured")
        return sorted(found)

    def _read(self) -> None:
        consumer = Consumer({"bootstrap.servers": self._servers, **OPTIONS})
        places = [TopicPartition(SETTINGS.output_topic, place, OFFSET_END) for place in range(SETTINGS.partitions)]
        consumer.assign(places)
        while not self._is_over.is_set():
            messages = consumer.consume(10_000, 0.02)
            seen = time.time() * 1000
            for message in messages:
                if message.error() is None:
                    timestamp = message.timestamp()[1]
                    self._outputs.append(_Output(timestamp, seen - timestamp))
        consumer.close()

"""What readers of the outputs see while workers come, go and die: with a large state, under a steady load.

For each number of standbys (PORTFOLIO_STANDBYS) there is one run with the acts of ACTS. Between two acts the group
rests. Figures of an act:

- `moved partitions`: how many partitions have another owner afterwards;
- the seconds from the act to the first output by the new owner, of the first and of the last partition that moved;
- the longest time without an output, of the partitions that moved and of those that stayed.

In the end `verify` must hold.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from signal import SIGUSR2
from typing import NamedTuple

from benchmarks import machine
from benchmarks.arrivals import Arrivals, source_ends
from benchmarks.drill import (
    SETTINGS,
    STOP_SECONDS,
    SYMBOLS,
    add_build,
    await_committed,
    await_running,
    await_shared,
    build_for,
    events_of,
    key_events,
    load,
    result_name,
    revision_of,
    send_events,
    stop,
    told,
    told_at,
    until,
    verify,
)
from benchmarks.results import Plot, Result, Run, Variant, now, this_machine
from benchmarks.system import Build, MeasuredWorker, System, system

REST_SECONDS = 5.0  # between two acts: standbys reach the end of the changelog
STEADY_SECONDS = 2.0  # nothing moves any more
ACT_SECONDS = 300.0
TEXT = """\
Workers have {keys:,} position keys, and events come at {rate:,} a second. `empty` is a worker without a data
folder. A worker that `leaves` gets SIGTERM; a worker that `joins again` still has its data folder. In the rolling
restart each worker is stopped with SIGUSR2, so that it stays a member, and is started again. A killed worker never
comes back: the group gives its partitions away when its session (3 s) has ended. The seconds run from the act (the
start of the new process, the signal) until a read_committed reader has the first output by the new owner. A gap is
the time without an output of a partition. With N standbys, N other workers follow the changelog of each partition."""


class Recovered(NamedTuple):
    """A worker has begun to serve a partition."""

    worker: str
    partition: int
    #: next source offset
    offset: int


class Drill:
    """Workers by name under load, and the reader of their outputs."""

    def __init__(self, made: System, outputs: Arrivals) -> None:
        self.made = made
        self.workers: dict[str, MeasuredWorker] = {}
        self._outputs = outputs

    def start(self, name: str) -> None:
        self.workers[name] = self.made.start_worker(name)

    def leave(self, name: str) -> None:
        """Stop a worker with SIGTERM: it leaves the group."""
        stop(self.workers.pop(name))

    def restart(self, name: str) -> None:
        """Stop a worker with SIGUSR2, which lets it stay a member, and start it again."""
        process = self.workers.pop(name).process
        process.send_signal(SIGUSR2)
        process.wait(STOP_SECONDS)
        self.start(name)

    def kill(self, name: str) -> None:
        process = self.workers.pop(name).process
        process.kill()
        process.wait()

    def restart_all(self) -> None:
        for name in sorted(self.workers):
            self.restart(name)
            self.settle()

    def owners(self) -> dict[int, str]:
        """Returns the worker that runs each partition, by partition."""
        return {
            partition: name
            for name, worker in self.workers.items()
            for partition in range(SETTINGS.partitions)
            if f'portfolio_stream_lag_records{{partition="{partition}"}}' in worker.metrics()
        }

    def settle(self) -> None:
        """Wait until every worker has its share, and later events of every partition have outputs."""
        await_shared(list(self.workers.values()))
        ends = self.ends()
        until(lambda: self._outputs.have_passed(ends), ACT_SECONDS, "new outputs", *self.workers.values())
        time.sleep(STEADY_SECONDS)
        await_shared(list(self.workers.values()))

    def ends(self) -> dict[int, int]:
        return source_ends(self.made.cluster.bootstrap_servers, SETTINGS.input_topic, SETTINGS.partitions)

    def recovered(self, since: float) -> list[Recovered]:
        """Returns the partitions that workers began to serve, in the order of time. `since` is in seconds of 1970."""
        found = [
            (told_at(event), Recovered(name, event["fields"]["partition"], event["fields"]["offset"]))
            for name, worker in self.workers.items()
            for event in events_of(worker)
            if event["action"] == "recovered" and told_at(event) >= since
        ]
        return [recovered for _, recovered in sorted(found)]

    def act(self, do: Callable[[], None]) -> dict[str, float]:
        """Do something to the workers. Returns what readers saw."""
        before = self.owners()
        begun, since = time.monotonic(), time.time()
        do()
        self.settle()
        ended = time.monotonic()
        moved = {one.partition: one for one in self.recovered(since) if before.get(one.partition) != one.worker}
        seconds = [at - begun for one in moved.values() if (at := self._outputs.first(one.partition, one.offset))]
        gaps = {place: self._outputs.longest_gap(place, begun, ended) for place in range(SETTINGS.partitions)}
        figures = {"moved partitions": float(len(moved))}
        if seconds:
            figures |= {"first output s": min(seconds), "last partition s": max(seconds)}
            figures["longest gap of a moved partition s"] = max(gaps[place] for place in moved)
        if kept := gaps.keys() - moved.keys():
            figures["longest gap of a kept partition s"] = max(gaps[place] for place in kept)
        return figures


#: by name; the name is read by people
ACTS: Mapping[str, Callable[[Drill], None]] = {
    "empty second worker joins": lambda drill: drill.start("w2"),
    "empty third worker joins": lambda drill: drill.start("w3"),
    "third worker leaves": lambda drill: drill.leave("w3"),
    "third worker joins again": lambda drill: drill.start("w3"),
    "rolling restart": Drill.restart_all,
    "kill -9 of one of three": lambda drill: drill.kill("w3"),
    "kill -9 of one of two": lambda drill: drill.kill("w2"),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keys", type=int, default=1_000_000, help=f"a multiple of {SYMBOLS}")
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--standbys", type=int, nargs="+", default=[0, 1])
    add_build(parser)


def result(given: argparse.Namespace, command: str) -> Result:
    build, revision = build_for(given), revision_of(given)
    builds = {
        number: replace(build, environment={**build.environment, "PORTFOLIO_STANDBYS": str(number)})
        for number in given.standbys
    }
    runs = [run for number, one in builds.items() for run in measure(number, given, one)]
    return Result(
        name=result_name("failover", given),
        title="Workers that come, go and die",
        text=TEXT.format(keys=given.keys, rate=given.rate),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(
            Variant(name=name_of(act, number), revision=revision, environment=dict(one.environment))
            for act in ACTS
            for number, one in builds.items()
        ),
        runs=tuple(runs),
        plots=(
            Plot(
                kind="bars",
                title="Longest time without an output of a partition",
                figures=("longest gap of a moved partition s", "longest gap of a kept partition s"),
                unit="seconds",
            ),
        ),
    )


def name_of(act: str, standbys: int) -> str:
    return f"{act}, {standbys} standby{'s' if standbys != 1 else ''}"


def measure(standbys: int, given: argparse.Namespace, build: Build) -> Iterator[Run]:
    idle = machine.idle_share()
    marks = tuple(machine.marks(idle, foreign=0.0))
    with system(build=build) as made:
        for act, figures in acts(made, given.keys, given.rate):
            yield told(Run(variant=name_of(act, standbys), figures=figures, idle_before=idle, marks=marks))
        if wrong := verify(made):
            raise SystemExit(wrong[0])


def acts(made: System, keys: int, rate: int) -> Iterator[tuple[str, dict[str, float]]]:
    with Arrivals(made.cluster.bootstrap_servers, SETTINGS.output_topic, SETTINGS.partitions) as outputs:
        drill = Drill(made, outputs)
        drill.start("w1")
        await_running(drill.workers["w1"])
        send_events(made, key_events(0, keys))
        await_committed(keys, list(drill.workers.values()))
        with load(made, rate, "--portfolios", str(keys // SYMBOLS), "--seed", "2"):
            drill.settle()
            for name, do in ACTS.items():
                time.sleep(REST_SECONDS)
                yield name, drill.act(partial(do, drill))

"""What readers of the outputs see while workers come, go and die: with a large state, under a steady load.

For each number of standbys (PORTFOLIO_STANDBYS) there is one run with the acts of ACTS. Between two acts the group
rests. Figures of an act:

- `moved`: how many partitions have another owner afterwards;
- `first s`, `last s`: the seconds from the act to the first output by the new owner, of the first and of the last
  partition that moved;
- `away s`: the longest restart, from the signal until the new process is a member. If it is longer than the session
  (3 s), partitions move;
- `gap s`, `kept gap s`: the longest time without an output, of the partitions that moved and of those that stayed.

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
    told_at,
    until,
    verify,
)
from benchmarks.outputs import Stuck
from benchmarks.results import Plot, Result, Run, Variant, now, this_machine
from benchmarks.system import Build, MeasuredWorker, System, system

REST_SECONDS = 5.0  # between two acts, at least
WARM_RECORDS = 2_000  # a second or two of the load
STEADY_SECONDS = 2.0  # nothing moves any more
ACT_SECONDS = 300.0
TEXT = """\
Workers have {keys:,} position keys, and events come at {rate:,} a second. The acts come one after the other, with a
rest between them: a second worker and a third one join with empty data folders; the third leaves (SIGTERM) and
comes back with its data folder; each of the three is stopped with SIGUSR2, so that it stays a member, and started
again; one of three is killed with -9 for good, then one of two. The group gives the partitions of a killed worker
away when its session (3 s) has ended. `moved` is the number of partitions that have another owner after the act.
`first s` and `last s` run from the act (the start of the new process, the signal) until a read_committed reader has
the first output by the new owner, of the first and of the last of these partitions. `gap s` and `kept gap s` are
the longest time without an output of a partition that moved, and of one that stayed. `away s` is the longest of the
restarts, from the signal until the new process is a member: if it is longer than the session, partitions move. With
N standbys, N other workers follow the changelog of each partition."""


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
        #: the longest time of a restart, from the signal until the new process was a member
        self.away_seconds = 0.0
        self._outputs = outputs

    def start(self, name: str) -> None:
        self.workers[name] = self.made.start_worker(name)

    def leave(self, name: str) -> None:
        """Stop a worker with SIGTERM: it leaves the group."""
        stop(self.workers.pop(name))

    def restart(self, name: str) -> None:
        """Stop a worker with SIGUSR2, which lets it stay a member, and start it again."""
        process = self.workers.pop(name).process
        signalled = time.time()
        process.send_signal(SIGUSR2)
        process.wait(STOP_SECONDS)
        self.start(name)
        until(lambda: self._joined(name) is not None, ACT_SECONDS, f"{name} is a member", self.workers[name])
        self.away_seconds = max(self.away_seconds, (self._joined(name) or signalled) - signalled)

    def _joined(self, name: str) -> float | None:
        """Returns when the worker's process became a member, in seconds since 1970."""
        found = (told_at(event) for event in events_of(self.workers[name]) if event["action"] == "membership joined")
        return next(found, None)

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

    def rest(self, standbys: int) -> None:
        """Wait until the standbys have caught up."""
        time.sleep(REST_SECONDS)
        copies = SETTINGS.partitions * min(standbys, len(self.workers) - 1)
        until(lambda: self._warm() >= copies, ACT_SECONDS, "the standbys have caught up", *self.workers.values())

    def _warm(self) -> int:
        """Returns how many standbys are nearly up to date."""
        lag = "portfolio_stream_standby_lag_records{"
        found = [worker.metrics() for worker in self.workers.values()]
        return sum(value < WARM_RECORDS for one in found for name, value in one.items() if name.startswith(lag))

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
        figures = {"moved": float(len(moved))}
        if seconds:
            figures |= {"first s": min(seconds), "last s": max(seconds)}
            figures["gap s"] = max(gaps[place] for place in moved)
        if self.away_seconds:
            figures["away s"], self.away_seconds = self.away_seconds, 0.0
        if kept := gaps.keys() - moved.keys():
            figures["kept gap s"] = max(gaps[place] for place in kept)
        return figures


#: by name
ACTS: Mapping[str, Callable[[Drill], None]] = {
    "second joins": lambda drill: drill.start("w2"),
    "third joins": lambda drill: drill.start("w3"),
    "third leaves": lambda drill: drill.leave("w3"),
    "third is back": lambda drill: drill.start("w3"),
    "rolling restart": Drill.restart_all,
    "kill 1 of 3": lambda drill: drill.kill("w3"),
    "kill 1 of 2": lambda drill: drill.kill("w2"),
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
    runs = tuple(measure(number, given, one) for number, one in builds.items())
    return Result(
        name=result_name("failover", given),
        title="Workers that come, go and die",
        text=TEXT.format(keys=given.keys, rate=given.rate),
        command=command,
        date=now(),
        machine=this_machine(),
        variants=tuple(
            Variant(name=name_of(number), revision=revision, environment=dict(one.environment), size=number)
            for number, one in builds.items()
        ),
        runs=runs,
        plots=(
            Plot(
                kind="bars",
                title="Longest time without an output of a partition that moves",
                figures=tuple(f"{act}: gap s" for act in ACTS if act != "rolling restart"),
                unit="seconds",
            ),
            Plot(
                kind="bars",
                title="Longest time without an output of a partition that stays",
                figures=tuple(f"{act}: kept gap s" for act in ACTS),
                unit="seconds",
            ),
        ),
    )


def name_of(standbys: int) -> str:
    return f"{standbys} standby{'s' if standbys != 1 else ''}"


def measure(standbys: int, given: argparse.Namespace, build: Build) -> Run:
    idle = machine.idle_share()
    figures: dict[str, float] = {}
    wrong: tuple[str, ...] = ()
    with system(build=build) as made:
        try:
            for act, found in acts(made, given.keys, given.rate, standbys):
                print(f"{name_of(standbys)}, {act}: {found}", flush=True)
                figures |= {f"{act}: {name}": value for name, value in found.items()}
        except Stuck as stuck:  # the acts before it have good figures
            wrong = (f"after {len(figures)} figures: {stuck}",)
        return Run(
            variant=name_of(standbys),
            figures=figures,
            idle_before=idle,
            findings=wrong or verify(made),
            marks=tuple(machine.marks(idle, foreign=0.0)),
        )


def acts(made: System, keys: int, rate: int, standbys: int) -> Iterator[tuple[str, dict[str, float]]]:
    with Arrivals(made.cluster.bootstrap_servers, SETTINGS.output_topic, SETTINGS.partitions) as outputs:
        drill = Drill(made, outputs)
        drill.start("w1")
        await_running(drill.workers["w1"])
        send_events(made, key_events(0, keys))
        await_committed(keys, list(drill.workers.values()))
        with load(made, rate, "--portfolios", str(keys // SYMBOLS), "--seed", "2"):
            drill.settle()
            for name, do in ACTS.items():
                drill.rest(standbys)
                yield name, drill.act(partial(do, drill))

"""Measure what readers of the outputs see while workers come, go and die: with a large state, under a steady load.

    python -m benchmarks failover [--keys 1000000] [--rate 1000] [--standbys 0 1]

For each number of standbys (PORTFOLIO_STANDBYS) one run, with these acts. Between two acts the group rests.

1. `second joins`: a worker with an empty data folder joins one that has everything.
2. `third joins`: the same, with two workers that have everything. With standbys the moved partitions may be warm.
3. `third stops`: it leaves the group (SIGTERM), for good.
4. `rolling restart`: each worker is stopped with SIGTERM and started again, with PORTFOLIO_ON_STOP=remain.
5. `one killed`: a worker is killed with -9 for good. Its session of 3 s must end before others get its partitions.

For each act: the partitions that moved; for these, the seconds from the act to the first output by the new owner (first
and last partition); the longest time without an output of a moved partition, and of a kept one. In the end `verify`
must hold.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from benchmarks.arrivals import Arrivals, source_ends
from benchmarks.drill import (
    SETTINGS,
    SYMBOLS,
    await_committed,
    await_running,
    await_shared,
    events_of,
    key_events,
    load,
    running,
    send_events,
    stop,
    told_at,
    until,
)
from benchmarks.results import Run
from benchmarks.system import MeasuredWorker, System, system

REST_SECONDS = 5.0  # between two acts: standbys reach the end of the changelog
STEADY_SECONDS = 2.0  # nothing moves any more
ACT_SECONDS = 300.0


class Recovered(NamedTuple):
    """A worker has begun to serve a partition."""

    worker: str
    partition: int
    #: next source offset
    offset: int


class Drill:
    """Workers by name under load, and the reader of their outputs."""

    def __init__(self, made: System, outputs: Arrivals, environment: Mapping[str, str]) -> None:
        self.made = made
        self.workers: dict[str, MeasuredWorker] = {}
        self._outputs = outputs
        self._environment = environment

    def start(self, name: str) -> None:
        self.workers[name] = self.made.start_worker(name, **self._environment)

    def stop(self, name: str) -> None:
        stop(self.workers.pop(name))

    def kill(self, name: str) -> None:
        process = self.workers.pop(name).process
        process.kill()
        process.wait()

    def restart_all(self) -> None:
        for name in sorted(self.workers):
            self.stop(name)
            self.start(name)
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
        """Wait until all partitions run, every worker has its share, and later events of every partition have outputs."""
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


def measure(keys: int, rate: int, standbys: Sequence[int]) -> Iterator[Run]:
    for number in standbys:
        environment = {"PORTFOLIO_STANDBYS": str(number), "PORTFOLIO_ON_STOP": "remain"}
        name = f"{number} standby{'s' if number != 1 else ''}"
        with system() as made:
            for act, figures in drill(made, keys, rate, environment):
                yield Run(variant=f"{act}, {name}", figures=figures)
            made.run("verify")


def drill(made: System, keys: int, rate: int, environment: Mapping[str, str]) -> Iterator[tuple[str, dict[str, float]]]:
    outputs = Arrivals(made.cluster.bootstrap_servers, SETTINGS.output_topic, SETTINGS.partitions)
    with outputs:
        stage = Drill(made, outputs, environment)
        stage.start("w1")
        await_running(stage.workers["w1"])
        send_events(made, key_events(0, keys))
        await_committed(keys, [stage.workers["w1"]])
        acts: Sequence[tuple[str, Callable[[], None]]] = (
            ("second joins", lambda: stage.start("w2")),
            ("third joins", lambda: stage.start("w3")),
            ("rolling restart", stage.restart_all),
            ("one killed", lambda: stage.kill("w3")),
            ("second killed", lambda: stage.kill("w2")),
        )
        with load(made, rate, "--portfolios", str(keys // SYMBOLS), "--seed", "2"):
            stage.settle()
            for name, do in acts:
                time.sleep(REST_SECONDS)
                yield name, stage.act(do)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--rate", type=int, default=1_000)
    parser.add_argument("--standbys", type=int, nargs="+", default=[0, 1])
    arguments = parser.parse_args()
    for run in measure(arguments.keys, arguments.rate, arguments.standbys):
        print(run.variant, run.figures, flush=True)

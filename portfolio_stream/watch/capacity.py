"""What the workers could process, against what comes in. The advice makes sentences of these values.

1. DS2 (Kalavri et al., "Three steps is all you need", OSDI 2018): the true processing rate of a worker is its records
   divided by its useful time. Time that it waits does not count, so the rate is what the worker could do. The optimal
   number of workers is ceil(arrival rate / true processing rate of one worker).
2. All steps of a worker run in one process, mostly on one core: so a worker is one operator of DS2. A second worker
   brings a second main loop, and a second transaction in flight.
3. The figure is the worker's at its present load. An idle worker commits small transactions, so it could do more than
   the figure says. For a worker with a backlog the figure is right.
"""

import math
from collections.abc import Collection, Sequence
from typing import Literal, NamedTuple

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.figures import PartitionAtWork, SystemFigures, WorkerAtWork

Course = Literal["keeps up", "catches up", "falls behind", "stays behind", "stands still"]
HoldUp = Literal["fold", "source", "commit", "machine", "process", "records"]

STEADY_SHARE = 0.02  # a rate of the last minute is that exact
WAITS_SHARE = 0.2  # of a second: the loop waits for a commit only if the commit takes longer than the fold
BUSY_SHARE = 0.7  # of a second: the rest goes to closing transactions and to requests
STARVED_SHARE = 0.7  # of the time at work: a process that gets less CPU than that shares its core
LAGGING_SHARE = 0.05  # of the lag: a partition with less does not keep its worker busy
HOT_FACTOR = 2.0  # times an even share
HOT_RECORDS = 30.0  # a minute, of an even share: of fewer records, twice as many may be chance
LEAST_USEFUL = 0.02  # seconds in a second: below that, a rate says nothing


class Trend(NamedTuple):
    """Records in a second, of the last minute, and the records that wait."""

    produced: float
    processed: float
    lag: int

    @property
    def growth(self) -> float:
        """Of the lag, in a second; negative: the lag shrinks."""
        return self.produced - self.processed

    @property
    def course(self) -> Course:
        noise = max(1.0, STEADY_SHARE * self.produced)
        if self.lag and not self.processed:
            return "stands still"
        if self.lag and self.growth > noise:
            return "falls behind"
        if self.lag < limit.LAG_RECORDS:
            return "keeps up"
        return "catches up" if self.growth < -noise else "stays behind"

    @property
    def seconds_left(self) -> float | None:
        """Until the backlog is gone, at these rates; None if it never is."""
        return self.lag / -self.growth if self.growth < 0 else None


class Capacity(NamedTuple):
    """Of the workers that have work, by DS2."""

    workers: int
    #: in a second, of all of them
    records: float
    #: seconds in a second, of all of them
    useful: float

    @property
    def of_one(self) -> float:
        """The true processing rate of one worker, in records in a second."""
        return self.records / self.useful

    def needed(self, arrival: float) -> int:
        """The optimal number of workers for so many records in a second."""
        return max(1, math.ceil(arrival / self.of_one))


def trend(partitions: Collection[PartitionAtWork]) -> Trend | None:
    """Of these partitions together. None if a figure of one of them is unknown, or there is none."""
    known = [
        Trend(one.produced_per_second, one.processed_per_second, one.lag)
        for one in partitions
        if one.produced_per_second is not None and one.processed_per_second is not None and one.lag is not None
    ]
    if not known or len(known) < len(partitions):
        return None
    return Trend(sum(one.produced for one in known), sum(one.processed for one in known), sum(one.lag for one in known))


def capacity(workers: Sequence[WorkerAtWork]) -> Capacity | None:
    """None while no worker has work to measure."""
    at_work = [(one.events_per_second or 0.0, useful_seconds(one) or 0.0) for one in workers]
    measured = [(records, useful) for records, useful in at_work if records > 0 and useful >= LEAST_USEFUL]
    if not measured:
        return None
    return Capacity(len(measured), sum(records for records, _ in measured), sum(useful for _, useful in measured))


def useful_seconds(worker: WorkerAtWork) -> float | None:
    """In a second: how long the worker was at work, and could not have taken more records. At most 1.

    - The wait for a transaction counts if commits hold the worker up: it could not have taken more records meanwhile.
    - Only the CPU's time counts if other processes hold the worker up: it did nothing while they had its core.
    """
    steps, cause = worker.steps, hold_up(worker)
    if steps is None:
        return None
    loop, cpu = steps.source_busy + steps.fold_busy, worker.cpu_share or 0.0
    if cause == "commit":
        return min(1.0, loop + steps.fold_waits)
    return min(1.0, cpu if cause == "machine" else max(loop, cpu))


def hold_up(worker: WorkerAtWork) -> HoldUp | None:
    """What keeps a worker with a backlog from processing more; None if it has not measured its steps.

    - commit: the loop waits for the transaction in flight
    - machine: the loop is at work, but other processes have the CPU
    - fold, source: the loop folds, or decodes
    - process: the CPU is used up by other work: closing transactions, requests, garbage collection
    - records: the worker waits for records, so Kafka gives them too slowly
    """
    steps, cpu = worker.steps, worker.cpu_share
    if steps is None:
        return None
    loop = steps.source_busy + steps.fold_busy
    if steps.fold_waits >= WAITS_SHARE:
        return "commit"
    if loop >= BUSY_SHARE:
        if cpu is not None and cpu < STARVED_SHARE * loop:
            return "machine"
        return "fold" if steps.fold_busy >= steps.source_busy else "source"
    return "process" if cpu is not None and cpu >= BUSY_SHARE else "records"


def is_behind(now: SystemFigures) -> bool:
    """Whether the job is to run, and a backlog waits or grows in partitions that are running."""
    seen = trend([one for one in now.partitions.values() if one.state == "running"])
    return seen is not None and seen.course != "keeps up" and is_to_run(now)


def is_to_run(now: SystemFigures) -> bool:
    """Whether the operator wants the job to run, as far as anybody knows."""
    return now.job_state in (None, "running")


def with_partitions(now: SystemFigures) -> list[WorkerAtWork]:
    return [worker for worker in now.workers if worker.partitions]


def lagging_workers(now: SystemFigures) -> list[WorkerAtWork]:
    """The workers whose running partitions have a share of the lag worth mentioning."""
    lags = {partition: one.lag or 0 for partition, one in now.partitions.items() if one.state == "running"}
    least = LAGGING_SHARE * sum(lags.values())
    lagging = {partition for partition, lag in lags.items() if lag > least}
    return [worker for worker in now.workers if lagging & set(worker.partitions)]


def hot_partitions(now: SystemFigures) -> tuple[int, ...]:
    """The partitions that get HOT_FACTOR times their even share of what is produced, or more; the hottest first."""
    rates = {partition: one.produced_per_second for partition, one in now.partitions.items()}
    known = {partition: rate for partition, rate in rates.items() if rate is not None}
    if len(known) < len(rates) or len(known) < 2:
        return ()
    even = sum(known.values()) / len(known)
    if even * 60 < HOT_RECORDS:
        return ()
    hot = [partition for partition, rate in known.items() if rate >= HOT_FACTOR * even]
    return tuple(sorted(hot, key=lambda partition: (-known[partition], partition)))

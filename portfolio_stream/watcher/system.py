"""The figures of the whole system, from the looks of one moment and of those before. Pure: no clock, no I/O.

1. Each process counts from 0. What counts is the growth between two looks at the same process, so neither a restart nor
   a new worker looks like a peak.
2. Lag and rates of a partition come from Kafka's offsets, never from a worker: a dead worker's partitions have lag too.
3. The wish of the job and the number of its partitions are the last known ones. So are the disks of a worker that is
   in sight and silent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portfolio_stream.checkpoints.history import Checkpoint
from portfolio_stream.http.addresses import host_of
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.observe.rates import Counted, Looks, Meter
from portfolio_stream.observe.steps import StepGrowth
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.figures import PartitionAtWork, StepShares, SystemFigures, WorkerAtWork
from portfolio_stream.watcher.group_look import GroupLook
from portfolio_stream.watcher.kafka_look import KafkaLook
from portfolio_stream.watcher.minutes import LONGEST_GAP
from portfolio_stream.web.figures import WorkerFigures
from portfolio_stream.web.group import Held, Silence, owners_of
from portfolio_stream.web.in_sight import WorkerInSight, foreign_partitions
from portfolio_stream.web.verdict import Audit

RATE_SECONDS = 60.0  # the window of a partition's rates, and of p99
KEPT_SECONDS = 600.0  # how long a worker may be silent before what it counted meanwhile is forgotten
UNOWNED = Held(None, "unowned", "no worker has it")


@dataclass(frozen=True, kw_only=True, slots=True)
class JobLook:
    """The last known wish."""

    #: running, paused, stopping, stopped, cancelled or migrating; None: unknown
    state: str | None = None
    generation: int | None = None
    partitions: int | None = None
    #: UNIX seconds, by the clock of the process that wrote it; None: unknown
    since: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """What one look found."""

    #: UNIX seconds
    at: float
    #: monotonic seconds
    now: float
    kafka: KafkaLook
    group: GroupLook
    workers: Sequence[WorkerInSight]
    job: JobLook
    audit: Audit
    #: UNIX seconds of the last pass that reached a verdict
    decided_at: float | None
    #: the newest first; None while they are not read yet
    checkpoints: Sequence[Checkpoint] | None


@dataclass(frozen=True, slots=True)
class _Process:
    """One look at one process of a worker."""

    process: str
    now: float
    counted: Counted
    cpu_seconds: float


class System:
    def __init__(self) -> None:
        #: by address
        self._processes: dict[str, _Process] = {}
        self._fed = float("-inf")
        self._meter = Meter(RATE_SECONDS)
        #: end and next offset of the group, by partition
        self._offsets = Looks[Mapping[int, Offsets]](RATE_SECONDS)
        #: used shares by place, of each worker in sight
        self._worker_disks: Mapping[str, Mapping[str, float]] = {}
        self._job = JobLook()
        #: monotonic seconds since when the wish has stood
        self._job_began = 0.0

    def feed(self, looked: Looked) -> tuple[SystemFigures, Counted]:
        """Returns the figures of this moment, and what all workers counted since the last look."""
        if looked.now - self._fed > LONGEST_GAP:  # the watcher stood still: what came meanwhile belongs to no time
            self._processes.clear()
            self._meter, self._offsets = Meter(RATE_SECONDS), Looks(RATE_SECONDS)
        self._fed = looked.now
        came = Counted()
        cpu: dict[str, float | None] = {}
        for worker in looked.workers:
            if isinstance(worker.answer, WorkerFigures):
                grown, cpu[worker.owner.address] = self._grown(worker.owner.address, worker.answer, looked.now)
                came += grown
        self._meter.feed(looked.now, came)
        self._processes = {at: one for at, one in self._processes.items() if looked.now - one.now < KEPT_SECONDS}
        if looked.group.offsets is not None:
            self._offsets.feed(looked.now, looked.group.offsets)
        self._worker_disks = worker_disks(self._worker_disks, looked.workers)
        self._follow_job(looked)
        return self._figures(looked, cpu), came

    def _follow_job(self, looked: Looked) -> None:
        """A wish that we saw come stands since then; the first one is as old as its writer's clock says."""
        job = looked.job
        if (job.state, job.since) == (self._job.state, self._job.since):
            return
        is_first = self._job.state is None and job.since is not None
        self._job_began = looked.now - (max(0.0, looked.at - (job.since or 0.0)) if is_first else 0.0)
        self._job = job

    def _grown(self, address: str, answer: WorkerFigures, now: float) -> tuple[Counted, float | None]:
        """The growth of a worker's counts, and the share of a core that it took; None at the first look."""
        status = answer.status
        before = self._processes.get(address)
        self._processes[address] = _Process(status.process, now, status.counted, answer.process.cpu_seconds)
        if before is None or before.process != status.process or now <= before.now:
            return Counted(), None
        cpu = (answer.process.cpu_seconds - before.cpu_seconds) / (now - before.now)
        return status.counted.since(before.counted), cpu

    def _figures(self, looked: Looked, cpu: Mapping[str, float | None]) -> SystemFigures:
        return SystemFigures(
            at=looked.at,
            kafka=looked.kafka.figures,
            disks=disk_shares(looked.kafka, self._worker_disks),
            job_state=looked.job.state,
            job_seconds=None if looked.job.state is None else looked.now - self._job_began,
            job_partitions=looked.job.partitions,
            workers=tuple(
                at_work(one.answer, cpu.get(one.owner.address))
                for one in looked.workers
                if isinstance(one.answer, WorkerFigures)
            ),
            partitions=self._partitions(looked),
            silent_workers=tuple(
                one.owner.instance_id for one in looked.workers if one.is_member and isinstance(one.answer, Silence)
            ),
            p99=self._meter.latency(0.99),
            failed_checkpoints=failed_share(looked.checkpoints or (), looked.at),
            verdict=looked.audit.verdict,
            decided_at=looked.decided_at,
        )

    def _partitions(self, looked: Looked) -> dict[int, PartitionAtWork]:
        held = owners_of([one.look for one in looked.workers], foreign_partitions(looked.group.members or ()))
        offsets = looked.group.offsets or {}
        count = max(looked.job.partitions or 0, 1 + max((*held, *offsets), default=-1))
        seconds = {
            partition: behind
            for one in looked.workers
            if isinstance(one.answer, WorkerFigures)
            for partition, behind in one.answer.lag_seconds.items()
        }
        found = {}
        for partition in range(count):
            at, owner = offsets.get(partition), held.get(partition, UNOWNED)
            produced, processed = self._rates(partition)
            found[partition] = PartitionAtWork(
                state=owner.state,
                owner=owner.owner,
                lag=None if at is None else at.lag,
                lag_seconds=seconds.get(partition),
                produced_per_second=produced,
                processed_per_second=processed,
            )
        return found

    def _rates(self, partition: int) -> tuple[float | None, float | None]:
        """Records in a second of the last minute: those that came, and those that the group has committed."""
        if len(self._offsets) < 2:
            return None, None
        (began, first), (ended, last) = self._offsets[0], self._offsets[-1]
        if partition not in first or partition not in last or ended <= began:
            return None, None
        before, now, seconds = first[partition], last[partition], ended - began
        produced = max(0, now.last_stable_offset - before.last_stable_offset) / seconds
        if before.committed is None or now.committed is None:
            return produced, None
        return produced, max(0, now.committed - before.committed) / seconds


def disk_shares(kafka: KafkaLook, of_workers: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    of_brokers = {
        f"broker {at.broker} {at.dir}": 1 - room.usable / room.total
        for at, room in sorted(kafka.disks.items())
        if room.total > 0
    }
    return of_brokers | {
        f"worker {worker} {place}": share for worker, disks in of_workers.items() for place, share in disks.items()
    }


def worker_disks(
    before: Mapping[str, Mapping[str, float]], workers: Sequence[WorkerInSight]
) -> Mapping[str, Mapping[str, float]]:
    """Returns used shares by place, of each worker in sight: those that a silent one told last."""
    last = {name: before[name] for one in workers if (name := one.owner.instance_id) in before}
    told = {one.answer.status.worker: one.answer.disks for one in workers if isinstance(one.answer, WorkerFigures)}
    return last | told


def at_work(answer: WorkerFigures, cpu_share: float | None) -> WorkerAtWork:
    status = answer.status
    return WorkerAtWork(
        worker=status.worker,
        is_ready=not status.reasons,
        partitions=tuple(sorted(status.partitions)),
        events_per_second=status.events_per_second,
        transactions_per_second=status.transactions_per_second,
        host=host_of(status.address),
        cores=answer.machine.cores,
        steps=None if answer.growth is None else shares(answer.growth),
        cpu_share=cpu_share,
    )


def shares(growth: StepGrowth) -> StepShares | None:
    if growth.seconds <= 0:
        return None
    busy, waits = growth.figures.busy_seconds, growth.figures.backpressured_seconds
    return StepShares(
        source_busy=busy["source"] / growth.seconds,
        fold_busy=busy["fold"] / growth.seconds,
        commit_busy=busy["commit"] / growth.seconds,
        source_waits=waits["source"] / growth.seconds,
        fold_waits=waits["fold"] / growth.seconds,
    )


def failed_share(checkpoints: Sequence[Checkpoint], at: float) -> float | None:
    """The share of the checkpoints decided in the last CHECKPOINTS_WINDOW_SECONDS that failed; None without one.

    A checkpoint fails when its time-out is over, however long that is: no window by its trigger would have it.
    """
    since = at - limit.CHECKPOINTS_WINDOW_SECONDS
    decided = [one.status for one in checkpoints if one.decided is not None and one.decided >= since]
    return decided.count("FAILED") / len(decided) if decided else None

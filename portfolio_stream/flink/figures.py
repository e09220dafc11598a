"""What the whole job and its workers are at one moment, as one frozen value: every answer is made of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from portfolio_stream.checkpoints.history import Checkpoint
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import Generation, Job, JobOperation, OperationKind, OperationState
from portfolio_stream.flink import ids, job_states
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe.steps import StepFigures, StepGrowth
from portfolio_stream.web.figures import WorkerFigures
from portfolio_stream.web.group import Held, Silence


class KnownWorker(NamedTuple):
    """A worker that the supervisor keeps."""

    instance_id: str
    #: host:port; None until the worker listens
    address: str | None
    is_alive: bool
    #: how often the supervisor has started it again
    restarts: int = 0
    #: its log file; None if it has none
    log: Path | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenWorker:
    """A worker of the group, or one that takes no part now."""

    owner: Owner
    #: None if the supervisor does not keep it
    known: KnownWorker | None
    is_member: bool
    #: the partitions that the coordinator has given to it
    assigned: tuple[int, ...]
    answer: WorkerFigures | Silence
    #: UNIX seconds of its last answer; None if it never answered
    answered_at: float | None

    @property
    def id(self) -> str:
        return ids.worker_id(self.owner.instance_id, self.owner.address)

    @property
    def figures(self) -> WorkerFigures | None:
        return None if isinstance(self.answer, Silence) else self.answer

    @property
    def state(self) -> str:
        """Ready, starting or silent."""
        if isinstance(self.answer, Silence):
            return "silent" if self.is_member or self.known is None else "starting"
        return "ready"

    @property
    def steps(self) -> StepFigures:
        """Nothing from a silent worker: its counts are gone with it."""
        return StepFigures() if self.figures is None else self.figures.steps

    @property
    def growth(self) -> StepGrowth | None:
        return None if self.figures is None else self.figures.growth

    @property
    def partitions(self) -> Mapping[int, str]:
        if self.figures is None:
            return dict.fromkeys(self.assigned, "silent")
        return {number: told.state for number, told in self.figures.status.partitions.items()}


@dataclass(frozen=True, kw_only=True)
class ClusterFigures:
    #: UNIX seconds
    at: float
    group: str
    #: why nobody knows the job, as Kafka has not told it yet
    unknown: str | None = None
    #: None until Kafka has told it, or before the first worker has started
    job: Job | None = None
    #: the oldest first
    generations: Sequence[Generation] = ()
    #: the oldest first
    operations: Sequence[JobOperation] = ()
    #: by name
    workers: Sequence[SeenWorker] = ()
    #: by partition
    held: Mapping[int, Held] = field(default_factory=dict)
    #: the newest first; None while the topic is not read
    checkpoints: Sequence[Checkpoint] | None = None
    #: UNIX seconds since which the job is seen in its state
    since: float | None = None
    #: the settings that the job gives to its workers
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def current(self) -> Generation | None:
        job = self.job
        return None if job is None else next((one for one in self.generations if one.number == job.generation), None)

    @property
    def partition_states(self) -> list[str]:
        count = 0 if self.current is None else self.current.partitions
        return [self.held[number].state if number in self.held else "unowned" for number in range(count)]

    @property
    def has_workers(self) -> bool:
        """A worker answers, is a member, or is being started."""
        return any(
            worker.figures or worker.is_member or (worker.known and worker.known.is_alive) for worker in self.workers
        )

    @cached_property
    def state(self) -> str | None:
        """Flink's state of the newest generation."""
        if self.job is None:
            return None
        what = job_states.seen(self.partition_states, has_workers=self.has_workers)
        return job_states.job_state(self.job.state, what)

    @cached_property
    def jobs(self) -> Sequence["FlinkJob"]:
        """The newest first."""
        found = [self._flink_job(one) for one in self.generations]
        return sorted(found, key=lambda one: one.generation.number, reverse=True)

    def _flink_job(self, generation: Generation) -> "FlinkJob":
        job, state = self.job, self.state
        if job is None or state is None or job.generation != generation.number:
            later = [one.created_at for one in self.generations if one.number > generation.number]
            return FlinkJob(self, generation, job_states.FINISHED, min(later, default=self.at), is_current=False)
        is_over = state in job_states.TERMINAL
        changed = job.since if job.state is not JobState.RUNNING else self.since or job.since
        return FlinkJob(self, generation, state, changed, is_current=True, ended=changed if is_over else None)

    def savepoints(self) -> Sequence[JobOperation]:
        """The savepoints that somebody asked for, the newest first."""
        kinds = (OperationKind.SAVEPOINT, OperationKind.STOP)
        found = [one for one in self.operations if one.kind in kinds and "savepoint" in {*one.arguments, *one.result}]
        return sorted(found, key=lambda one: one.asked_at, reverse=True)


@dataclass(frozen=True)
class FlinkJob:
    """A generation of the job's state, as a job of Flink's."""

    figures: ClusterFigures
    generation: Generation
    state: str
    #: UNIX seconds since which it has this state
    since: float
    #: only the newest one has workers
    is_current: bool
    ended: float | None = None

    @cached_property
    def id(self) -> str:
        return ids.job_id(self.figures.group, self.generation.number)

    @property
    def workers(self) -> Sequence[SeenWorker]:
        return self.figures.workers if self.is_current else ()

    @property
    def ended_at(self) -> float | None:
        return self.ended if self.is_current else self.since

    @property
    def duration(self) -> float:
        """Seconds."""
        end = self.figures.at if self.ended_at is None else self.ended_at
        return max(0.0, end - self.generation.created_at)

    def task_states(self) -> list[str]:
        """One for each worker."""
        return [job_states.task_state(self.state, one.state, one.partitions.values()) for one in self.workers]


def is_done(operation: JobOperation) -> bool:
    return operation.state is OperationState.DONE

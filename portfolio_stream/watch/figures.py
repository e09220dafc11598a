"""The figures of the whole system at one moment, as the watcher sees them. None: nobody knows the figure now."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from portfolio_stream.watch.thresholds import STUCK_JOB_SECONDS

#: states of the job that end by themselves
PASSING = ("stopping", "migrating")
AuditVerdict = Literal["holds", "violated", "unverifiable", "starting", "not audited"]


class KafkaFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What Kafka tells. While no broker answers, `live` is 0 and the rest is of the last look."""

    #: registered brokers; 0: no broker has ever answered
    brokers: int
    #: registered brokers that Kafka gets heartbeats of
    live: int
    has_controller: bool
    offline_partitions: int
    under_replicated_partitions: int
    under_min_isr_partitions: int


class StepShares(msgspec.Struct, frozen=True, kw_only=True):
    """Shares of a second, of the last seconds: how long the steps of one worker worked, and waited for the next one.

    The main loop decodes (source), folds, and waits for the transaction in flight. These three shares are at most 1
    together; the rest of the loop's time is closing transactions, serving requests, and waiting for records.
    """

    source_busy: float
    fold_busy: float
    #: a transaction was on its way to Kafka, beside the loop
    commit_busy: float
    #: the loop was at the fold, or waited for the transaction in flight
    source_waits: float
    #: the loop waited for the transaction in flight
    fold_waits: float


class WorkerAtWork(msgspec.Struct, frozen=True, kw_only=True):
    """One worker that answers."""

    worker: str
    is_ready: bool
    partitions: tuple[int, ...]
    #: committed source records in a second
    events_per_second: float | None
    steps: StepShares | None
    #: committed transactions in a second
    transactions_per_second: float | None = None
    #: CPU seconds of the process in a second, of the last seconds; may be above 1
    cpu_share: float | None = None
    #: host of the worker's address: workers with the same one share a machine
    host: str | None = None
    #: of the machine, that the worker may use
    cores: int | None = None


class PartitionAtWork(msgspec.Struct, frozen=True, kw_only=True):
    """One partition of the source."""

    #: running, paused, recovering, halted, unowned, silent or foreign
    state: str
    owner: str | None
    #: records; None if Kafka does not tell it
    lag: int | None
    lag_seconds: float | None
    #: records in a second, of the last minute
    produced_per_second: float | None
    processed_per_second: float | None


class SystemFigures(msgspec.Struct, frozen=True, kw_only=True):
    #: UNIX seconds
    at: float
    #: None: nobody has looked yet
    kafka: KafkaFigures | None = None
    #: used share of each disk, by a name for people ("broker 1 /var/lib/kafka", "worker w1 state")
    disks: Mapping[str, float] = {}
    #: what the operator wants: running, paused, stopping, stopped, cancelled or migrating; None: unknown
    job_state: str | None = None
    #: for how long the operator has wanted that; None: unknown
    job_seconds: float | None = None
    #: partitions of the job; None: unknown
    job_partitions: int | None = None
    workers: tuple[WorkerAtWork, ...] = ()
    #: by number
    partitions: Mapping[int, PartitionAtWork] = {}
    #: members of the group that do not answer
    silent_workers: tuple[str, ...] = ()
    #: seconds below which 99 % of the latencies of the last minute lie; None without a record
    p99: float | None = None
    #: share of the checkpoints decided in the last CHECKPOINTS_WINDOW_SECONDS that failed; None without a checkpoint
    failed_checkpoints: float | None = None
    verdict: AuditVerdict = "not audited"
    #: UNIX seconds of the last pass that reached a verdict; None if no auditor answers, or it has reached none
    decided_at: float | None = None

    @property
    def lag(self) -> int | None:
        """Records behind of all partitions; None if that of one is unknown."""
        lags = [one.lag for one in self.partitions.values()]
        return sum(lag for lag in lags if lag is not None) if lags and None not in lags else None

    @property
    def is_job_wanted(self) -> bool:
        """Whether the job is to run: the time for which it is judged. A job that is stuck in PASSING is to go on."""
        return self.job_state == "running" or self.is_job_stuck

    @property
    def is_job_stuck(self) -> bool:
        return self.job_state in PASSING and self.job_seconds is not None and self.job_seconds > STUCK_JOB_SECONDS

    @property
    def missing_partitions(self) -> int | None:
        """How many partitions are not processed although the operator wants the job to run; None: unknown."""
        if self.job_state is None or self.job_partitions is None:
            return None
        if not self.is_job_wanted:
            return 0
        return self.job_partitions - sum(one.state == "running" for one in self.partitions.values())

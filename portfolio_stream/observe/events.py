"""The worker events: a frozen class for each kind of thing that happens in a worker.

1. An event has an action, a level and fields. A field's name carries its unit.
2. An event's text form is its log line: the action, then each field as name=value.
3. No field holds an amount, a portfolio id or a secret.
4. An event that an outage repeats is told once in `repeat_seconds`, however often it happens.
"""

import logging
from typing import ClassVar, NamedTuple

import msgspec

OUTAGE_SECONDS = 10.0  # a broker that is away lets some events happen forty times a second


class Span(NamedTuple):
    """A range of offsets, the last one included."""

    first: int
    last: int


Field = str | bool | int | float | Span | tuple[int, ...] | None


class WorkerEvent(msgspec.Struct, frozen=True, kw_only=True):
    action: ClassVar[str]
    level: ClassVar[int] = logging.INFO
    #: an event of this kind is told at most once in so many seconds; 0: every event is told
    repeat_seconds: ClassVar[float] = 0.0

    def fields(self) -> dict[str, Field]:
        """Returns the values by field name, in the order of the class. A field may be renamed for readers (`name=`)."""
        return {
            name: getattr(self, attribute)
            for attribute, name in zip(self.__struct_fields__, self.__struct_encode_fields__, strict=True)
        }

    def text(self) -> str:
        return " ".join([self.action, *(f"{name}={_shown(value)}" for name, value in self.fields().items())])


def _shown(value: Field) -> str:
    if isinstance(value, Span):
        return f"{value.first}..{value.last}"
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.1f}" if isinstance(value, float) else str(value)


# -- the worker


class EngineStarted(WorkerEvent, frozen=True, kw_only=True):
    action = "engine started"
    instance: str
    partitions: int
    #: of the job
    generation: int


class StartEnded(WorkerEvent, frozen=True, kw_only=True):
    """All partitions that the group gave first run or are halted. How long each step of the start took."""

    action = "start ended"
    process_milliseconds: float
    store_milliseconds: float
    topics_milliseconds: float
    job_milliseconds: float
    connections_milliseconds: float
    fold_milliseconds: float
    fence_milliseconds: float
    join_milliseconds: float
    recovery_milliseconds: float


class FoldNotChecked(WorkerEvent, frozen=True, kw_only=True):
    """The start could not find out which fold signature the state has. The recovery checks that again."""

    action = "fold not checked before the start"
    error: str


class StoppedInDoubt(WorkerEvent, frozen=True, kw_only=True):
    """The outcome of the last transaction is unknown. The next start settles the transaction."""

    action = "stopped in doubt"
    level = logging.WARNING
    reason: str


class EngineStopped(WorkerEvent, frozen=True, kw_only=True):
    action = "engine stopped"
    instance: str
    #: every transaction has a known outcome
    is_settled: bool
    #: the worker is still a member of the group
    remains: bool


class StoreNotFlushed(WorkerEvent, frozen=True, kw_only=True):
    """The disk is full. The changelog has the values that could not be flushed."""

    action = "store not flushed"
    level = logging.WARNING
    reason: str


# -- the membership


class MemberJoined(WorkerEvent, frozen=True, kw_only=True):
    action = "membership joined"
    epoch: int


class MemberExpelled(WorkerEvent, frozen=True, kw_only=True):
    action = "membership lost"
    level = logging.WARNING
    error: str
    #: the member epoch that the coordinator refused; 0: it refused a join
    epoch: int


class HeartbeatUnanswered(WorkerEvent, frozen=True, kw_only=True):
    action = "heartbeat unanswered"
    repeat_seconds = OUTAGE_SECONDS
    error: str


class LeftWithoutGoodbye(WorkerEvent, frozen=True, kw_only=True):
    """The coordinator did not answer the goodbye. The session time-out ends the membership."""

    action = "left without goodbye"
    error: str


class PartitionsRevoked(WorkerEvent, frozen=True, kw_only=True):
    action = "revoked"
    partitions: tuple[int, ...]
    milliseconds: float


# -- recovery


class RecoveryOutage(WorkerEvent, frozen=True, kw_only=True):
    action = "recovery waits for the brokers"
    repeat_seconds = OUTAGE_SECONDS
    error: str


class OperationDelayed(WorkerEvent, frozen=True, kw_only=True):
    """This worker could not do its part of an operation. It tries again."""

    action = "operation delayed"
    level = logging.WARNING
    repeat_seconds = OUTAGE_SECONDS
    reason: str
    remedy: str


class SavepointCompleted(WorkerEvent, frozen=True, kw_only=True):
    action = "savepoint completed"
    savepoint: str
    #: of its operation
    state: str


class ControlOutage(WorkerEvent, frozen=True, kw_only=True):
    action = "control topic does not answer"
    level = logging.WARNING
    repeat_seconds = OUTAGE_SECONDS
    error: str


class OrderFollowed(WorkerEvent, frozen=True, kw_only=True):
    action = "order followed"
    is_joined: bool = msgspec.field(name="joined")
    pauses: str
    generation: int
    reason: str


class GenerationNotKnown(WorkerEvent, frozen=True, kw_only=True):
    action = "generation replaced"
    level = logging.WARNING
    generation: int
    newest: int


class StartPostponed(WorkerEvent, frozen=True, kw_only=True):
    action = "start postponed"
    level = logging.WARNING
    error: str
    reason: str


class RecoveryWaits(WorkerEvent, frozen=True, kw_only=True):
    action = "recovery waits"
    level = logging.WARNING
    partitions: tuple[int, ...]
    what: str = msgspec.field(name="for")


class ChangelogUnreadable(WorkerEvent, frozen=True, kw_only=True):
    action = "changelog unreadable"
    level = logging.ERROR
    partition: int
    offset: int
    tries: int = msgspec.field(name="try")


class StoreWiped(WorkerEvent, frozen=True, kw_only=True):
    """The partition is replayed from the changelog's beginning."""

    action = "store wiped"
    level = logging.WARNING
    partition: int
    #: where the store had stopped in the changelog
    position: int
    #: the changelog's bounds
    changelog: Span
    #: the time since the store last held the whole changelog
    absent_seconds: float


class RecoveryProgress(WorkerEvent, frozen=True, kw_only=True):
    """How far the replays of the changelog are, all together."""

    action = "recovery goes on"
    partitions: tuple[int, ...]
    percent: int
    records_remaining: int
    records_per_second: float
    #: None if nothing came lately
    seconds_left: float | None


class PartitionRecovered(WorkerEvent, frozen=True, kw_only=True):
    action = "recovered"
    partition: int
    #: next source offset
    offset: int
    #: changelog records
    replayed: int
    milliseconds: float


class RepeatBegan(WorkerEvent, frozen=True, kw_only=True):
    """The partition folds records again whose outputs stand already: what the fold gives is compared, not written."""

    action = "repeat began"
    partition: int
    #: at most; the offsets of markers and aborted records count, too
    outputs: int


class RepeatEnded(WorkerEvent, frozen=True, kw_only=True):
    """The fold has given once more every output that stood. From here on outputs are written."""

    action = "repeat ended"
    partition: int


class GroupOffsetCommittedAgain(WorkerEvent, frozen=True, kw_only=True):
    """The group had no offset for the partition, so the offset of the state is committed."""

    action = "group offset absent, committed again"
    level = logging.WARNING
    partition: int
    offset: int


# -- standbys


class StandbysChanged(WorkerEvent, frozen=True, kw_only=True):
    """The worker follows the changelogs of these partitions, which it does not own."""

    action = "standbys changed"
    partitions: tuple[int, ...]


class StandbyOutage(WorkerEvent, frozen=True, kw_only=True):
    """The following waits. The worker's own partitions go on."""

    action = "standbys wait"
    repeat_seconds = OUTAGE_SECONDS
    error: str


class StandbyRefused(WorkerEvent, frozen=True, kw_only=True):
    """The changelog gives no whole state: the partition is not followed for a while."""

    action = "standby refused"
    level = logging.WARNING
    partition: int
    reason: str


# -- one partition


class FetchOutOfRange(WorkerEvent, frozen=True, kw_only=True):
    action = "fetch out of range"
    level = logging.WARNING
    partition: int
    offset: int


class FetchFailed(WorkerEvent, frozen=True, kw_only=True):
    action = "fetch failed"
    level = logging.ERROR
    partition: int
    offset: int
    tries: int = msgspec.field(name="try")
    reason: str


class FoldFailed(WorkerEvent, frozen=True, kw_only=True):
    """Nothing of these records is committed. They are read again in smaller slices."""

    action = "fold failed"
    level = logging.ERROR
    partition: int
    offsets: Span
    #: how often one record failed alone; 0: several records failed together
    tries: int = msgspec.field(name="try")
    error: str
    reason: str


class PartitionStopped(WorkerEvent, frozen=True, kw_only=True):
    """The partition is halted: it waits for an operator. The other partitions go on."""

    action = "partition stopped"
    level = logging.ERROR
    partition: int
    offset: int | None
    reason: str


class PartitionRetried(WorkerEvent, frozen=True, kw_only=True):
    """An operator asked to recover a halted partition again."""

    action = "partition retried"
    level = logging.WARNING
    partition: int
    #: where the partition was halted
    offset: int | None


class GroupOffsetPutBack(WorkerEvent, frozen=True, kw_only=True):
    """An operator asked to commit the state's offset for the group, whose offset another program had moved."""

    action = "group offset put back"
    level = logging.WARNING
    partition: int
    offset: int


class RecordSetAside(WorkerEvent, frozen=True, kw_only=True):
    """An operator asked to move the record that halted its partition."""

    action = "record moved to the dead letters"
    level = logging.WARNING
    partition: int
    offset: int


class DeadLetterRefused(WorkerEvent, frozen=True, kw_only=True):
    """The app could not write the dead letter that an operator asked for. The partition stays halted."""

    action = "dead letter failed"
    level = logging.ERROR
    partition: int
    offset: int
    error: str


# -- transactions


class ProduceRefused(WorkerEvent, frozen=True, kw_only=True):
    action = "produce refused"
    level = logging.WARNING
    topic: str
    partition: int
    error: str


class SlowCommit(WorkerEvent, frozen=True, kw_only=True):
    """How long each phase took: offsets, records, EndTxn, the local store."""

    action = "slow commit"
    level = logging.WARNING
    events: int
    reserve_milliseconds: float
    write_milliseconds: float
    end_milliseconds: float
    store_milliseconds: float


class TransactionUnsettled(WorkerEvent, frozen=True, kw_only=True):
    """The coordinator has not said yet how the last transaction ended."""

    action = "transaction unsettled"
    level = logging.WARNING
    seconds: float
    reason: str


class WorkDropping(WorkerEvent, frozen=True, kw_only=True):
    """Everything uncommitted is dropped. All partitions are recovered from Kafka."""

    action = "dropping uncommitted work"
    level = logging.WARNING
    #: the kind of doubt, as the metric has it
    kind: str
    reason: str


class WorkDropped(WorkerEvent, frozen=True, kw_only=True):
    action = "dropped"
    level = logging.WARNING
    milliseconds: float

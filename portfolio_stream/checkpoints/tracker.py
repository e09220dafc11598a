"""One worker's side of the checkpoints: when they begin, and how the parts of its partitions end. No I/O, no clock.

1. Time is cut into intervals that are aligned by the clock. The id of the checkpoint that begins at UNIX time t is
   t / interval, rounded down. So all workers know the ids without talking.
2. At the trigger, the worker notes for each of its partitions the offset behind the last record that it handed to the
   fold. The part is complete as soon as everything before this offset is committed and stored.
3. A worker that gets a partition while a checkpoint is in progress takes the part over. It goes on from the offset
   that the former owner has told. If nobody has told an offset, the worker takes the end that the log has after the
   recovery: nothing can have been read beyond it.
4. A part that is not complete within the time-out has failed, with the reason that TARDY names.
5. Nothing here changes the engine.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from portfolio_stream.checkpoints.parts import SLOTS, CheckpointPart, CheckpointStatus, TardyReason

PENDING_SECONDS = 1.0  # a part that takes longer is told as IN_PROGRESS: most parts end within a tenth of this


class Condition(Enum):
    """What the engine does with a partition that it owns."""

    READS = "reads"
    RECOVERS = "recovers"
    HALTED = "halted"
    PAUSED = "paused"


class PartitionLook(NamedTuple):
    """A partition that this worker owns, at one moment."""

    condition: Condition
    #: everything before this source offset is committed and stored; None: not known yet
    committed: int | None
    #: the offset behind the last record that was read; None: not known yet
    read: int | None
    #: the last stable offset of the partition's log, as the last fetch told it; None: not known yet
    end: int | None
    #: committed by this process so far
    records: int
    changelog_bytes: int
    #: estimates of the store; None: unknown
    state_rows: int | None = None
    state_bytes: int | None = None


class Instant(NamedTuple):
    #: UNIX seconds
    wall: float
    #: monotonic seconds
    monotonic: float


class ToldParts(NamedTuple):
    """What the group has told of a checkpoint."""

    triggered: int
    timeout_seconds: float
    #: partitions whose part has ended
    ended: Collection[int]
    #: the offset of each part that is in progress, where its owner has told one
    offsets: Mapping[int, int]


class PartState(Enum):
    #: the offset that must be committed is not known: the partition recovers
    BLIND = "blind"
    #: the offset is known
    WAITING = "waiting"
    COMPLETED = "completed"
    FAILED = "failed"


class PartEvent(Enum):
    #: the offset became known
    AIMED = "aimed"
    #: everything before the offset is committed and stored
    REACHED = "reached"
    #: the time-out is over
    EXPIRED = "expired"


#: what may follow what. A part that goes to another worker is forgotten here: the other worker takes it over
TRANSITIONS: Mapping[tuple[PartState, PartEvent], PartState] = {
    (PartState.BLIND, PartEvent.AIMED): PartState.WAITING,
    (PartState.BLIND, PartEvent.EXPIRED): PartState.FAILED,
    (PartState.WAITING, PartEvent.REACHED): PartState.COMPLETED,
    (PartState.WAITING, PartEvent.EXPIRED): PartState.FAILED,
}
ENDED = frozenset({PartState.COMPLETED, PartState.FAILED})

#: how a part is told
STATUS: Mapping[PartState, CheckpointStatus] = {
    PartState.BLIND: "IN_PROGRESS",
    PartState.WAITING: "IN_PROGRESS",
    PartState.COMPLETED: "COMPLETED",
    PartState.FAILED: "FAILED",
}

#: why a part is not complete, by the partition's condition
TARDY: Mapping[Condition, TardyReason] = {
    Condition.READS: "late",
    Condition.RECOVERS: "recovering",
    Condition.HALTED: "halted",
    Condition.PAUSED: "paused",
}


@dataclass(slots=True)
class _OpenPart:
    state: PartState = PartState.BLIND
    #: everything before this source offset must be committed; None while BLIND
    offset: int | None = None
    #: it was told that the part is in progress
    is_told: bool = False


@dataclass(slots=True)
class _Open:
    """A checkpoint in progress."""

    triggered: int
    timeout_seconds: float
    #: monotonic seconds of the trigger
    since: float
    parts: dict[int, _OpenPart] = field(default_factory=dict)


class PartCounts(NamedTuple):
    records: int = 0
    changelog_bytes: int = 0


class Tracker:
    def __init__(self, worker: str, interval_seconds: float, timeout_seconds: float) -> None:
        self._worker = worker
        self._interval = interval_seconds
        self._timeout = timeout_seconds
        #: the newest checkpoint that this worker has begun, or was too late for; None before the first look
        self._last: int | None = None
        self._open: dict[int, _Open] = {}
        #: the counts at the last complete part, by partition
        self._told: dict[int, PartCounts] = {}

    def step(
        self,
        now: Instant,
        looks: Mapping[int, PartitionLook],
        partition_count: int,
        known: Mapping[int, ToldParts],
    ) -> list[CheckpointPart]:
        """Returns the parts that must be told now.

        `looks` has the partitions that this worker owns. `known` is what the group has told of the checkpoints whose
        time-out is not over, decided or not.
        """
        begun = self._begun(now.wall)
        if begun is not None and looks:
            self._open[begun] = _opened(now, round(begun * self._interval * 1000), self._timeout)
        for checkpoint, told in known.items():
            if checkpoint not in self._open and 0 <= now.wall - told.triggered / 1000 <= told.timeout_seconds:
                self._open[checkpoint] = _opened(now, told.triggered, told.timeout_seconds)
        parts = []
        for checkpoint, one in self._open.items():
            age = now.monotonic - one.since
            _forget(one, looks)
            if age <= one.timeout_seconds:
                _take_over(one, looks, known.get(checkpoint), is_new=checkpoint == begun)
            for partition, part in one.parts.items():
                if _has_news(part, looks[partition], age, one.timeout_seconds):
                    parts.append(self._part(checkpoint, partition, looks[partition], now, partition_count))
        self._open = {
            checkpoint: one
            for checkpoint, one in self._open.items()
            if now.monotonic - one.since <= one.timeout_seconds
        }
        return parts

    def age(self, now: Instant) -> float | None:
        """Seconds since the trigger of the newest checkpoint with a part in progress; None if all parts have ended."""
        ages = [
            now.monotonic - one.since
            for one in self._open.values()
            if any(part.state not in ENDED for part in one.parts.values())
        ]
        return min(ages, default=None)

    def seconds_until_next(self, wall: float) -> float:
        """Seconds until the next trigger."""
        return self._interval - wall % self._interval

    def _begun(self, wall: float) -> int | None:
        """The id of the checkpoint that begins now, if one does.

        A clock that is put back by less than SLOTS intervals begins no checkpoint twice. After a larger step the ids
        follow the clock again: otherwise a clock that was once far ahead would end the statistics.
        """
        checkpoint, last = int(wall // self._interval), self._last
        if last is not None and last - SLOTS < checkpoint <= last:
            return None
        self._last = checkpoint
        return None if last is None else checkpoint  # the present interval has begun before this worker

    def _part(
        self, checkpoint: int, partition: int, look: PartitionLook, now: Instant, partition_count: int
    ) -> CheckpointPart:
        one = self._open[checkpoint]
        part = one.parts[partition]
        grown = PartCounts()
        if part.state is PartState.COMPLETED:
            counted, before = PartCounts(look.records, look.changelog_bytes), self._told.get(partition, PartCounts())
            self._told[partition] = counted
            grown = PartCounts(*(after - earlier for after, earlier in zip(counted, before, strict=True)))
        has_ended = part.state in ENDED
        return CheckpointPart(
            checkpoint=checkpoint,
            triggered=one.triggered,
            partitions=partition_count,
            timeout_seconds=one.timeout_seconds,
            partition=partition,
            worker=self._worker,
            status=STATUS[part.state],
            offset=part.offset,
            seconds=round(now.monotonic - one.since, 3) if has_ended else None,
            records=grown.records,
            changelog_bytes=grown.changelog_bytes,
            state_rows=look.state_rows if has_ended else None,
            state_bytes=look.state_bytes if has_ended else None,
            reason=_reason(part, look),
        )


def _reason(part: _OpenPart, look: PartitionLook) -> TardyReason | None:
    if part.state is PartState.COMPLETED:
        return None
    is_found = part.offset is not None or look.condition is not Condition.READS
    return TARDY[look.condition if is_found else Condition.RECOVERS]


def _opened(now: Instant, triggered: int, timeout_seconds: float) -> _Open:
    return _Open(triggered, timeout_seconds, now.monotonic - max(0.0, now.wall - triggered / 1000))


def _forget(one: _Open, looks: Mapping[int, PartitionLook]) -> None:
    """Forget the parts of partitions that this worker has lost."""
    for partition in one.parts.keys() - looks.keys():
        del one.parts[partition]


def _take_over(one: _Open, looks: Mapping[int, PartitionLook], told: ToldParts | None, *, is_new: bool) -> None:
    """Begin a part for each owned partition without one, unless the group knows how it has ended."""
    for partition, look in looks.items():
        if partition in one.parts or (told is not None and partition in told.ended):
            continue
        offset = None if told is None else told.offsets.get(partition)
        one.parts[partition] = part = _OpenPart()
        _aim(part, look.read if is_new else offset)


def _aim(part: _OpenPart, offset: int | None) -> None:
    if offset is not None:
        part.state, part.offset = TRANSITIONS[part.state, PartEvent.AIMED], offset


def _has_news(part: _OpenPart, look: PartitionLook, age: float, timeout_seconds: float) -> bool:
    """Follow the part. Returns whether it must be told."""
    if part.state in ENDED:
        return False
    if part.state is PartState.BLIND:
        _aim(part, _latest_read(look))
    if part.offset is not None and look.committed is not None and look.committed >= part.offset:
        part.state = TRANSITIONS[part.state, PartEvent.REACHED]
        return True
    if age > timeout_seconds:
        part.state = TRANSITIONS[part.state, PartEvent.EXPIRED]
        return True
    is_first = age >= PENDING_SECONDS and not part.is_told
    part.is_told |= is_first
    return is_first


def _latest_read(look: PartitionLook) -> int | None:
    """The offset beyond which nobody can have read; None while it is not known.

    An end before the committed offset is an old one: this worker has fetched nothing since the recovery.
    """
    if look.condition is not Condition.READS:
        return look.read
    if look.end is None or look.committed is None or look.end < look.committed:
        return None
    return look.end

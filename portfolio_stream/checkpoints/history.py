"""The last checkpoints of the job, folded from the parts that all workers tell. Every worker folds the same records.

1. A slot shows its newest checkpoint. A checkpoint's first record clears what the slot had before.
2. Of two records about one part, a complete one beats a failed one, and a failed one beats one in progress. A part that
   moved between two workers so counts once.
3. A checkpoint is COMPLETED when every part is complete, and FAILED when a part has failed, or has not ended
   GRACE_SECONDS after the time-out. So the fold needs the time, and nothing else besides the records.
4. A checkpoint of which no worker has told anything has not been triggered: no worker had a partition then.
5. A record from a clock that is ahead of ours is ignored: it would hide the true checkpoints until our clock is there.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from portfolio_stream.checkpoints.parts import SLOTS, CheckpointPart, CheckpointStatus, TardyReason, read_part
from portfolio_stream.checkpoints.tracker import ToldParts
from portfolio_stream.exactly_once.ports import Record
from portfolio_stream.kafka.record_batches import UnreadableBatch

GRACE_SECONDS = 5.0  # for the last records to arrive, through a slow broker
AHEAD_SECONDS = 5.0  # clocks of one cluster differ by less
_RANK: Mapping[CheckpointStatus, int] = {"IN_PROGRESS": 0, "FAILED": 1, "COMPLETED": 2}


class PartFailure(NamedTuple):
    partition: int
    #: the worker that told it last; None if no worker told anything
    worker: str | None
    reason: TardyReason


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint as it is known now."""

    id: int
    #: milliseconds since 1970
    triggered: int
    status: CheckpointStatus
    #: how many parts there are
    partitions: int
    #: by partition, as far as they are known
    parts: Mapping[int, CheckpointPart]
    failures: Sequence[PartFailure]
    #: UNIX seconds at which it was complete, or at which its first part had failed; None: it is in progress
    decided: float | None

    @property
    def completed_partitions(self) -> int:
        return sum(part.status == "COMPLETED" for part in self.parts.values())

    @property
    def seconds(self) -> float | None:
        """From the trigger to the end of the last part; None until then."""
        seconds = [part.seconds for part in self.parts.values() if part.seconds is not None]
        return max(seconds, default=None) if self.status == "COMPLETED" else None

    @property
    def changelog_bytes(self) -> int:
        return sum(part.changelog_bytes for part in self.parts.values())

    @property
    def records(self) -> int:
        return sum(part.records for part in self.parts.values())

    @property
    def state_rows(self) -> int | None:
        return _total([part.state_rows for part in self.parts.values()])

    @property
    def state_bytes(self) -> int | None:
        return _total([part.state_bytes for part in self.parts.values()])


def _total(values: Sequence[int | None]) -> int | None:
    """The sum of the known values; None if none is known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


@dataclass(slots=True)
class _Kept:
    """What one slot has."""

    id: int
    triggered: int
    partitions: int
    timeout_seconds: float
    parts: dict[int, CheckpointPart] = field(default_factory=dict)
    #: it is in the totals
    is_counted: bool = False
    #: what is decided, until another record comes; a job with many partitions is not judged again at each scrape
    verdict: Checkpoint | None = None

    @property
    def end(self) -> float:
        """UNIX seconds of the end of the time-out."""
        return self.triggered / 1000 + self.timeout_seconds

    def ended(self, part: CheckpointPart | None) -> float:
        """UNIX seconds of the part's end. A part whose end nobody told ends with the fold's patience."""
        if part is None or part.seconds is None:
            return self.end + GRACE_SECONDS
        return self.triggered / 1000 + part.seconds


class History:
    """The last checkpoints, as a table that `kafka.follower` follows."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._began = clock()
        self._slots: dict[int, _Kept] = {}
        #: decided checkpoints that began after this process, by status
        self._totals: Counter[CheckpointStatus] = Counter()
        #: records that are no parts, and batches that cannot be read
        self.ignored = 0
        #: the table has reached the end that the topic had when the worker started
        self.is_ready = False
        #: committed records that are not read yet; None: unknown
        self.lag: int | None = None

    # -- what the follower tells

    def apply(self, records: Sequence[Record]) -> None:
        for record in records:
            part = read_part(record.key, record.value)
            if part is None or part.triggered / 1000 > self._clock() + AHEAD_SECONDS:
                self.ignored += 1
            else:
                self._take(part)

    def pass_over(self, batch: UnreadableBatch) -> None:
        self.ignored += 1

    def clear(self) -> None:
        self._slots.clear()
        self.is_ready = False

    def _take(self, part: CheckpointPart) -> None:
        slot = part.checkpoint % SLOTS
        kept = self._slots.get(slot)
        if kept is None or part.triggered > kept.triggered:
            if kept is not None:
                self._count(kept)
            kept = self._slots[slot] = _Kept(part.checkpoint, part.triggered, part.partitions, part.timeout_seconds)
        if part.checkpoint != kept.id or part.triggered != kept.triggered:
            return  # an older checkpoint: its other parts may be gone
        kept.partitions = max(kept.partitions, part.partitions)  # more partitions may have come meanwhile
        before = kept.parts.get(part.partition)
        if before is None or _RANK[part.status] > _RANK[before.status]:
            kept.parts[part.partition] = part
            kept.verdict = None

    # -- what readers ask

    def checkpoints(self) -> list[Checkpoint]:
        """The newest first."""
        now = self._clock()
        kept = sorted(self._slots.values(), key=lambda one: one.triggered, reverse=True)
        return [_judged(one, now) for one in kept]

    def seconds_since(self, checkpoint: Checkpoint) -> float:
        """Seconds since its trigger."""
        return max(0.0, self._clock() - checkpoint.triggered / 1000)

    def totals(self) -> Mapping[CheckpointStatus, int]:
        """How many checkpoints that began after this process are decided. A checkpoint counts once, at first sight."""
        for kept in self._slots.values():
            self._count(kept)
        return self._totals

    def recent(self) -> dict[int, ToldParts]:
        """What the group has told of the checkpoints whose time-out is not long over, decided or not."""
        now = self._clock()
        return {one.id: _told(one) for one in self._slots.values() if now <= one.end + GRACE_SECONDS}

    def _count(self, kept: _Kept) -> None:
        if kept.is_counted or kept.triggered / 1000 < self._began:
            return
        status = _judged(kept, self._clock()).status
        if status != "IN_PROGRESS":
            self._totals[status] += 1
            kept.is_counted = True


def _told(kept: _Kept) -> ToldParts:
    parts = kept.parts.items()
    ended = {partition for partition, part in parts if part.status != "IN_PROGRESS"}
    offsets = {p: part.offset for p, part in parts if p not in ended and part.offset is not None}
    return ToldParts(kept.triggered, kept.timeout_seconds, ended, offsets)


def _judged(kept: _Kept, now: float) -> Checkpoint:
    if kept.verdict is not None:
        return kept.verdict
    failures = tuple(_failures(kept, is_over=now > kept.end + GRACE_SECONDS))
    completed = sum(part.status == "COMPLETED" for part in kept.parts.values())
    status: CheckpointStatus = "FAILED" if failures else "COMPLETED" if completed == kept.partitions else "IN_PROGRESS"
    ends = [kept.ended(kept.parts.get(one.partition)) for one in failures]
    decided = None if status == "IN_PROGRESS" else min(ends) if ends else max(map(kept.ended, kept.parts.values()))
    parts = dict(sorted(kept.parts.items()))
    judged = Checkpoint(kept.id, kept.triggered, status, kept.partitions, parts, failures, decided)
    if status != "IN_PROGRESS":
        kept.verdict = judged
    return judged


def _failures(kept: _Kept, *, is_over: bool) -> Iterator[PartFailure]:
    for partition in range(kept.partitions):
        part = kept.parts.get(partition)
        if part is not None and part.status == "FAILED":
            yield PartFailure(partition, part.worker, part.reason or "late")
        elif is_over and (part is None or part.status == "IN_PROGRESS"):
            yield PartFailure(partition, None if part is None else part.worker, "no owner")


class Spread(NamedTuple):
    """How a figure is spread over checkpoints."""

    min: float
    max: float
    avg: float
    p50: float
    p90: float
    p99: float


def spread(values: Sequence[float]) -> Spread | None:
    """Each percentile is one of the values (nearest rank). None without a value."""
    if not values:
        return None
    ordered = sorted(values)

    def percentile(hundredths: int) -> float:
        return ordered[-(-len(ordered) * hundredths // 100) - 1]

    average = sum(ordered) / len(ordered)
    return Spread(ordered[0], ordered[-1], round(average, 3), percentile(50), percentile(90), percentile(99))

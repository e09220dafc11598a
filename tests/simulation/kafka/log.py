"""One partition's log: batches, transactions' markers, and the leader's knowledge of producers.

1. No offset is used twice. Markers have offsets of their own, and compaction leaves gaps.
2. The last stable offset is the offset of the first record of a transaction that has not ended.
3. A producer's epoch only grows. A batch of an older epoch is refused. Within an epoch, sequences go on without a gap.
   A resent batch gets the same answer as its first copy.
"""

import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from struct import Struct
from typing import Any
from uuid import UUID

from aiokafka.record import MemoryRecords
from kio.schema.errors import ErrorCode as E

from portfolio_stream.exactly_once.memory import MemoryRecord

BATCH_HEADER = Struct(">21xh20xqhii")  # attributes, producer id, epoch, base sequence, count
TRANSACTIONAL = 0x10
KEPT_BATCHES = 5  # of each producer, to recognise a resend


@dataclass(slots=True)
class Batch:
    base: int
    #: offset of the batch's last record, even if compaction took that record away
    last: int
    producer_id: int
    epoch: int
    records: list[MemoryRecord]
    size: int
    is_transactional: bool = False
    is_marker: bool = False
    is_aborted: bool = False


@dataclass(slots=True)
class _Producer:
    epoch: int
    #: next sequence
    sequence: int = 0
    #: (base sequence, count, base offset)
    recent: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=KEPT_BATCHES))


@dataclass(frozen=True, slots=True)
class Produced:
    """A Produce request's bytes for one partition, read."""

    producer_id: int
    epoch: int
    sequence: int
    is_transactional: bool
    records: list[tuple[int, int, bytes | None, bytes | None, Any]]
    size: int


def read_produced(data: bytes) -> Produced:
    attributes, producer_id, epoch, sequence, _ = BATCH_HEADER.unpack_from(data)
    batch = MemoryRecords(data).next_batch()
    records = [(r.offset, r.timestamp, r.key, r.value, r.headers) for r in batch]
    return Produced(producer_id, epoch, sequence, bool(attributes & TRANSACTIONAL), records, len(data))


class Log:
    def __init__(self, topic_id: UUID, *, takes_any_first_sequence: bool = False) -> None:
        self.topic_id = topic_id
        #: of a producer that it does not know (before KAFKA-18202)
        self._takes_any_first_sequence = takes_any_first_sequence
        self.batches: list[Batch] = []
        self.start = 0
        #: the high watermark: all written records are replicated
        self.end = 0
        #: first offset of each producer's open transaction
        self.open: dict[int, int] = {}
        #: callbacks, each called once, when the last stable offset moves or the leader is gone
        self.waiting: list[Callable[[], None]] = []
        #: the moment until which a tombstone stays, by offset
        self._horizons: dict[int, float] = {}
        self._lasts: list[int] = []
        self._producers: dict[int, _Producer] = {}

    @property
    def last_stable_offset(self) -> int:
        return min(self.open.values(), default=self.end)

    # -- writing

    def check(self, produced: Produced) -> tuple[E, int]:
        """The error of a batch, or none. A resent batch has the base offset of its first copy."""
        known = self._producers.get(produced.producer_id)
        if known is None:
            is_taken = produced.sequence == 0 or self._takes_any_first_sequence
            return (E.none, -1) if is_taken else (E.out_of_order_sequence_number, -1)
        if produced.epoch > known.epoch:
            return (E.none, -1) if produced.sequence == 0 else (E.out_of_order_sequence_number, -1)
        for sequence, count, base in known.recent:
            if (sequence, count) == (produced.sequence, len(produced.records)):
                return E.none, base
        return (E.none, -1) if produced.sequence == known.sequence else (E.out_of_order_sequence_number, -1)

    def is_fenced(self, producer_id: int, epoch: int) -> bool:
        known = self._producers.get(producer_id)
        return known is not None and epoch < known.epoch

    def has_open(self, producer_id: int, epoch: int) -> bool:
        known = self._producers.get(producer_id)
        return producer_id in self.open and known is not None and known.epoch == epoch

    def append(self, produced: Produced) -> Batch:
        base = self.end
        records = [MemoryRecord(base + offset, stamp, k, v, h) for offset, stamp, k, v, h in produced.records]
        known = self._producers.get(produced.producer_id)
        if known is None or known.epoch != produced.epoch:
            known = self._producers[produced.producer_id] = _Producer(produced.epoch)
        known.sequence = produced.sequence + len(records)
        known.recent.append((produced.sequence, len(records), base))
        batch = Batch(
            base, base + len(records) - 1, produced.producer_id, produced.epoch, records, produced.size,
            produced.is_transactional,
        )  # fmt: skip
        if produced.is_transactional:
            self.open.setdefault(produced.producer_id, base)
        self._add(batch)
        return batch

    def append_plain(self, records: Sequence[tuple[int, bytes | None, bytes | None]]) -> None:
        """Append records of a producer without transactions: (timestamp, key, value)."""
        base = self.end
        found = [MemoryRecord(base + i, stamp, key, value) for i, (stamp, key, value) in enumerate(records)]
        self._add(Batch(base, base + len(found) - 1, -1, -1, found, 100 * len(found)))

    def end_transaction(self, producer_id: int, epoch: int, *, is_committed: bool) -> None:
        """Append the marker, which already carries the next epoch (KIP-890)."""
        first = self.open.pop(producer_id, None)
        if first is not None and not is_committed:
            for batch in self.batches[bisect_left(self._lasts, first) :]:
                if batch.producer_id == producer_id:
                    batch.is_aborted = True
        known = self._producers.get(producer_id)
        if known is None or known.epoch < epoch:
            self._producers[producer_id] = _Producer(epoch)
        self._add(Batch(self.end, self.end, producer_id, epoch, [], 78, is_transactional=True, is_marker=True))

    def _add(self, batch: Batch) -> None:
        before = self.last_stable_offset
        self.batches.append(batch)
        self._lasts.append(batch.last)
        self.end = batch.last + 1
        if self.last_stable_offset != before:
            self.wake()

    def wake(self) -> None:
        waiting, self.waiting = self.waiting, []
        for callback in waiting:
            callback()

    # -- reading

    def read(self, position: int, until: int, most_bytes: int) -> tuple[list[list[MemoryRecord]], int]:
        """Committed records from `position` on, one list for each batch, and the position behind the read batches."""
        found: list[list[MemoryRecord]] = []
        size = 0
        for batch in self.batches[bisect_left(self._lasts, position) :]:
            if batch.base >= until or size >= most_bytes:
                break
            size += batch.size
            if not batch.is_aborted and not batch.is_marker:
                records = (
                    batch.records if batch.base >= position else [r for r in batch.records if r.offset >= position]
                )
                if records:
                    found.append(list(records))
            position = batch.last + 1
        return found, position

    # -- retention

    def compact(self, now: float, delete_retention_seconds: float) -> None:
        """The last value of each key stays, before the last stable offset; the newest batch is the active segment.

        A tombstone stays for `delete_retention_seconds` after the first pass that finds it to be its key's last
        (KIP-534).
        """
        until = self.last_stable_offset
        newest = {}
        for batch in self.batches:
            for record in batch.records:
                if not batch.is_aborted and record.offset < until:
                    newest[record.key] = record.offset
        for batch in self.batches[:-1]:
            if batch.last < until:
                kept = [r for r in batch.records if newest.get(r.key) == r.offset and not batch.is_aborted]
                batch.records = [r for r in kept if r.value is not None or self._outlasts(r.offset, now)]
                for record in batch.records:
                    if record.value is None:
                        self._horizons.setdefault(record.offset, now + delete_retention_seconds)

    def _outlasts(self, tombstone: int, now: float) -> bool:
        return now < self._horizons.get(tombstone, math.inf)

    def trim(self, start: int) -> None:
        """Retention deletes the records before."""
        self.start = max(self.start, min(start, self.end))
        gone = bisect_left(self._lasts, self.start)
        del self.batches[:gone], self._lasts[:gone]

"""Slices on their way through a fold: cut from what was fetched, handed out, acknowledged or failed.

A slice is acknowledged when its fold asks for the next one; one that fails, or that was dropped meanwhile, changes
nothing. At most SLICE_RECORDS records and SLICE_BYTES bytes are on their way at a time, and no more records than were
folded in SLICE_SECONDS lately: heartbeats wait for a slice.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.ports import Append, TableDefinition
from portfolio_stream.exactly_once.store import Store, StoredView
from portfolio_stream.exactly_once.transaction import Part

V = TypeVar("V")

SLICE_RECORDS = 500  # some 5 ms of folding: heartbeats and commits get their turn in between
SLICE_SECONDS = 0.1  # some events cost much more than others, e.g. of a portfolio with thousands of currencies
SLICE_BYTES = 4 << 20  # keys and values; events are small, but a record may hold megabytes


class Slice:
    """Records of one partition on their way through a fold (see ports.Slice)."""

    __slots__ = ("_part", "_partitions", "_store", "incarnation", "partition", "partition_count", "records")

    def __init__(
        self, partitions: Partitions, store: Store, part: Part, records: Sequence[Any], partition_count: int
    ) -> None:
        self._partitions = partitions
        self._store = store
        self._part = part
        self.partition = part.partition
        self.partition_count = partition_count
        self.incarnation = part.incarnation
        self.records = records

    @property
    def is_current(self) -> bool:
        """False for a slice that was fetched before a drop: it will be read again."""
        return self._partitions.incarnation(self.partition) == self.incarnation

    def view(self, table: TableDefinition[V]) -> StoredView[V]:
        """Of a slice that was dropped while its fold waited: one that nobody sees."""
        if not self.is_current:
            return StoredView(table, self._store, self.partition)
        return self._partitions.view(self.partition, table)

    def appender(self, topic: str) -> Append:
        return self._part.appender(topic)

    def count(self, **outcomes: int) -> None:
        """Counted when the slice's transaction has committed."""
        self._part.counts.update(outcomes)

    def acknowledge(self) -> None:
        part, last = self._part, self.records[-1]
        part.position = last.offset + 1
        part.events += len(self.records)
        part.latest_timestamps.append((last.timestamp, len(self.records)))


Deliver = Callable[[Slice], Awaitable[None]]


class Failure(NamedTuple):
    """A slice whose fold raised."""

    piece: Slice
    error: BaseException


def cut(batches: list[list[Any]], most: Callable[[], int]) -> Iterator[tuple[list[Any], int]]:
    """Records and their bytes; `most` is how many records the next slice may have."""
    for batch in batches:
        start = 0
        while start < len(batch):
            records = batch[start : start + most()]
            size = _bytes_of(records)
            while len(records) > 1 and size > SLICE_BYTES:
                records = records[: len(records) // 2]
                size = _bytes_of(records)
            yield records, size
            start += len(records)


def _bytes_of(records: Sequence[Any]) -> int:
    return sum(len(record.value or b"") + len(record.key or b"") for record in records)


class Handout:
    """The slices that are on their way."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        #: how many records may be on their way
        self.limit = SLICE_RECORDS
        self._slices = 0
        self._records = 0
        self._started = 0.0
        self._bytes = 0
        self._settled = asyncio.Event()
        self._settled.set()

    @property
    def is_full(self) -> bool:
        return self._records >= self.limit or self._bytes >= SLICE_BYTES

    def add(self, records: int, size: int) -> None:
        if not self._records:
            self._started = time.perf_counter()
        self._slices += 1
        self._records += records
        self._bytes += size
        self._settled.clear()

    async def settled(self) -> int:
        """Wait until each was acknowledged, discarded or failed; the bytes handed out since the last time."""
        await self._settled.wait()
        if self._records:
            self._adapt(time.perf_counter() - self._started)
        size, self._records, self._bytes = self._bytes, 0, 0
        return size

    def _adapt(self, seconds: float) -> None:
        if seconds > SLICE_SECONDS:
            self.limit = max(1, min(self.limit, int(self._records * SLICE_SECONDS / seconds)))
        else:
            self.limit = min(SLICE_RECORDS, self.limit * 2)

    def take_failures(self) -> list[Failure]:
        failures, self.failures = self.failures, []
        return failures

    def release(self) -> None:
        self._slices -= 1
        if self._slices == 0:
            self._settled.set()

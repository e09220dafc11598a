"""Slices on their way through a fold: cut from fetched batches, handed out, acknowledged or failed.

A slice is acknowledged when its fold asks for the next slice. A slice that fails, or that becomes void on its way,
changes nothing. Heartbeats wait for a slice, so at most SLICE_RECORDS records and SLICE_BYTES bytes are on their way at
a time, and no more records than the fold takes in SLICE_SECONDS, as far as the last slices show.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, TypeVar

from portfolio_stream.errors import TopicNotAnOutput
from portfolio_stream.exactly_once.failures import FOLD_FAILED, Failure
from portfolio_stream.exactly_once.partitions import Partition
from portfolio_stream.exactly_once.ports import Append, TableDefinition
from portfolio_stream.exactly_once.stored_view import StoredView
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.views import Views

V = TypeVar("V")

SLICE_RECORDS = 500  # some 5 ms of folding: heartbeats and commits get their turn in between
SLICE_SECONDS = 0.01  # some events cost much more than others, e.g. of a portfolio with thousands of currencies
FIRST_RECORDS = 64  # as long as nobody knows what a record costs; the limit doubles after each cheap slice
SLICE_BYTES = 4 << 20  # keys and values; events are small, but a record may hold megabytes


class Slice:
    """Records of one partition on their way through a fold (see ports.FoldSlice)."""

    __slots__ = (
        "_known", "_outputs", "_share", "_views", "incarnation", "partition", "partition_count", "records", "size",
    )  # fmt: skip

    def __init__(
        self,
        known: Partition,
        views: Views,
        share: Share,
        records: Sequence[Any],
        *,
        partition_count: int,
        outputs: Collection[str],
        size: int = 0,
    ) -> None:
        """`outputs` are the topics that a fold may append to. `size`: bytes of the records' keys and values."""
        self._known = known
        self._views = views
        self._share = share
        self._outputs = outputs
        self.partition = share.partition
        self.partition_count = partition_count
        self.incarnation = share.incarnation
        self.records = records
        self.size = size

    @property
    def is_current(self) -> bool:
        """False for a slice that is void: its records will be read again."""
        return self._known.incarnation == self.incarnation

    def is_of(self, known: Partition) -> bool:
        """The slice was read of this partition, and not of the same one before the engine left and joined again."""
        return self._known is known

    def view(self, table: TableDefinition[V]) -> StoredView[V]:
        """The partition's view. A slice that became void while its fold waited gets a view that nobody else sees."""
        if not self.is_current:
            return self._views.unshared(self.partition, table)
        return self._views.view(self.partition, table)

    def appender(self, topic: str) -> Append:
        """Raises TopicNotAnOutput."""
        if topic not in self._outputs:
            raise TopicNotAnOutput(topic)
        return self._share.appender(topic)

    def count(self, **outcomes: int) -> None:
        """Add to the statistics, once the slice's transaction is committed."""
        counts = self._share.counts
        for outcome, times in outcomes.items():
            counts[outcome] += times

    def failure(self, error: BaseException) -> Failure:
        """The failure of this slice, whose fold raised `error`."""
        first, last = self.records[0], self.records[-1].offset
        return Failure(self.partition, FOLD_FAILED, error, first=first, last=last, records=len(self.records))

    def acknowledge(self) -> None:
        share, last = self._share, self.records[-1]
        if share.first is None:
            share.first = self.records[0]
        share.position = last.offset + 1
        share.events += len(self.records)
        share.source_bytes += self.size
        share.latest_timestamps.append((last.timestamp, len(self.records)))


Deliver = Callable[[Slice], Awaitable[None]]


def cut(batches: list[list[Any]], most: Callable[[], int]) -> Iterator[tuple[list[Any], int]]:
    """The records of each slice, and their bytes. `most` tells how many records the next slice may have."""
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
    """Counts the slices that are on their way, and bounds them."""

    def __init__(self) -> None:
        self.failures: list[Failure] = []
        self._seconds = 0.0
        #: how many records may be on their way
        self.limit = FIRST_RECORDS
        self._slices = 0
        self._records = 0
        #: records on their way
        self.waiting = 0
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
        self.waiting += records
        self._bytes += size
        self._settled.clear()

    async def settled(self) -> int:
        """Wait until each slice was acknowledged, discarded or failed. Returns the bytes since the last call."""
        await self._settled.wait()
        if self._records:
            seconds = time.perf_counter() - self._started
            self._seconds += seconds
            self._adapt(seconds)
        size, self._records, self._bytes = self._bytes, 0, 0
        return size

    def _adapt(self, seconds: float) -> None:
        fitting = max(1, int(self._records * SLICE_SECONDS / seconds)) if seconds > 0 else SLICE_RECORDS
        if seconds > SLICE_SECONDS:
            self.limit = min(self.limit, fitting)
        else:  # some cheap records say little about many
            self.limit = min(SLICE_RECORDS, self.limit * 2, max(self.limit, fitting))

    def take_seconds(self) -> float:
        """Returns the seconds since the last call in which slices were on their way."""
        seconds, self._seconds = self._seconds, 0.0
        return seconds

    def take_failures(self) -> list[Failure]:
        failures, self.failures = self.failures, []
        return failures

    def release(self, records: int) -> None:
        """A slice of so many records is on its way no more."""
        self._slices -= 1
        self.waiting -= records
        if self._slices == 0:
            self._settled.set()

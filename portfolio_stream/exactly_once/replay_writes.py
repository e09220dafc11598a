"""Writes replayed records to the store: many at once, the newest value of each key, in key order.

1. RocksDB takes sorted keys several times as fast as unsorted ones. A changelog has the same key again and again, so
   many records need no write at all.
2. One write runs in the store's thread while the loop fetches and decodes the next records. The next write waits for
   the end of the first one. So at most two writes are in memory.
3. A write has records of one partition, and the changelog position behind them. A cancelled replay loses the records
   that are not written yet. The next replay begins at the store's position, and reads these records again.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.store import ChangelogPosition, Store, prefix_of

#: a write while no partition runs: some 20 MB of records; sorting them holds the GIL for some 50 ms
MANY_RECORDS = 64_000
#: a write beside folds: sorting holds the GIL for some 4 ms; a fetch brings some 4,000 records
FEW_RECORDS = 8_000

#: the changelog position of a partition behind an offset
PositionAt = Callable[[int, int], ChangelogPosition]


def newest_values(partition: int, batches: Sequence[Sequence[Any]]) -> Iterator[Item]:
    """Yields the last value of each key, with store keys, in key order. The work begins with the first item."""
    values = {record.key: record.value for batch in batches for record in batch}
    prefix = prefix_of(partition)
    for key in sorted(values):
        yield prefix + key, values[key]


class ReplayWrites:
    """The records of one run of the replay on their way to the store."""

    def __init__(self, store: Store, position_at: PositionAt) -> None:
        self._store = store
        self._position_at = position_at
        #: record batches that wait for a write, by partition
        self._waiting: dict[int, list[list[Any]]] = {}
        self._writing: asyncio.Task[None] | None = None

    async def add(self, fetched: Mapping[int, list[list[Any]]], most: int) -> None:
        """Take the records of one fetch. Begins to write each partition of which `most` records wait.

        Raises StoreFailed, of an earlier write too.
        """
        for partition, batches in fetched.items():
            waiting = self._waiting.setdefault(partition, [])
            waiting += batches
            if sum(map(len, waiting)) >= most:
                await self.write(partition)

    async def write(self, partition: int) -> None:
        """Begin to write what waits of the partition. Waits for the write before it. Raises StoreFailed."""
        batches = self._waiting.pop(partition, None)
        if batches is not None:
            await self.written()
            positions = {partition: self._position_at(partition, batches[-1][-1].offset + 1)}
            self._writing = asyncio.create_task(self._store.write(newest_values(partition, batches), positions))
            self._writing.add_done_callback(_looked_at)

    async def written(self) -> None:
        """Wait until everything that `write` has begun is in the store. Raises StoreFailed."""
        if self._writing is not None:
            await asyncio.shield(self._writing)
            self._writing = None

    async def ended(self) -> None:
        """Wait for the write that was begun, and ignore its error. A cancelled replay must not write any more."""
        if self._writing is not None:
            await asyncio.gather(asyncio.shield(self._writing), return_exceptions=True)

    async def write_all(self) -> None:
        """Write everything that waits. Raises StoreFailed."""
        for partition in list(self._waiting):
            await self.write(partition)
        await self.written()


def _looked_at(writing: "asyncio.Task[None]") -> None:
    """Take the error of a write whose replay was cancelled. The next write meets the same disk."""
    if not writing.cancelled():
        writing.exception()

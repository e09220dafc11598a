"""Counts the keys and bytes of each table in each partition.

The store's thread for readers counts, PIECE_ENTRIES entries at a time, so that other readers get their turn.

1. A count shows one moment of a partition, and names the offset and the age of that moment.
2. The worker shows a count for KEPT_SECONDS, or for KEPT_TIMES the time that the count took, before it counts again. So
   at most a hundredth of the time goes into counting, however large the tables are and however many readers ask. A
   partition that has no count yet does not wait for this time.
3. A request waits at most WAIT_SECONDS for a new count. Then the request gets the earlier count, or none.
4. A count includes entries that have left a table's window and are not removed yet. Bytes are the sizes of keys and
   values before the store compresses them.
"""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners
from tables.catalog import SHOWN

KEPT_SECONDS = 15.0
KEPT_TIMES = 100.0  # ten million keys take 10 s, so they are counted every 17 minutes
WAIT_SECONDS = 0.5  # enough for a million keys; another worker that asked waits 2 s for this answer
PIECE_ENTRIES = 4_000  # 2 ms of reading; other threads wait for Python's lock meanwhile
REST = 1.0  # after a piece, the pause as a multiple of the piece's time: a count takes half a core at most


@dataclass(frozen=True, slots=True)
class Size:
    """How large one table is in one partition."""

    keys: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Count:
    """The sizes of all tables in one partition, at one moment."""

    #: the last source offset whose effect is counted
    offset: int | None
    #: monotonic seconds at the end of the count
    counted: float
    #: by table
    sizes: Mapping[str, Size]


class Census:
    """Keeps the last count of each partition, and counts again when one is due."""

    def __init__(self, engine: Engine, owners: Owners) -> None:
        self._engine = engine
        self._owners = owners
        self._counts: dict[int, Count] = {}
        self._counting: asyncio.Task[None] | None = None
        self._due = float("-inf")

    async def counts(self, partitions: Collection[int]) -> Mapping[int, Count]:
        """Returns the last count of each partition that has one. Raises StoreFailed."""
        if self._counting is None or self._counting.done():
            is_due = time.monotonic() >= self._due
            todo = sorted(partitions) if is_due else sorted(set(partitions) - self._counts.keys())
            if todo:
                self._due = max(self._due, time.monotonic() + KEPT_SECONDS)
                self._counting = asyncio.create_task(self._count_all(todo), name="census")
        if self._counting is not None:
            await asyncio.wait((self._counting,), timeout=WAIT_SECONDS)
            if self._counting.done():
                self._counting.result()
        return {partition: self._counts[partition] for partition in partitions if partition in self._counts}

    async def stop(self) -> None:
        if self._counting is not None:
            self._counting.cancel()
            await asyncio.gather(self._counting, return_exceptions=True)

    async def _count_all(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            moment = self._owners.moment(partition)
            count = await self._count(moment) if isinstance(moment, Moment) else None
            if count is None:
                self._counts.pop(partition, None)
            else:
                self._counts[partition] = count

    async def _count(self, moment: Moment) -> Count | None:
        """Count one partition. Returns None if the worker loses the partition meanwhile."""
        sizes: dict[str, Size] = {}
        for name, table in SHOWN.items():
            entries = moment.entries(table)
            keys = size = 0
            while moment.partition in self._engine.served:  # else the store may be closed
                began = time.monotonic()
                piece = await self._engine.store.read_aside(partial(_measure, entries))
                took = time.monotonic() - began
                self._due = max(self._due, time.monotonic()) + took * KEPT_TIMES
                keys, size = keys + piece.keys, size + piece.bytes
                if piece.keys < PIECE_ENTRIES:
                    break
                await asyncio.sleep(took * REST)
            else:
                return None
            sizes[name] = Size(keys, size)
        return Count(moment.offset, time.monotonic(), sizes)


def _measure(entries: Iterator[tuple[bytes, bytes]]) -> Size:
    lengths = [len(key) + len(value) for key, value in islice(entries, PIECE_ENTRIES)]
    return Size(len(lengths), sum(lengths))

"""The committed rows that the database does not have yet.

RocksDB needs 2 us to insert a row among 100,000 others, and half of that if the rows come in key order. So committed
rows wait here for up to PERIOD_SECONDS. A row that changes again meanwhile is written once.

1. A partition's rows go to the database in one write, with their META and changelog position. So the database always
   holds each partition as it was at one moment, and the position says at which.
2. A row stays here until the database has the row. Readers look here first.
3. A killed process loses these rows. The changelog has them: the replay begins at the database's position, and reads
   again what was written in the last PERIOD_SECONDS, or the last `limit` bytes.
"""

import math
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Row = tuple[bytes, bytes]
#: by store key, in the order of the changelog; None deletes the key
StoreRows = dict[bytes, bytes | None]

PARTITION_BYTES = 2  # at the beginning of a store key; a changelog key is the rest
PERIOD_SECONDS = 1.0  # a restart replays this much: 40,000 rows at 10,000 events/s, some 0.2 s
STEPS = 8  # of a period: each writes an eighth of the partitions, so that no write is long
ROW_BYTES = 250  # of memory for a row besides its value: the key, two object headers and the place in the dict


class Written(NamedTuple):
    """What a transaction wrote in one partition: rows in the order of the changelog, and how many bytes they have."""

    rows: StoreRows
    bytes: int


class _Partition:
    __slots__ = ("bytes", "is_shared", "layers", "since")

    def __init__(self) -> None:
        #: the newest first: later writes go into the first one, the others are on their way to the database
        self.layers: tuple[StoreRows, ...] = ({},)
        #: a snapshot shows the first layer
        self.is_shared = False
        #: monotonic seconds of the oldest row of the first layer
        self.since = 0.0
        self.bytes = 0


class RecentRows:
    """Recent rows of all partitions, by the partition's prefix of store keys. Only the loop's thread may use this."""

    def __init__(self, limit: int) -> None:
        """If more than `limit` bytes wait, a partition is due at once. As many bytes again may be on their way."""
        self._limit = limit
        self._partitions: dict[bytes, _Partition] = {}
        self._stepped = 0.0
        #: of the rows that wait
        self.waiting_bytes = 0
        #: of the rows on their way to the database
        self.leaving_bytes = 0

    @property
    def is_full(self) -> bool:
        """The disk is behind: the commit waits until rows have left."""
        return self.leaving_bytes > 0 and self.waiting_bytes + self.leaving_bytes > 2 * self._limit

    def layers(self, prefix: bytes) -> tuple[StoreRows, ...]:
        """The rows of a partition, newest layer first."""
        known = self._partitions.get(prefix)
        return () if known is None else known.layers

    def snapshot(self, prefix: bytes) -> tuple[StoreRows, ...]:
        """Layers that no later write changes. Any thread may read them."""
        known = self._partitions.get(prefix)
        if known is None:
            return ()
        known.is_shared = True
        return known.layers

    def add(self, prefix: bytes, written: Written) -> None:
        known = self._partitions.get(prefix)
        if known is None:
            known = self._partitions[prefix] = _Partition()
        newest, *older = known.layers
        if not newest:
            known.layers, known.is_shared, known.since = (written.rows, *older), False, time.monotonic()
        elif known.is_shared:
            known.layers, known.is_shared = ({**newest, **written.rows}, *older), False
        else:
            newest.update(written.rows)
        size = written.bytes + ROW_BYTES * len(written.rows)
        known.bytes += size
        self.waiting_bytes += size

    def due(self) -> list[bytes]:
        """The partitions whose rows must go to the database now."""
        waiting = sorted((known.since, prefix) for prefix, known in self._partitions.items() if known.layers[0])
        if self.waiting_bytes > self._limit:
            return [max((prefix for _, prefix in waiting), key=lambda prefix: self._partitions[prefix].bytes)]
        now = time.monotonic()
        if not waiting or now - self._stepped < PERIOD_SECONDS / STEPS:
            return []
        self._stepped = now
        return [prefix for _, prefix in waiting[: math.ceil(len(waiting) / STEPS)]]

    def waiting(self) -> list[bytes]:
        return [prefix for prefix, known in self._partitions.items() if known.layers[0]]

    def take(self, prefix: bytes) -> Written:
        """The waiting rows of a partition. They are visible until `written` is called with the same value."""
        known = self._partitions[prefix]
        taken = Written(known.layers[0], known.bytes)
        known.layers, known.is_shared, known.bytes = ({}, *known.layers), False, 0
        self.waiting_bytes -= taken.bytes
        self.leaving_bytes += taken.bytes
        return taken

    def written(self, prefix: bytes, taken: Written) -> None:
        """The database has these rows."""
        known = self._partitions[prefix]
        newest, *older = known.layers
        known.layers = (newest, *(layer for layer in older if layer is not taken.rows))
        self.leaving_bytes -= taken.bytes

    def rest(self) -> list[StoreRows]:
        """All rows that the database may not have yet, in the order in which they must be written."""
        return [layer for known in self._partitions.values() for layer in reversed(known.layers) if layer]

    def drop(self, prefix: bytes) -> None:
        """Forget a partition's rows. Those on their way to the database still arrive there."""
        known = self._partitions.get(prefix)
        if known is not None:
            self.waiting_bytes -= known.bytes
            known.layers, known.is_shared, known.bytes = ({},), False, 0


def found_in(layers: tuple[StoreRows, ...], key: bytes) -> StoreRows | None:
    """The newest layer that has the key."""
    for layer in layers:
        if key in layer:
            return layer
    return None


def merged(stored: Iterator[Row], layers: tuple[StoreRows, ...], lower: bytes, upper: bytes) -> Iterator[Row]:
    """The rows of [lower, upper) in key order: `stored`, with the layers over them."""
    recent: StoreRows = {}
    for layer in reversed(layers):
        recent.update({key: value for key, value in layer.items() if lower <= key < upper})
    keys = sorted(recent)
    at = 0
    for key, value in stored:
        while at < len(keys) and keys[at] < key:
            yield from _present(keys[at], recent)
            at += 1
        if key in recent:
            yield from _present(key, recent)
            at += 1
        else:
            yield key, value
    for key in keys[at:]:
        yield from _present(key, recent)


def _present(key: bytes, rows: Mapping[bytes, bytes | None]) -> Iterator[Row]:
    value = rows[key]
    if value is not None:
        yield key, value

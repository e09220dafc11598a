"""The local copy of the committed state. Each worker has one RocksDB, which never holds an uncommitted value.

1. Values are stored only after Kafka has confirmed their commit, together with META and the changelog position.
2. The views hold the values that are folded but not yet stored. A view forgets a value only after the store has it.
3. Committed rows wait in memory before they go to the database (`recent`). Every reader sees them at once. A killed
   process loses these rows. The database then has an older changelog position, from which a replay goes on.
4. All writes to the database go through one thread, in commit order. rocksdict frees the GIL during a write.
5. rocksdict raises bare Exceptions. This module and `stored_rows` turn them into StoreFailed. After a write that
   failed no other write is tried. The next commit raises the error; if there is no commit, the main loop's next turn
   does.
6. HTTP and the operators take a snapshot of a partition (`rows`), and read the snapshot in a thread beside the loop.

A store key is the partition (2 bytes, big endian) and then the changelog key. A changelog key is the table's name, 0x00
and the table key.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import StateNotCopied, StateUnreadable, StoreFailed
from portfolio_stream.exactly_once.database import Cursor, Database, DatabaseFigures, Extent, Item, RocksDatabase
from portfolio_stream.exactly_once.recent import (
    PARTITION_BYTES,
    PERIOD_SECONDS,
    STEPS,
    RecentRows,
    Row,
    StoreRows,
    Written,
    found_in,
    merged,
)
from portfolio_stream.exactly_once.state_memory import DEFAULT, StateMemory
from portfolio_stream.exactly_once.stored_rows import StoredRows, database_rows, end_of, failing
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.observe.events import StoreNotFlushed
from portfolio_stream.observe.ring import write

R = TypeVar("R")

META_KEY = b"\x00META"  # no table has this key, because no table name is empty
SKIP_KEY = b"\x00SKIP"  # with a source offset (8 bytes, big endian): an operator moved this record to the dead letters
_OWN = b"\xff\xff"  # the store's own keys use partition 65535
_POSITION = _OWN + b"position"
SORTED_AT_ONCE = 4_096  # rows, some 2 ms: sorting does not free the GIL

OpenDatabase = Callable[[Path, StateMemory], Database]


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The description of a partition's state: which source records the state holds, and how they were folded."""

    #: id of the source topic
    topic_id: str
    #: next source offset
    offset: int
    #: how many partitions the source topic has
    partitions: int
    #: id of the changelog topic to which this META was written
    changelog: str
    fold: str
    version: int = 1
    #: outputs that stand already, and that the fold gives once more: [next, until] by topic (see `repeat`)
    repeat: dict[str, tuple[int, int]] | None = None


class ChangelogPosition(msgspec.Struct, frozen=True, kw_only=True):
    """The position up to which the store holds the changelog."""

    #: id of the changelog topic
    topic_id: str
    #: next changelog offset
    offset: int
    #: When the store last held the whole changelog, in seconds since 1970. No tombstone behind `offset` is older. This
    #: is the wall clock: tombstones expire by the broker's clock, also while the worker is off.
    written_at: float


encode_meta = msgspec.msgpack.Encoder().encode
_decode_meta = msgspec.msgpack.Decoder(Meta).decode
_decode_position = msgspec.msgpack.Decoder(ChangelogPosition).decode


def read_meta(stored: bytes | None) -> Meta | None:
    """The META in `stored`; None if nothing is stored.

    Raises StateUnreadable: a stranger may have written other bytes to the changelog.
    """
    try:
        return None if stored is None else _decode_meta(stored)
    except UNDECODABLE as error:
        raise StateUnreadable("a META") from error


def prefix_of(partition: int) -> bytes:
    return struct.pack(">H", partition)


def skip_key(offset: int) -> bytes:
    return SKIP_KEY + struct.pack(">Q", offset)


def skip_value(record: Any) -> bytes:
    """The operator's decision about one record. For an unreadable batch, also its last offset and the reason."""
    decision: dict[str, object] = {"version": 1, "code": "operator_dead_letter"}
    if isinstance(record, UnreadableBatch):
        decision |= {"last_offset": record.last_offset, "reason": record.reason}
    return msgspec.msgpack.encode(decision)


class Store:
    def __init__(self, path: Path, open_database: OpenDatabase = RocksDatabase, memory: StateMemory = DEFAULT) -> None:
        self.path = path
        self.memory = memory
        self._thread = ThreadPoolExecutor(1, "store")
        self._readers = ThreadPoolExecutor(1, "store-reads")
        self._open_database = open_database
        self._db = self._open()
        self._recent = RecentRows(memory.recent_rows // 2)
        self._leaving: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failed: StoreFailed | None = None
        self._is_closed = False

    @failing
    def _open(self) -> Database:
        return self._open_database(self.path, self.memory)

    def get(self, key: bytes) -> bytes | None:
        """The value of a store key. Folds wait for this call, so it does without the extra call of `failing`."""
        for layer in self._recent.layers(key[:PARTITION_BYTES]):
            if key in layer:
                return layer[key]
        try:
            return self._db.get(key)
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error

    @failing
    def scan(self, prefix: bytes, after: bytes = b"", limit: int | None = None) -> list[Row]:
        """At most `limit` entries whose store key starts with `prefix` and follows `after`, in key order."""
        lower, upper = max(prefix, after + b"\x00"), end_of(prefix)
        recent = self._recent.layers(prefix[:PARTITION_BYTES])
        return list(islice(merged(database_rows(self._db.cursor(), lower, upper), recent, lower, upper), limit))

    @failing
    def rows(self, partition: int) -> "StoredRows":
        """The partition as it is stored now. Later writes do not change the rows.

        An iterator shows one moment of the database. (A Snapshot of rocksdict 0.3.29 does not: its iterators show later
        writes.) Two iterators show the same moment if nothing was written between their creation. The iterators have no
        bounds: rocksdict would keep pointers to Python objects that may be gone.
        """
        while True:
            sequence = self._db.sequence()
            points, rows = self._db.cursor(), self._db.cursor()
            if self._db.sequence() == sequence:
                prefix = prefix_of(partition)
                return StoredRows(self.path, partition, prefix, points, rows, self._recent.snapshot(prefix))

    async def extents(self) -> list[Extent]:
        """What the database knows of its size without reading a row; nothing once the store is closed."""
        return [] if self._is_closed else await self.read_aside(self._extents)

    @failing
    def _extents(self) -> list[Extent]:
        return self._db.extents()

    def figures(self) -> DatabaseFigures | None:
        """What the database tells of itself, in some 3 us; None once the store is closed."""
        return None if self._is_closed else self._figures()

    @failing
    def _figures(self) -> DatabaseFigures:
        return self._db.figures()

    async def read_aside(self, read: Callable[[], R]) -> R:
        """Run `read`, which reads snapshots, in the readers' thread. One `read` runs at a time, and close() waits."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def meta(self, partition: int) -> Meta | None:
        """Raises StateUnreadable."""
        return read_meta(self.get(prefix_of(partition) + META_KEY))

    def position(self, partition: int) -> ChangelogPosition | None:
        key = _POSITION + prefix_of(partition)
        recent = found_in(self._recent.layers(prefix_of(partition)), key)
        raw = self.get(key) if recent is None else recent[key]
        return None if raw is None else _decode_position(raw)

    def decided(self, partition: int, offset: int) -> frozenset[int]:
        """The source offsets from `offset` on whose records an operator has moved to the dead letters.

        There are some only in a state that begins before decisions of a former generation.
        """
        prefix = prefix_of(partition) + SKIP_KEY
        rows = self.scan(prefix, after=prefix + struct.pack(">Q", offset - 1) if offset else b"")
        return frozenset(int.from_bytes(key[len(prefix) :], "big") for key, _ in rows)

    async def commit(self, written: Mapping[int, Written], positions: Mapping[int, ChangelogPosition]) -> None:
        """Store what a committed transaction wrote, by partition. The caller gives the rows away.

        Raises StoreFailed, also if the disk refused rows of an earlier commit.
        """
        for partition, rows in written.items():
            prefix = prefix_of(partition)
            if partition in positions:
                rows.rows[_POSITION + prefix] = encode_meta(positions[partition])
            self._recent.add(prefix, rows)
        self._write_due()
        while self._recent.is_full and self._leaving is not None:
            await asyncio.wait((self._leaving,))
        self.raise_failure()

    def raise_failure(self) -> None:
        """Raise the error of the write that failed, if one did."""
        if self._failed is not None:
            raise self._failed

    def _write_due(self) -> None:
        """Write the partitions that are due, one after the other, and come back for the others."""
        if self._leaving is None and self._failed is None and not self._is_closed:
            for prefix in self._recent.due():
                self._leaving = self._begin_write(prefix)
        if self._timer is None and not self._is_closed and self._recent.waiting_bytes:
            self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS / STEPS, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._write_due()

    def _begin_write(self, prefix: bytes) -> asyncio.Future[None]:
        """Begin to write the waiting rows of a partition."""
        taken = self._recent.take(prefix)
        leaving = asyncio.get_running_loop().run_in_executor(self._thread, self._write_recent, taken.rows)
        leaving.add_done_callback(partial(self._has_left, prefix, taken))
        return leaving

    def _has_left(self, prefix: bytes, taken: Written, leaving: asyncio.Future[None]) -> None:
        if self._leaving is leaving:
            self._leaving = None
        if leaving.exception() is None:
            self._recent.written(prefix, taken)
            self._write_due()

    def _write_recent(self, rows: StoreRows) -> None:
        if not self._is_closed:  # close() writes all rows
            self.in_order(lambda: self._db.write(_in_key_order(rows)))

    def in_order(self, change: Callable[[], None]) -> None:
        """Change the database, in the store's thread. Rows behind refused rows would leave a hole."""
        self.raise_failure()
        try:
            change()
        except Exception as error:
            self._failed = StoreFailed(self.path, str(error))
            raise self._failed from error

    async def write(self, items: Iterable[Item], positions: Mapping[int, ChangelogPosition]) -> None:
        """Write rows of a changelog to the database itself. The recent rows of these partitions go before them."""
        for prefix in map(prefix_of, positions):
            if prefix in self._recent.waiting():
                self._begin_write(prefix)
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, items, positions)

    def _write(self, items: Iterable[Item], positions: Mapping[int, ChangelogPosition]) -> None:
        marks = [(_POSITION + prefix_of(partition), encode_meta(position)) for partition, position in positions.items()]
        self.in_order(lambda: self._db.write(chain(items, marks)))

    async def wipe(self, partition: int) -> None:
        self._recent.drop(prefix_of(partition))
        await asyncio.get_running_loop().run_in_executor(self._thread, self._wipe, partition)

    def _wipe(self, partition: int) -> None:
        lower, upper = prefix_of(partition), prefix_of(partition + 1)
        self.in_order(lambda: self._db.delete(lower, upper, _POSITION + lower))

    async def drained(self) -> None:
        """Wait until each write that was begun before this call is in the database."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    async def flush(self) -> None:
        """Write all recent rows to the database, and wait for that. Raises StoreFailed."""
        for prefix in self._recent.waiting():
            self._begin_write(prefix)
        await self.drained()
        self.raise_failure()

    async def prepare_copy(self, folder: Path) -> None:
        """Write to files what `copy` has to have in files, while the engine goes on: `copy` then takes milliseconds.

        Raises as `copy` does.
        """
        await self._copying(folder, self._db.flush)

    async def copy(self, folder: Path) -> None:
        """Copy the database to `folder`, with all recent rows of this moment. The caller stores nothing meanwhile.

        Raises StoreFailed if the disk refused rows: then the worker ends, as after any write that failed. Raises
        StateNotCopied if the copy alone failed. That does the store no harm: RocksDB has the rows in its log, and if it
        could not move them to a file, it refuses the store's next write itself.
        """
        await self._copying(folder, partial(self._db.copy, folder))

    async def _copying(self, folder: Path, work: Callable[[], None]) -> None:
        """Write the recent rows, then do `work` in the store's thread."""
        for prefix in self._recent.waiting():
            self._begin_write(prefix)

        def after_all_writes() -> None:
            self.raise_failure()
            try:
                work()
            except Exception as error:
                raise StateNotCopied(folder, str(error)) from error

        await asyncio.get_running_loop().run_in_executor(self._thread, after_all_writes)

    def close(self) -> None:
        """Write the recent rows to the database, and close the database."""
        if self._timer is not None:
            self._timer.cancel()
        self._thread.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        for step in (self._write_rest, self._close):
            try:
                step()
            except StoreFailed as failed:  # the disk is full; the changelog has the values that could not be flushed
                write(StoreNotFlushed(reason=failed.cause))

    @failing
    def _write_rest(self) -> None:
        """The oldest layers first: some of them may be in the database already."""
        if self._is_closed:
            return
        self._is_closed = True
        for layer in self._recent.rest():
            self._db.write(_in_key_order(layer))

    @failing
    def _close(self) -> None:
        self._db.close()


def copied_rows(cursor: Cursor, partition: int) -> Iterator[Row]:
    """A partition's rows in a copy of the store, by changelog keys, in key order: operators' decisions first, then the
    tables. META and the store's own rows are left out.

    Raises any Exception if a file is damaged.
    """
    prefix = prefix_of(partition)
    for key, value in database_rows(cursor, prefix, end_of(prefix)):
        changelog_key = key[PARTITION_BYTES:]
        if changelog_key != META_KEY:
            yield changelog_key, value


def _in_key_order(rows: StoreRows) -> Iterator[Item]:
    """The rows, SORTED_AT_ONCE of them in key order at a time: RocksDB inserts neighbours in half the time."""
    keys = iter(rows)
    while some := sorted(islice(keys, SORTED_AT_ONCE)):
        for key in some:
            yield key, rows[key]

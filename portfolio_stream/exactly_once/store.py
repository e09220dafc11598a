"""The local copy of the committed state. Each worker has one RocksDB, which never holds an uncommitted value.

1. Values are written only after Kafka has confirmed their commit, in one WriteBatch with META and the changelog
   position.
2. The views hold the values that are folded but not yet stored. A view forgets a value only after the store has it.
3. All writes go through one thread, in commit order. rocksdict frees the GIL during a write.
4. rocksdict raises bare Exceptions. Only this module turns them into StoreFailed.
5. A reader that reads more than a fold takes a snapshot, and reads the snapshot in a thread beside the loop.

A store key is the partition (2 bytes, big endian) and then the changelog key. A changelog key is the table's name, 0x00
and the table key.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import chain
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import msgspec

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import StateUnreadable, StoreFailed
from portfolio_stream.exactly_once.database import Cursor, Database, Item, RocksDatabase
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.observe.events import StoreNotFlushed
from portfolio_stream.observe.ring import write

V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")

META_KEY = b"\x00META"  # no table has this key, because no table name is empty
SKIP_KEY = b"\x00SKIP"  # with a source offset (8 bytes, big endian): an operator moved this record to the dead letters
_OWN = b"\xff\xff"  # the store's own keys use partition 65535
_POSITION = _OWN + b"position"

OpenDatabase = Callable[[Path], Database]


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


def _failing(method: Callable[P, R]) -> Callable[P, R]:
    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            owner: Store | StoredRows = args[0]  # type: ignore[assignment]
            raise StoreFailed(owner.path, str(error)) from error

    return guarded


class Store:
    def __init__(self, path: Path, open_database: OpenDatabase = RocksDatabase) -> None:
        self.path = path
        self._thread = ThreadPoolExecutor(1, "store")
        self._readers = ThreadPoolExecutor(1, "store-reads")
        self._open_database = open_database
        self._db = self._open()

    @_failing
    def _open(self) -> Database:
        return self._open_database(self.path)

    def get(self, key: bytes) -> bytes | None:
        """The value of a store key. Folds wait for this call, so it does without the extra call of `_failing`."""
        try:
            return self._db.get(key)
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error

    @_failing
    def scan(self, prefix: bytes, after: bytes = b"", limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """At most `limit` entries whose store key starts with `prefix` and follows `after`, in key order.

        The scan uses a cursor, because the cursor's status tells a damaged block from the end of the keys. At a damaged
        block rocksdict's items() would end without an error.
        """
        found: list[tuple[bytes, bytes]] = []
        rows = self._db.cursor()
        rows.seek(max(prefix, after))
        while len(found) != limit and rows.valid() and (key := rows.key()).startswith(prefix):
            if key != after:
                found.append((key, rows.value()))
            rows.next()
        rows.status()
        return found

    @_failing
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
                return StoredRows(self.path, partition, points, rows)

    async def read_aside(self, read: Callable[[], R]) -> R:
        """Run `read`, which reads snapshots, in the readers' thread. One `read` runs at a time, and close() waits."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def meta(self, partition: int) -> Meta | None:
        """Raises StateUnreadable."""
        return read_meta(self.get(prefix_of(partition) + META_KEY))

    def position(self, partition: int) -> ChangelogPosition | None:
        raw = self.get(_POSITION + prefix_of(partition))
        return None if raw is None else _decode_position(raw)

    async def write(self, items: Iterable[Item], positions: Mapping[int, ChangelogPosition]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, items, positions)

    @_failing
    def _write(self, items: Iterable[Item], positions: Mapping[int, ChangelogPosition]) -> None:
        marks = [(_POSITION + prefix_of(partition), encode_meta(position)) for partition, position in positions.items()]
        self._db.write(chain(items, marks))

    async def wipe(self, partition: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._wipe, partition)

    @_failing
    def _wipe(self, partition: int) -> None:
        self._db.delete(prefix_of(partition), prefix_of(partition + 1), _POSITION + prefix_of(partition))

    async def drained(self) -> None:
        """Wait until each write that was begun before this call is in the store."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        try:
            self._close()
        except StoreFailed as failed:  # the disk is full; the changelog has the values that could not be flushed
            write(StoreNotFlushed(reason=failed.cause))

    @_failing
    def _close(self) -> None:
        self._db.close()


class StoredRows:
    """A partition at one moment, by changelog keys. Any thread may read it, one thread and one scan at a time."""

    def __init__(self, path: Path, partition: int, points: Cursor, rows: Cursor) -> None:
        self.path = path
        self.partition = partition
        self._prefix = prefix_of(partition)
        self._points = points
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        return self._get(self._prefix + key)

    @_failing
    def _get(self, wanted: bytes) -> bytes | None:
        points = self._points
        points.seek(wanted)
        if points.valid() and points.key() == wanted:
            return points.value()
        points.status()
        return None

    def meta(self) -> Meta | None:
        """Raises StateUnreadable."""
        return read_meta(self.get(META_KEY))

    def position(self) -> ChangelogPosition | None:
        """Up to where the changelog is in these rows; None if the store never held the partition."""
        raw = self._get(_POSITION + self._prefix)
        return None if raw is None else _decode_position(raw)

    def scan(self, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries of [lower, upper), in key order. Each entry is read when the caller asks for it."""
        rows, end, skip = self._rows, self._prefix + upper, len(self._prefix)
        try:
            rows.seek(self._prefix + lower)
            while rows.valid() and (key := rows.key()) < end:
                yield key[skip:], rows.value()
                rows.next()
            rows.status()
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error

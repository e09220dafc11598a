"""The local copy of committed state: one RocksDB a worker, never dirty.

1. Only what Kafka has said is committed is written, in one WriteBatch with META and the changelog position.
2. What is folded but not yet stored lives in the views; a view forgets a value only after the store has it.
3. All writes go through one thread, in commit order; rocksdict frees the GIL meanwhile.
4. rocksdict raises bare Exceptions: this module alone turns them into StoreFailed.
5. Who reads more than a fold does takes a snapshot and reads it in a thread of its own, beside the loop.

Keys: partition (2 bytes, big endian), table name, 0x00, table key: without the partition, that is the changelog's key.
"""

import asyncio
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any, Generic, ParamSpec, TypeVar

import msgspec

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import StateUnreadable, StoreFailed, ValueNotBytes
from portfolio_stream.exactly_once.database import Cursor, Database, Item, RocksDatabase
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.observe.events import StoreNotFlushed
from portfolio_stream.observe.ring import write

V = TypeVar("V")
P = ParamSpec("P")
R = TypeVar("R")

META_KEY = b"\x00META"  # no table name is empty
SKIP_KEY = b"\x00SKIP"  # and the source offset, 8 bytes big endian: a record that an operator moved to the dead letters
_OWN = b"\xff\xff"  # partition 65535 is ours
_POSITION = _OWN + b"position"

OpenDatabase = Callable[[Path], Database]


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """What a partition's state says of itself: which source records it holds, and how they were folded."""

    topic_id: str
    #: next source offset
    offset: int
    partitions: int
    #: id of the changelog topic that it was written to
    changelog: str
    fold: str
    version: int = 1


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Up to where the changelog is in the store."""

    topic_id: str
    offset: int
    #: When the store last held the whole changelog, in seconds since 1970. No tombstone behind `offset` is older. The
    #: wall clock counts, since tombstones expire in the broker by its clock, however long the worker was off.
    written_at: float


encode_meta = msgspec.msgpack.Encoder().encode
_decode_meta = msgspec.msgpack.Decoder(Meta).decode
_decode_position = msgspec.msgpack.Decoder(Position).decode


def read_meta(stored: bytes | None) -> Meta | None:
    """None for none. Raises StateUnreadable: whoever may write to the changelog can put anything there."""
    try:
        return None if stored is None else _decode_meta(stored)
    except UNDECODABLE as error:
        raise StateUnreadable("a META") from error


def prefix_of(partition: int) -> bytes:
    return struct.pack(">H", partition)


def skip_key(offset: int) -> bytes:
    return SKIP_KEY + struct.pack(">Q", offset)


def skip_value(record: Any) -> bytes:
    """The operator's decision; of a batch that poses as a record, also what it took along."""
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
            owner: Store | Snapshot = args[0]  # type: ignore[assignment]
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
        """Folds wait for it: `_failing` would be one more call."""
        try:
            return self._db.get(key)
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error

    @_failing
    def scan(self, prefix: bytes, after: bytes = b"", limit: int | None = None) -> list[tuple[bytes, bytes]]:
        """Entries whose store key starts with `prefix` and follows `after`, in key order, at most `limit`.

        By a cursor, whose status tells a damaged block from the end; rocksdict's items() would end there in silence.
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
    def snapshot(self, partition: int) -> "Snapshot":
        """What is stored of a partition now, for as long as it is held.

        An iterator is a snapshot, a rocksdict Snapshot is none (0.3.29 shows iterators what was written later): two
        iterators between which nothing was written show the same. They have no bounds: they would point into an object
        of Python's that may be gone.
        """
        while True:
            sequence = self._db.sequence()
            points, rows = self._db.cursor(), self._db.cursor()
            if self._db.sequence() == sequence:
                return Snapshot(self.path, partition, points, rows)

    async def read_aside(self, read: Callable[[], R]) -> R:
        """Run `read`, which reads snapshots, in the readers' thread: one after the other, and close() waits for it."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, read)

    def meta(self, partition: int) -> Meta | None:
        """Raises StateUnreadable."""
        return read_meta(self.get(prefix_of(partition) + META_KEY))

    def position(self, partition: int) -> Position | None:
        raw = self.get(_POSITION + prefix_of(partition))
        return None if raw is None else _decode_position(raw)

    async def write(self, items: Iterable[Item], positions: Mapping[int, Position]) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._write, items, positions)

    @_failing
    def _write(self, items: Iterable[Item], positions: Mapping[int, Position]) -> None:
        marks = [(_POSITION + prefix_of(partition), encode_meta(position)) for partition, position in positions.items()]
        self._db.write(chain(items, marks))

    async def wipe(self, partition: int) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._wipe, partition)

    @_failing
    def _wipe(self, partition: int) -> None:
        self._db.delete(prefix_of(partition), prefix_of(partition + 1), _POSITION + prefix_of(partition))

    async def drained(self) -> None:
        """Every write that was begun before is in the store."""
        await asyncio.get_running_loop().run_in_executor(self._thread, lambda: None)

    def close(self) -> None:
        self._thread.shutdown(wait=True)
        self._readers.shutdown(wait=True)
        try:
            self._close()
        except StoreFailed as failed:  # the disk is full: the changelog has what could not be flushed
            write(StoreNotFlushed(reason=failed.cause))

    @_failing
    def _close(self) -> None:
        self._db.close()


class Snapshot:
    """A partition at one moment, by the changelog's keys. Any thread may read it, one at a time; one scan at a time."""

    def __init__(self, path: Path, partition: int, points: Cursor, rows: Cursor) -> None:
        self.path = path
        self.partition = partition
        self._prefix = prefix_of(partition)
        self._points = points
        self._rows = rows

    @_failing
    def get(self, key: bytes) -> bytes | None:
        wanted, points = self._prefix + key, self._points
        points.seek(wanted)
        if points.valid() and points.key() == wanted:
            return points.value()
        points.status()
        return None

    def meta(self) -> Meta | None:
        """Raises StateUnreadable."""
        return read_meta(self.get(META_KEY))

    def scan(self, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
        """Entries of [lower, upper), in key order, each read when it is asked for."""
        rows, end, skip = self._rows, self._prefix + upper, len(self._prefix)
        try:
            rows.seek(self._prefix + lower)
            while rows.valid() and (key := rows.key()) < end:
                yield key[skip:], rows.value()
                rows.next()
            rows.status()
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error


_ABSENT: Any = object()


class StoredView(dict[bytes, Any], Generic[V]):
    """One table in one partition: what was read or written lately over what is stored.

    A dict for speed: a hit costs no Python call. `generation` bounds it: when the younger half is full it becomes the
    older one, which is dropped at the next turn if the store has all of it by then.
    """

    __slots__ = ("_aged_in", "_decode", "_older", "_prefix", "_store", "dirty", "encode", "name")

    def __init__(self, definition: TableDefinition[V], store: Store, partition: int) -> None:
        super().__init__()
        self._store = store
        self.name = definition.name
        self._prefix = prefix_of(partition) + definition.name.encode() + b"\x00"
        self._decode = definition.read
        self.encode = definition.encode
        #: written by the open transaction; None is a deletion
        self.dirty: dict[bytes, V | None] = {}
        self._older: dict[bytes, V | None] = {}
        self._aged_in = -1

    def __missing__(self, key: bytes) -> V | None:
        value = self._older.get(key, _ABSENT)
        if value is _ABSENT:
            raw = self._store.get(self._prefix + key)
            value = None if raw is None else self._decode(raw)
        self[key] = value
        return value

    def put(self, key: bytes, value: V | None) -> None:
        self[key] = self.dirty[key] = value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, V]]:
        """Entries whose table key starts with `prefix`, in key order, unstored ones included. Not for the hot path."""
        skip = len(self._prefix)
        found: dict[bytes, Any] = {key[skip:]: _Raw(value) for key, value in self._store.scan(self._prefix + prefix)}
        for recent in (self._older, self):
            found.update((key, value) for key, value in recent.items() if key.startswith(prefix))
        for key in sorted(found):
            value = found[key]
            if value is not None:
                yield key, self._decode(value.bytes) if isinstance(value, _Raw) else value

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, V | None]]:
        """See `ports`. What it reads is not remembered."""
        own, older, decode = self._prefix, self._older, self._decode
        found: list[tuple[bytes, V | None]] = []
        for stored, raw in self._store.scan(own + prefix, own + after, limit):
            key = stored[len(own) :]
            value = self.get(key, _ABSENT)
            if value is _ABSENT:
                value = older.get(key, _ABSENT)
            found.append((key, decode(raw) if value is _ABSENT else value))
        return found

    def take_dirty(self) -> list[Item]:
        """The open transaction's writes, encoded once: (store key, value).

        Raises ValueNotBytes, or what the encoder raises; the view must be forgotten then.
        """
        prefix, encode, dirty = self._prefix, self.encode, self.dirty
        encoded = [None if value is None else encode(value) for value in dirty.values()]
        kinds = set(map(type, encoded))
        if kinds != {bytes}:  # the store would refuse other types after the commit; an encoder's None would delete
            deletions = sum(value is None for value in dirty.values())
            if kinds - {bytes, NoneType} or encoded.count(None) != deletions:
                raise ValueNotBytes(self.name)
        items = list(zip(map(prefix.__add__, dirty), encoded, strict=True))
        dirty.clear()
        return items

    def age(self, limit: int, open_transaction: int, stored_transaction: int) -> None:
        """Forget the least recent values when more than `limit` are held and the store has them."""
        if len(self) > limit and self._aged_in <= stored_transaction:
            self._older = dict(self)
            self._aged_in = open_transaction
            self.clear()


class _Raw:
    __slots__ = ("bytes",)

    def __init__(self, data: bytes) -> None:
        self.bytes = data

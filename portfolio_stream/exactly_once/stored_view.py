"""A table as a fold sees it: one table of one partition, over the store."""

from collections.abc import Iterator
from types import NoneType
from typing import Any, Generic, TypeVar

from portfolio_stream.errors import ValueNotBytes
from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import Store, prefix_of

V = TypeVar("V")

_ABSENT: Any = object()


class StoredView(dict[bytes, Any], Generic[V]):
    """One table in one partition: the stored values, and over them the values that were read or written lately.

    A view is a dict for speed: a hit costs no Python call. `age` bounds its memory: a full younger half becomes the
    older half. The next time, the older half is dropped if the store has all its values by then.
    """

    __slots__ = ("_aged_in", "_decode", "_older", "_prefix", "_store", "dirty", "encode", "name")

    def __init__(self, definition: TableDefinition[V], store: Store, partition: int) -> None:
        super().__init__()
        self._store = store
        self.name = definition.name
        self._prefix = prefix_of(partition) + definition.name.encode() + b"\x00"
        self._decode = definition.read
        self.encode = definition.encode
        #: the values that the open transaction has written; None is a deletion
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
        """The entries whose table key starts with `prefix`, in key order, also unstored ones. Not for the hot path."""
        skip = len(self._prefix)
        found: dict[bytes, Any] = {key[skip:]: _Raw(value) for key, value in self._store.scan(self._prefix + prefix)}
        for recent in (self._older, self):
            found.update((key, value) for key, value in recent.items() if key.startswith(prefix))
        for key in sorted(found):
            value = found[key]
            if value is not None:
                yield key, self._decode(value.bytes) if isinstance(value, _Raw) else value

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, V | None]]:
        """See `ports`. The view does not remember the values that this method reads."""
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
        """The open transaction's writes as (store key, encoded value). Each value is encoded once.

        Raises ValueNotBytes, or any error of the encoder. The caller must forget the view then.
        """
        prefix, encode, dirty = self._prefix, self.encode, self.dirty
        encoded = [None if value is None else encode(value) for value in dirty.values()]
        kinds = set(map(type, encoded))
        # After the commit, the store would refuse another type, and would take an encoder's None for a deletion.
        if kinds != {bytes}:
            deletions = sum(value is None for value in dirty.values())
            if kinds - {bytes, NoneType} or encoded.count(None) != deletions:
                raise ValueNotBytes(self.name)
        items = list(zip(map(prefix.__add__, dirty), encoded, strict=True))
        dirty.clear()
        return items

    def age(self, limit: int, open_transaction: int, stored_transaction: int) -> None:
        """Forget the least recent values, if there are more than `limit` values and the store has the least recent."""
        if len(self) > limit and self._aged_in <= stored_transaction:
            self._older = dict(self)
            self._aged_in = open_transaction
            self.clear()


class _Raw:
    __slots__ = ("bytes",)

    def __init__(self, data: bytes) -> None:
        self.bytes = data

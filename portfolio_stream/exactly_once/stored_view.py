"""A table as a fold sees it: one table of one partition, over the store."""

from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import Store, prefix_of

V = TypeVar("V")

_ABSENT: Any = object()
ENTRY_BYTES = 250  # of memory for an entry besides its value: the key and the places in two dicts
ENCODED_FACTOR = 6  # a value in memory takes so many times the bytes of its changelog record


class StoredView(dict[bytes, Any], Generic[V]):
    """One table in one partition: the stored values, and over them the values that were read or written lately.

    A view is a dict for speed: a hit costs no Python call. It remembers two generations of values. `age` drops the
    older one, and a value that is read again moves to the younger one.
    """

    __slots__ = ("_decode", "_older", "_store", "_weighed", "_weighed_bytes", "dirty", "prefix", "table")

    def __init__(self, definition: TableDefinition[V], store: Store, partition: int) -> None:
        super().__init__()
        self._store = store
        self.table = definition
        #: of the table's store keys in this partition
        self.prefix = prefix_of(partition) + definition.name.encode() + b"\x00"
        self._decode = definition.read
        #: the values that the open transaction has written; None is a deletion
        self.dirty: dict[bytes, V | None] = {}
        self._older: dict[bytes, V | None] = {}
        self._weighed = self._weighed_bytes = 0

    def __missing__(self, key: bytes) -> V | None:
        value = self._older.get(key, _ABSENT)
        if value is _ABSENT:
            raw = self._store.get(self.prefix + key)
            value = None if raw is None else self._decode(raw)
        self[key] = value
        return value

    def put(self, key: bytes, value: V | None) -> None:
        self[key] = self.dirty[key] = value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, V]]:
        """The entries whose table key starts with `prefix`, in key order, also unstored ones. Not for the hot path."""
        skip = len(self.prefix)
        found: dict[bytes, Any] = {key[skip:]: _Raw(value) for key, value in self._store.scan(self.prefix + prefix)}
        for recent in (self._older, self):
            found.update((key, value) for key, value in recent.items() if key.startswith(prefix))
        for key in sorted(found):
            value = found[key]
            if value is not None:
                yield key, self._decode(value.bytes) if isinstance(value, _Raw) else value

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, V | None]]:
        """See `ports`. The view does not remember the values that this method reads."""
        own, older, decode = self.prefix, self._older, self._decode
        found: list[tuple[bytes, V | None]] = []
        for stored, raw in self._store.scan(own + prefix, own + after, limit):
            key = stored[len(own) :]
            value = self.get(key, _ABSENT)
            if value is _ABSENT:
                value = older.get(key, _ABSENT)
            found.append((key, decode(raw) if value is _ABSENT else value))
        return found

    def take_dirty(self) -> dict[bytes, V | None]:
        """The open transaction's writes. From here on the view writes into the next transaction."""
        dirty, self.dirty = self.dirty, {}
        return dirty

    def weigh(self, values: int, encoded_bytes: int) -> None:
        """Learn how large values of this table are."""
        self._weighed += values
        self._weighed_bytes += encoded_bytes

    @property
    def memory(self) -> int:
        """An estimate of the bytes that the younger generation takes."""
        mean = self._weighed_bytes / max(1, self._weighed)
        return int(len(self) * (ENTRY_BYTES + ENCODED_FACTOR * mean))

    def age(self) -> None:
        """Forget the older generation. Only when the store has everything but the open transaction's writes."""
        self._older = dict(self)
        self.clear()


class _Raw:
    __slots__ = ("bytes",)

    def __init__(self, data: bytes) -> None:
        self.bytes = data

"""One source partition in memory: implements `ports` without a broker or a store, for tests and benchmarks.

The next slice sees a slice's writes at once. There are no transactions here.
"""

from collections.abc import Iterator, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple, TypeVar, cast

from portfolio_stream.exactly_once.ports import Append, Record, TableDefinition, View
from portfolio_stream.kafka.header_names import Headers

V = TypeVar("V")


@dataclass(slots=True)
class MemoryRecord:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Appended(NamedTuple):
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class MemoryView(dict[bytes, V | None], Generic[V]):
    """A dict that answers None for a missing key."""

    def __init__(self) -> None:
        super().__init__()
        self.dirty: MutableMapping[bytes, V | None] = {}

    def __missing__(self, key: bytes) -> None:
        return None

    def put(self, key: bytes, value: V | None) -> None:
        self[key] = self.dirty[key] = value

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, V]]:
        for key in sorted(key for key in self if key.startswith(prefix)):
            value = self[key]
            if value is not None:
                yield key, value

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, V | None]]:
        """See `ports`. Every live entry counts as stored."""
        found = sorted(
            key for key, value in self.items() if value is not None and key.startswith(prefix) and key > after
        )
        return [(key, self.get(key)) for key in found[:limit]]


@dataclass(slots=True)
class MemorySlice:
    partition: int
    partition_count: int
    records: Sequence[Record]
    _partition: "MemoryPartition"

    def view(self, table: TableDefinition[V], /) -> View[V]:
        return self._partition.view(table)

    def appender(self, topic: str, /) -> Append:
        appended = self._partition.appended.setdefault(topic, [])

        def append(timestamp: int, key: bytes | None, value: bytes | None, headers: Headers) -> None:
            appended.append(Appended(timestamp, key, value, headers))

        return append


@dataclass(slots=True)
class MemoryPartition:
    partition: int = 0
    partition_count: int = 1
    #: the appended records by topic, in order
    appended: dict[str, list[Appended]] = field(default_factory=dict)
    _definitions: dict[str, TableDefinition[Any]] = field(default_factory=dict)
    _views: dict[str, MemoryView[Any]] = field(default_factory=dict)

    def slice(self, records: Sequence[Record]) -> MemorySlice:
        return MemorySlice(self.partition, self.partition_count, records, self)

    def view(self, table: TableDefinition[V]) -> MemoryView[V]:
        self._definitions[table.name] = table
        return cast("MemoryView[V]", self._views.setdefault(table.name, MemoryView()))

    def take_dirty(self) -> dict[str, dict[bytes, bytes | None]]:
        """The writes of the slices since the last call, by table, encoded as in the changelog."""
        taken: dict[str, dict[bytes, bytes | None]] = {}
        for name, view in self._views.items():
            encode = self._definitions[name].encode
            taken[name] = {key: None if value is None else encode(value) for key, value in view.dirty.items()}
            view.dirty.clear()
        return taken

    def restore(self) -> "MemoryPartition":
        """The state as a restarted worker sees it: every value was encoded and decoded, deleted values are gone."""
        other = MemoryPartition(self.partition, self.partition_count)
        for name, view in self._views.items():
            table = self._definitions[name]
            restored = other.view(table)
            restored.update({key: table.decode(table.encode(v)) for key, v in view.items() if v is not None})
        return other

    def state(self) -> dict[str, dict[bytes, bytes]]:
        """All live values by table, encoded."""
        return {
            name: {key: self._definitions[name].encode(v) for key, v in sorted(view.items()) if v is not None}
            for name, view in self._views.items()
        }

"""The part of the engine that a fold sees: a slice of records, views of tables, appenders to topics.

A fold is a plain function of a `FoldSlice`. It reads records in offset order, reads and replaces values in views, and
appends outputs. The fold sees its own writes at once. Everybody else sees them after the slice's Kafka
transaction is committed.
"""

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from portfolio_stream.errors import StateUnreadable, TableNameInvalid
from portfolio_stream.kafka.header_names import Headers

V = TypeVar("V")

#: append(timestamp in ms since 1970, key, value, headers) adds one record to the topic, in the slice's partition
Append = Callable[[int, bytes | None, bytes | None, Headers], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class TableDefinition(Generic[V]):
    """A table that the changelog and the store hold. Both know the table by `name`: the name must never change."""

    name: str
    encode: Callable[[V], bytes]
    decode: Callable[[bytes], V]

    def __post_init__(self) -> None:
        """Raises TableNameInvalid: a changelog key is `name 0x00 key`, and the engine's own keys have an empty name."""
        if not self.name or "\x00" in self.name:
            raise TableNameInvalid(self.name)

    def read(self, stored: bytes) -> V:
        """Decode a stored value. Raises StateUnreadable: another program may have written bytes to the changelog."""
        try:
            return self.decode(stored)
        except Exception as error:  # the app's decoder may raise any error
            raise StateUnreadable(f"a value of table {self.name!r}") from error


class Record(Protocol):
    """A record of the source topic (aiokafka's C record)."""

    offset: int
    #: milliseconds since 1970
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers


class View(Protocol[V]):
    """One table in one partition. `view[key]` is the value or None (never KeyError).

    A value is immutable, or the fold changes it in place and puts it into `dirty`, and never under two keys. Values are
    encoded at the end of a transaction, while no fold runs. A fold that fails loses the views.

    The fold must write a value to both the view and `dirty`: `view[key] = dirty[key] = value`. `put` does both, at the
    cost of a call. Writing None deletes the key, and the changelog gets a tombstone.
    """

    @property
    def dirty(self) -> MutableMapping[bytes, V | None]: ...
    def __getitem__(self, key: bytes, /) -> V | None: ...
    def __setitem__(self, key: bytes, value: V | None, /) -> None: ...
    def put(self, key: bytes, value: V | None) -> None: ...
    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, V]]:
        """All live entries whose key starts with `prefix`, in key order, including this slice's writes."""
        ...

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, V | None]]:
        """The first `limit` stored keys that start with `prefix` and follow `after`, in key order, with live values.

        A value is None if the fold has deleted the key and the store does not know that yet. Which keys are stored
        depends on time, not only on the records. So a fold may use this method for one purpose: to remove entries that
        no reader counts as part of the table, a bounded number at a time.
        """
        ...


class FoldSlice(Protocol):
    """At most a few hundred records of one source partition, in offset order."""

    partition: int
    #: how many partitions the source topic has
    partition_count: int
    records: Sequence[Record]

    def view(self, table: TableDefinition[V], /) -> View[V]: ...
    def appender(self, topic: str, /) -> Append: ...


class CountedSlice(FoldSlice, Protocol):
    """A slice that the engine hands to an agent."""

    def count(self, **outcomes: int) -> None:
        """Add to the metrics, by outcome. The numbers count when the slice's transaction has committed."""
        ...

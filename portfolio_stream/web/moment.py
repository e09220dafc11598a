"""A partition's tables at one moment: a single snapshot gives the values, META, and the bounds of the windows."""

from collections.abc import Iterator
from functools import cached_property
from typing import Any, TypeVar

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import META_KEY, Meta, read_meta
from portfolio_stream.exactly_once.stored_rows import StoredRows
from portfolio_stream.settings import Settings
from tables.table import SEPARATOR, join_key

V = TypeVar("V")

_AFTER_SEPARATOR = bytes([SEPARATOR[0] + 1])


class Moment:
    """Any thread may read a Moment, one thread at a time. Read the `entries` of one table before those of the next."""

    def __init__(self, rows: StoredRows, settings: Settings) -> None:
        self.partition = rows.partition
        self.deduplication_window = settings.deduplication_window
        self._rows = rows
        self._read: dict[bytes, Any] = {}

    @cached_property
    def offset(self) -> int | None:
        return last_offset(read_meta(self._rows.get(META_KEY)))

    def value(self, table: TableDefinition[V], *parts: str) -> V | None:
        """Returns a committed value, and keeps it: the entries of one portfolio need the same value many times."""
        key = table.name.encode() + SEPARATOR + join_key(*parts)
        if key not in self._read:
            raw = self._rows.get(key)
            self._read[key] = None if raw is None else table.read(raw)
        return self._read[key]  # type: ignore[no-any-return]

    def entries(
        self, table: TableDefinition[Any], lower: bytes = b"", upper: bytes | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Returns the keys in [lower, upper) with their encoded values, in key order. None as `upper`: to the end."""
        name = table.name.encode()
        start = name + SEPARATOR
        end = name + _AFTER_SEPARATOR if upper is None else start + upper
        skip = len(start)
        return ((key[skip:], value) for key, value in self._rows.scan(start + lower, end))


def last_offset(meta: Meta | None) -> int | None:
    """Returns the last source offset that a partition's state includes; None before the first record."""
    return meta.offset - 1 if meta is not None and meta.offset > 0 else None

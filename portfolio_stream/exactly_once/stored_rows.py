"""A partition of the store at one moment, for HTTP and operators, and how rows are read from the database."""

from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.database import Cursor
from portfolio_stream.exactly_once.recent import Row, StoreRows, found_in, merged

P = ParamSpec("P")
R = TypeVar("R")


def failing(method: Callable[P, R]) -> Callable[P, R]:
    """A method of an object with a `path`: its errors become StoreFailed of that path."""

    @wraps(method)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except Exception as error:
            owner: Any = args[0]
            raise StoreFailed(owner.path, str(error)) from error

    return guarded


class StoredRows:
    """A partition at one moment, by changelog keys. Any thread may read it, one thread and one scan at a time."""

    def __init__(
        self, path: Path, partition: int, prefix: bytes, points: Cursor, rows: Cursor, recent: tuple[StoreRows, ...]
    ) -> None:
        """`prefix`: of the partition's store keys."""
        self.path = path
        self._recent = recent
        self.partition = partition
        self._prefix = prefix
        self._points = points
        self._rows = rows

    def get(self, key: bytes) -> bytes | None:
        return self._get(self._prefix + key)

    @failing
    def _get(self, wanted: bytes) -> bytes | None:
        recent = found_in(self._recent, wanted)
        if recent is not None:
            return recent[wanted]
        points = self._points
        points.seek(wanted)
        if points.valid() and points.key() == wanted:
            return points.value()
        points.status()
        return None

    def scan(self, lower: bytes, upper: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The entries of [lower, upper), in key order. Each entry is read when the caller asks for it."""
        lower, upper, skip = self._prefix + lower, self._prefix + upper, len(self._prefix)
        try:
            for key, value in merged(database_rows(self._rows, lower, upper), self._recent, lower, upper):
                yield key[skip:], value
        except Exception as error:
            raise StoreFailed(self.path, str(error)) from error


def database_rows(rows: Cursor, lower: bytes, upper: bytes) -> Iterator[Row]:
    """The database's rows of [lower, upper), in key order. Each row is read when the caller asks for it.

    The cursor's status tells a damaged block from the end of the keys. At a damaged block rocksdict's items() would end
    without an error.
    """
    rows.seek(lower)
    while rows.valid() and (key := rows.key()) < upper:
        yield key, rows.value()
        rows.next()
    rows.status()


def end_of(prefix: bytes) -> bytes:
    """The first key behind all keys that start with `prefix`."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes((kept[-1] + 1,))

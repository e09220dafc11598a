"""A worker that is broken on purpose: its store keeps only META. The fault shows when the worker restarts."""

from collections.abc import Iterable, Mapping

from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.store import META_KEY, ChangelogPosition, Store
from tests.sweep.launcher import app

__all__ = ["app"]

_write = Store._write


def _forget(store: Store, items: Iterable[Item], positions: Mapping[int, ChangelogPosition]) -> None:
    _write(store, [item for item in items if item[0].endswith(META_KEY)], positions)


setattr(Store, "_write", _forget)  # noqa: B010  mypy knows another type

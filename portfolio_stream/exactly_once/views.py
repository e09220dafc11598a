"""The views of all partitions: the values that folds have read or written lately, over what the store holds.

A view is forgotten together with the uncommitted work that it shows. Views are forgotten only while no transaction with
that partition's share is in flight: the store does not have that share yet.
"""

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, TypeVar

from portfolio_stream.errors import TableUnknown
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.stored_view import StoredView

V = TypeVar("V")

GENERATIONS = 2  # of a view: the younger one may take as much as the older one


class Dirty(NamedTuple):
    """What a transaction wrote to one table of one partition, not yet encoded."""

    view: StoredView[Any]
    values: dict[bytes, Any]


class Views:
    def __init__(self, store: Store, tables: Mapping[str, TableDefinition[Any]], limit: int) -> None:
        """`limit` is how many bytes of memory the values may take, as `StoredView.memory` estimates them."""
        self._limit = limit
        self._store = store
        self._tables = tables
        self._views: dict[tuple[int, str], StoredView[Any]] = {}

    def view(self, partition: int, table: TableDefinition[V]) -> StoredView[V]:
        """The view that all slices of the partition share.

        Raises TableUnknown: a commit encodes known tables only, so the values of another table would be lost.
        """
        view = self._views.get((partition, table.name))
        if view is None:
            view = self._views[partition, table.name] = self.unshared(partition, table)
        return view

    def unshared(self, partition: int, table: TableDefinition[V]) -> StoredView[V]:
        """A view that no other slice sees, and that no commit takes anything from. Raises TableUnknown."""
        if table.name not in self._tables:
            raise TableUnknown(table.name)
        return StoredView(self._tables[table.name], self._store, partition)

    def take_dirty(self, partition: int) -> list[Dirty]:
        """What the open transaction wrote, table by table. From here on the views write into the next transaction."""
        views = [self._views.get((partition, table)) for table in self._tables]
        return [Dirty(view, view.take_dirty()) for view in views if view is not None and view.dirty]

    def forget(self, partitions: Collection[int]) -> None:
        for partition, table in list(self._views):
            if partition in partitions:
                del self._views[partition, table]

    def age(self, open_transaction: int, stored_transaction: int) -> None:
        """Bound the memory of the views. A value is forgotten only when the store has the value.

        Call this before the open transaction's writes are taken. All other values are in the store, if the transaction
        before the open one is. A view that is larger than its part of the limit makes room; small views stay whole.
        """
        if stored_transaction < open_transaction - 1:
            return
        memory = [(view, view.memory) for view in self._views.values()]
        if sum(held for _, held in memory) > self._limit / GENERATIONS:
            part = self._limit / GENERATIONS / len(memory)
            for view, held in memory:
                if held > part:
                    view.age()

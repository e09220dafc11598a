"""What the engine knows of each partition.

1. An incarnation numbers a partition's unbroken run: whatever was read in an earlier one is void. It is bumped when
   uncommitted work is dropped, when the partition is lost, and before it is recovered.
2. A partition that is owned is running, recovering or halted.
3. Views hold what was folded or read lately; they are forgotten with the work that they belong to.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, TypeVar

from portfolio_stream.errors import TableUnknown
from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.failures import Suspect
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.stored_view import StoredView

V = TypeVar("V")

VIEW_ENTRIES = 200_000  # hot values of all views together, in each of two generations


class Partitions:
    def __init__(self, store: Store, tables: Mapping[str, TableDefinition[Any]]) -> None:
        self.owned: frozenset[int] = frozenset()
        self.running: set[int] = set()
        self.halted: dict[int, Halted] = {}
        self.suspects: dict[int, Suspect] = {}
        #: next source offsets
        self.committed: dict[int, int] = {}
        self._store = store
        self._tables = tables
        self._incarnations: dict[int, int] = {}
        self._views: dict[tuple[int, str], StoredView[Any]] = {}

    def incarnation(self, partition: int) -> int:
        return self._incarnations.get(partition, 0)

    def bump(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._incarnations[partition] = self._incarnations.get(partition, 0) + 1

    def let_go(self, partitions: Collection[int]) -> None:
        """Nothing that was read or folded of them counts any more."""
        self.bump(partitions)
        self.forget_views(partitions)
        for partition in partitions:
            for known in (self.halted, self.suspects, self.committed):
                known.pop(partition, None)

    def run_again(self, partition: int) -> None:
        """Clear the halt and the suspicion."""
        self.halted.pop(partition, None)
        self.suspects.pop(partition, None)

    def advance(self, partition: int, offset: int) -> None:
        """All before `offset` is committed."""
        self.committed[partition] = offset
        suspect = self.suspects.get(partition)
        if suspect is not None and offset > suspect.until:
            del self.suspects[partition]  # what failed is behind us: full slices again

    # -- views

    def view(self, partition: int, table: TableDefinition[V]) -> StoredView[V]:
        """Raises TableUnknown: what nobody encodes at the commit would be lost."""
        view = self._views.get((partition, table.name))
        if view is None:
            view = self._views[partition, table.name] = self.new_view(partition, table)
        return view

    def new_view(self, partition: int, table: TableDefinition[V]) -> StoredView[V]:
        """One that nobody sees. Raises TableUnknown."""
        if table.name not in self._tables:
            raise TableUnknown(table.name)
        return StoredView(self._tables[table.name], self._store, partition)

    def dirty_items(self, partition: int) -> Iterator[Item]:
        """What the open transaction wrote, encoded once, table by table. The views are clean then.

        Raises what an encoder raises: some views are clean then, others are not, and all must be forgotten.
        """
        for table in self._tables:
            view = self._views.get((partition, table))
            if view is not None and view.dirty:
                yield from view.take_dirty()

    def forget_views(self, partitions: Collection[int]) -> None:
        for partition, table in list(self._views):
            if partition in partitions:
                del self._views[partition, table]

    def age_views(self, open_transaction: int, stored_transaction: int) -> None:
        """Bound what they hold; a value is forgotten only when the store has it."""
        limit = VIEW_ENTRIES // max(1, len(self._views))
        for view in self._views.values():
            view.age(limit, open_transaction, stored_transaction)

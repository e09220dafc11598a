"""Faust's tables on the engine: the app defines them in Faust, folds write them by slices, the engine recovers them."""

import asyncio
from typing import Any, NoReturn

import faust
from faust.tables.manager import TableManager

from portfolio_stream.errors import NotTransactional
from portfolio_stream.exactly_once.ports import TableDefinition


class ExactlyOnceTable(faust.Table):
    """`app.Table(name, options={"definition": TableDefinition(...)})`."""

    @property
    def definition(self) -> TableDefinition[Any]:
        definition: TableDefinition[Any] = self.options["definition"]
        return definition

    async def on_start(self) -> None:
        """Open no store of Faust's."""

    def _refuse(self, what: str) -> NoReturn:
        raise NotTransactional(what, f"slice.view({self.name})")

    def __getitem__(self, key: Any) -> NoReturn:
        self._refuse("table[key]")

    def __setitem__(self, key: Any, value: Any) -> NoReturn:
        self._refuse("table[key] = value")

    def __delitem__(self, key: Any) -> NoReturn:
        self._refuse("del table[key]")

    def tumbling(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("table.tumbling()")

    def hopping(self, *args: Any, **kwargs: Any) -> NoReturn:
        self._refuse("table.hopping()")


class ExactlyOnceTableManager(TableManager):
    """The engine recovers tables. This class only tells Faust that it may go on."""

    async def on_start(self) -> None:
        self._tables_finalized.set()
        for table in self.values():
            await table.maybe_start()
        self._tables_registered.set()

    async def on_stop(self) -> None:
        await self.app._fetcher.stop()

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Do nothing: for Faust, ownership never changes."""

    async def on_rebalance(self, assigned: Any, revoked: Any, newly_assigned: Any, generation_id: int = 0) -> None:
        self._opening = asyncio.create_task(self._open())  # as a task of its own, as Faust does

    async def _open(self) -> None:
        app = self.app
        self.on_actives_ready()
        self.on_standbys_ready()
        app.flow_control.resume()
        app.consumer.resume_flow()
        await app._fetcher.maybe_start()
        app.on_rebalance_end()

    async def wait_until_recovery_completed(self) -> bool:
        return False

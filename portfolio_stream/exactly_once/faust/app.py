"""A Faust app on the engine: Faust keeps its CLI, worker, agents, timers, web server and life cycle.

What is not transactional is refused: nothing may silently escape the transaction.
"""

import logging
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import faust
from faust.app.base import BootStrategy
from faust.transport.drivers import TRANSPORTS

from portfolio_stream.errors import NotTransactional, PortfolioStreamError
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.faust.agent import SliceAgent
from portfolio_stream.exactly_once.faust.stream import SliceStream
from portfolio_stream.exactly_once.faust.tables import ExactlyOnceTable, ExactlyOnceTableManager
from portfolio_stream.exactly_once.ports import TableDefinition

log = logging.getLogger(__name__)

SCHEME = "exactly-once"
TRANSPORTS.aliases[SCHEME] = "portfolio_stream.exactly_once.faust.transport:Transport"

#: claims the identity, opens the store: before any broker is called
MakeEngine = Callable[[list[TableDefinition[Any]]], Awaitable[Engine]]


class _Boot(BootStrategy):
    """No producer of Faust's own: everything that is written goes through the engine's transactions."""

    enable_kafka_producer = False


class _Topic(faust.Topic):
    """A topic to read, or a name to append to."""

    async def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send()", "slice.appender(topic)(timestamp, key, value, headers)")

    def send_soon(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send_soon()", "slice.appender(topic)(timestamp, key, value, headers)")


class _Worker(faust.Worker):
    """Ends with the code of what made the app stop: 0 only if nothing is in doubt."""

    def execute_from_commandline(self) -> None:
        try:
            super().execute_from_commandline()
        except SystemExit as ended:
            raise SystemExit(ended.code or self.app.exit_code) from None


class ExactlyOnceApp(faust.App):
    """`make_engine` is called once, when the worker starts."""

    BootStrategy = _Boot

    def __init__(self, id: str, *, make_engine: MakeEngine, bootstrap_servers: str, **options: Any) -> None:
        self._make_engine = make_engine
        self.engine: Engine | None = None
        self.failure: PortfolioStreamError | None = None
        self.exit_code = 0
        self.bootstrap_servers = bootstrap_servers
        super().__init__(
            id,
            broker=f"{SCHEME}://{bootstrap_servers.split(',')[0]}",
            Agent=SliceAgent,
            Stream=SliceStream,
            Table=ExactlyOnceTable,
            TableManager=ExactlyOnceTableManager,
            Topic=_Topic,
            Worker=_Worker,
            # Faust's own transaction code must sleep; the engine's guarantee is `processing_guarantee` below
            processing_guarantee="at_least_once",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            **options,
        )

    @property
    def guarantee(self) -> str:
        """What the engine gives, whatever Faust's own setting says."""
        return "exactly_once"

    async def make_engine(self) -> Engine:
        definitions = [table.definition for table in self.tables.values()]
        self.engine = await self._make_engine(definitions)
        return self.engine

    def fail(self, error: PortfolioStreamError) -> None:
        """Stop the worker because of `error`: its two sentences reach the log, no traceback does."""
        self.failure = error
        self.exit_code = error.exit_code
        log.critical("%s Operator action: %s", error.cause, error.action)

    def _create_directories(self) -> None:
        """Faust keeps nothing on disk: the store is the engine's."""

    async def on_stop(self) -> None:
        """The engine first: Faust would clear the queues of slices that are still to be settled."""
        await self.consumer.stop_engine()
        await super().on_stop()

    async def _producer_flush(self, logger: Any) -> None:
        """There is none."""

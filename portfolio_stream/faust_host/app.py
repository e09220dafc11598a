"""A Faust app on the engine: Faust keeps its CLI, worker, agents, timers, web server and life cycle.

What is not transactional is refused: nothing may silently escape the transaction.
"""

import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any, NoReturn

import faust
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaConnectionError
from faust.app.base import BootStrategy
from faust.transport.drivers import TRANSPORTS

from portfolio_stream.errors import NotTransactional, PortfolioStreamError
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.faust_host.agent import SliceAgent
from portfolio_stream.faust_host.command_line import (
    NO_WEB_SERVER,
    idle_variables,
    judge,
    literal,
    refuse_strict,
)
from portfolio_stream.faust_host.stream import SliceSchema, SliceStream
from portfolio_stream.faust_host.tables import ExactlyOnceTable, ExactlyOnceTableManager
from portfolio_stream.kafka.connections import KafkaConnections
from portfolio_stream.kafka.reach import why_unreachable
from portfolio_stream.kafka.topic_check import TopicCheck, check_present
from portfolio_stream.kafka.topics import ANY_TIMESTAMP, WEEK_MS, Role, Topic, create_missing, describe_topics
from portfolio_stream.standard_streams import install

log = logging.getLogger(__name__)

#: values and batches hold no cycles: Python's default pace scans the views for nothing, 12 % of the throughput
GC_THRESHOLDS = (100_000, 50, 1_000)

SCHEME = "exactly-once"
TRANSPORTS.aliases[SCHEME] = "portfolio_stream.faust_host.transport:Transport"

#: claims the identity, opens the store: before any broker is called
MakeEngine = Callable[[list[TableDefinition[Any]]], Awaitable[Engine]]


class _Boot(BootStrategy):
    """No producer of Faust's own: everything that is written goes through the engine's transactions."""

    enable_kafka_producer = False

    def web_server(self) -> tuple[()]:
        """Not Faust's own, which listens on every address and lets everyone in; what the app brings starts later."""
        return ()


class _Topic(faust.Topic):
    """A topic to read, or a name to append to."""

    async def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send()", "slice.appender(topic)(timestamp, key, value, headers)")

    def send_soon(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send_soon()", "slice.appender(topic)(timestamp, key, value, headers)")


class _EngineWorker(faust.Worker):
    """Ends with the code of what made the app stop: 0 only if nothing is in doubt. Without mode's debugger."""

    def __init__(self, app: Any, *services: Any, **options: Any) -> None:
        if app._web_server_service is None:
            app.conf.web_enabled = False  # or the banner names an address where nobody listens
        if "datadir" in app.given:
            app.conf.datadir = literal(app.given["datadir"])
        super().__init__(app, *services, **options)

    def execute_from_commandline(self) -> NoReturn:
        """End when every service has stopped: what Python would take apart piece by piece, the system frees at once.

        (0.2 s of CPU with empty caches; with full ones a stop took 5 s on a busy machine, nearly all of it this.)
        """
        logging.raiseExceptions = False  # a log line that no disk takes is dropped; a traceback of each helps nobody
        try:
            super().execute_from_commandline()
        except SystemExit as ended:
            code = int(ended.code or self.app.exit_code)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # mode puts back what Python began with: None for `>&-`
            stream.flush()
        logging.shutdown()
        os._exit(code)

    def install_signal_handlers(self) -> None:
        """A closed terminal ends it as SIGTERM does, in order; under nohup it goes on."""
        super().install_signal_handlers()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self.loop.add_signal_handler(signal.SIGHUP, self._on_sigterm)

    def _enter_debugger(self) -> None:
        """What mode does at SIGUSR2: the process would stand still, and be expelled from the group."""
        log.info("ignored signal=SIGUSR2")

    async def maybe_start_blockdetection(self) -> None:
        """Its alarm raises an error wherever the process is."""

    async def _add_monitor(self) -> None:
        """A console that runs any code for whoever reaches its port."""

    async def _sentinel_task(self) -> None:
        """mode's last task sleeps for a second; by then every service has stopped."""


class ExactlyOnceApp(faust.App):
    """`make_engine` is called once, when the worker starts.

    `refused_options` are options of Faust's, by click's names, that this app has nothing for, and what to do instead.
    """

    BootStrategy = _Boot

    def __init__(
        self,
        id: str,
        *,
        make_engine: MakeEngine,
        bootstrap_servers: str,
        refused_options: Mapping[str, str] = NO_WEB_SERVER,
        **options: Any,
    ) -> None:
        refuse_strict(os.environ)
        gc.set_threshold(*GC_THRESHOLDS)
        install(drops_output=True)  # a worker outlives its terminal and a full disk; Faust takes the streams after this
        self._make_engine = make_engine
        self.engine: Engine | None = None
        self.failure: PortfolioStreamError | None = None
        self.exit_code = 0
        self.bootstrap_servers = bootstrap_servers
        self._refused_options = refused_options
        #: what stands on the command line, by click's names
        self.given: Mapping[str, Any] = {}
        super().__init__(
            id,
            broker=f"{SCHEME}://{bootstrap_servers.split(',')[0]}",
            Agent=SliceAgent,
            Stream=SliceStream,
            Table=ExactlyOnceTable,
            TableManager=ExactlyOnceTableManager,
            Topic=_Topic,
            Worker=_EngineWorker,
            # Faust's own transaction code must sleep; the engine's guarantee is `processing_guarantee` below
            processing_guarantee="at_least_once",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            env={},  # no variable of Faust's settings counts: see command_line
            **options,
        )

    @property
    def guarantee(self) -> str:
        """What the engine gives, whatever Faust's own setting says."""
        return "exactly_once"

    def topic(self, *names: str, **options: Any) -> Any:
        """What is read of it are slices: decoding belongs to the fold."""
        return super().topic(*names, **{"schema": SliceSchema()} | options)

    def worker_init(self) -> None:
        """Called by each command of Faust's that has found the app, before it does anything."""
        self.given = judge(self._refused_options)
        super().worker_init()

    def _init_fixups(self) -> list[Any]:
        """None of Faust's, whatever the environment says."""
        return []

    async def make_engine(self) -> Engine:
        if idle := idle_variables(os.environ):
            log.warning("ignored variables=%s reason=these settings of Faust have no effect here", ",".join(idle))
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


def exactly_once_app(
    group: str,
    *,
    source: str,
    outputs: Sequence[str],
    tables: Sequence[TableDefinition[Any]],
    fold: str,
    bootstrap_servers: str,
    client_options: Mapping[str, Any] | None = None,
    **options: Any,
) -> ExactlyOnceApp:
    """An app with nothing but a fold to write: one source topic, outputs, and tables in the changelog GROUP-changelog.

    `fold` names what the state depends on besides the records: a state of another fold is refused. A worker keeps its
    identity and its store in Faust's `datadir`. It makes the topics that are missing, as many partitions as the source
    has, or Faust's `topic_partitions`. `client_options` are aiokafka's of every client (security), `options` Faust's.
    """
    client = {"bootstrap_servers": bootstrap_servers, **(client_options or {})}
    changelog = f"{group}-changelog"

    async def make_engine(definitions: list[TableDefinition[Any]]) -> Engine:
        with ExitStack() as held:
            identity = claim(app.conf.datadir, None)
            held.callback(release, identity)
            store = Store(identity.folder / "store")
            held.callback(store.close)
            topic_settings = await _make_topics(client, app.conf, source, outputs, changelog)
            held.pop_all()
        configuration = Configuration(
            group=group,
            source_topic=source,
            changelog_topic=changelog,
            output_topics=tuple(outputs),
            fold=fold,
        )
        kafka = KafkaConnections(options=client, client_id=identity.instance_id)
        return Engine(configuration, kafka, identity, store, definitions, topic_settings=topic_settings)

    app = ExactlyOnceApp(group, make_engine=make_engine, bootstrap_servers=bootstrap_servers, **options)
    for definition in tables:
        app.Table(definition.name, options={"definition": definition})
    return app


@asynccontextmanager
async def _admin(client: Mapping[str, Any]) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**client)
    try:
        await admin.start()
        yield admin
    except KafkaConnectionError:
        raise await why_unreachable(client) from None
    finally:
        await admin.close()


async def _make_topics(
    client: Mapping[str, Any], conf: Any, source: str, outputs: Sequence[str], changelog: str
) -> TopicCheck:
    """Make what is missing; raises TopicMisconfigured for what is there and would scatter or lose records."""
    servers = client["bootstrap_servers"]
    async with _admin(client) as admin:
        described = await describe_topics(admin, [source])
        partitions = described[source].partitions if described else conf.topic_partitions

        def topic(name: str, role: Role, **configuration: str) -> Topic:
            return Topic(
                name=name,
                role=role,
                partitions=partitions,
                replication_factor=conf.topic_replication_factor,
                configuration=configuration,
            )

        compacted = {"cleanup.policy": "compact", "delete.retention.ms": WEEK_MS} | ANY_TIMESTAMP
        topics = [
            topic(source, "source"),
            *(topic(name, "output", **{"cleanup.policy": "delete"} | ANY_TIMESTAMP) for name in outputs),
            topic(changelog, "changelog", **compacted),
        ]
        await check_present(admin, topics, servers)
        await create_missing(admin, topics)
        check = TopicCheck(lambda: _admin(client), topics, servers)
        await check.begin(admin)
        return check

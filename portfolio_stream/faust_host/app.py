"""A Faust app on the engine: Faust keeps its CLI, worker, agents, timers, web server and life cycle.

The app refuses each feature of Faust that is not transactional: no write may escape the transaction in silence.
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

#: Values and batches hold no reference cycles. At Python's default thresholds the garbage collector would scan the
#: views again and again for nothing, which costs 12 % of the throughput
GC_THRESHOLDS = (100_000, 50, 1_000)

SCHEME = "exactly-once"
TRANSPORTS.aliases[SCHEME] = "portfolio_stream.faust_host.transport:Transport"

#: makes the engine from the tables' definitions; it claims the identity and opens the store before it calls a broker
MakeEngine = Callable[[list[TableDefinition[Any]]], Awaitable[Engine]]


class _Boot(BootStrategy):
    """A start without Faust's own producer: all writes go through the engine's transactions."""

    enable_kafka_producer = False

    def web_server(self) -> tuple[()]:
        """Start no web server of Faust's, because that server listens on every address and lets everyone in. A web
        server that the app brings starts later."""
        return ()


class _Topic(faust.Topic):
    """A topic that agents read. Sending to a topic is refused: an agent appends by its slice."""

    async def send(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send()", "slice.appender(topic)(timestamp, key, value, headers)")

    def send_soon(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("topic.send_soon()", "slice.appender(topic)(timestamp, key, value, headers)")


class _EngineWorker(faust.Worker):
    """Faust's worker, with the app's exit code: 0 only if no transaction is in doubt. It has no debugger of mode's."""

    def __init__(self, app: Any, *services: Any, **options: Any) -> None:
        if app._web_server_service is None:
            app.conf.web_enabled = False  # otherwise the banner would name an address where nobody listens
        if "datadir" in app.given:
            app.conf.datadir = literal(app.given["datadir"])
        super().__init__(app, *services, **options)

    def execute_from_commandline(self) -> NoReturn:
        """Run the worker, and end the process as soon as every service has stopped.

        The process ends without Python's own clean-up, because the system frees memory at once. Python's clean-up took
        0.2 s of CPU with empty caches, and nearly 5 s with full caches on a busy machine.
        """
        logging.raiseExceptions = False  # if the disk takes no log line, a traceback for each line helps nobody
        try:
            super().execute_from_commandline()
        except SystemExit as ended:
            code = int(ended.code or self.app.exit_code)
        for stream in filter(None, (sys.stdout, sys.stderr)):  # mode restores Python's own streams: None after `>&-`
            stream.flush()
        logging.shutdown()
        os._exit(code)

    def install_signal_handlers(self) -> None:
        """A closed terminal (SIGHUP) stops the worker in order, as SIGTERM does. Under nohup the worker goes on."""
        super().install_signal_handlers()
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            self.loop.add_signal_handler(signal.SIGHUP, self._on_sigterm)

    def _on_sigusr2(self) -> None:
        """Stop as at SIGTERM, but remain a member of the group for the next process. (mode would start a debugger.)"""
        self.app.remains_at_stop = True
        self._schedule_shutdown(signal.SIGUSR2)

    def _setup_spinner_handler(self, logger: logging.Logger, level: int) -> None:
        """Show no spinner: it would set the root logger to DEBUG, and each debug line of a library would be built."""
        self.spinner = None

    async def maybe_start_blockdetection(self) -> None:
        """Start no detection of a blocked loop: its alarm raises an error in whatever code runs."""

    async def _add_monitor(self) -> None:
        """Serve no console: it would run any code for whoever reaches its port."""

    async def _sentinel_task(self) -> None:
        """Skip mode's last task, which sleeps for a second after every service has stopped."""


class ExactlyOnceApp(faust.App):
    """A Faust app whose consumer is the engine. The worker calls `make_engine` once, when it starts.

    `refused_options` maps options of Faust that this app does not have (by click's names) to what to do instead.
    """

    BootStrategy = _Boot

    def __init__(
        self,
        id: str,
        *,
        make_engine: MakeEngine,
        bootstrap_servers: str,
        refused_options: Mapping[str, str] = NO_WEB_SERVER,
        remains_at_stop: bool = False,
        **options: Any,
    ) -> None:
        refuse_strict(os.environ)
        gc.set_threshold(*GC_THRESHOLDS)
        install(drops_output=True)  # a worker outlives its terminal and a full disk
        self._make_engine = make_engine
        self.engine: Engine | None = None
        self.failure: PortfolioStreamError | None = None
        self.exit_code = 0
        self.bootstrap_servers = bootstrap_servers
        #: a stop does not leave the group: the next process goes on with the membership
        self.remains_at_stop = remains_at_stop
        self._refused_options = refused_options
        #: the options of the command line, by click's names
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
            # Faust's own transaction code must not run: the engine has the transactions
            processing_guarantee="at_least_once",
            topic_allow_declare=False,
            topic_disable_leader=True,
            stream_wait_empty=False,
            env={},  # no environment variable of Faust's settings counts: see command_line
            **options,
        )

    @property
    def guarantee(self) -> str:
        """The guarantee that the engine gives, whatever Faust's own setting says."""
        return "exactly_once"

    def topic(self, *names: str, **options: Any) -> Any:
        """Returns a topic whose stream has slices: the fold decodes the records."""
        return super().topic(*names, **{"schema": SliceSchema()} | options)

    def worker_init(self) -> None:
        """Judge the command line. Each command of Faust calls this method first, once it has found the app."""
        self.given = judge(self._refused_options)
        super().worker_init()

    def _init_fixups(self) -> list[Any]:
        """Use no fixup of Faust, whatever the environment says."""
        return []

    async def make_engine(self) -> Engine:
        if idle := idle_variables(os.environ):
            log.warning("ignored variables=%s reason=these settings of Faust have no effect here", ",".join(idle))
        definitions = [table.definition for table in self.tables.values()]
        self.engine = await self._make_engine(definitions)
        return self.engine

    def fail(self, error: PortfolioStreamError) -> None:
        """Note why the worker stops. The log gets the error's cause and its operator action, but no traceback."""
        self.failure = error
        self.exit_code = error.exit_code
        log.critical("%s Operator action: %s", error.cause, error.action)

    def _create_directories(self) -> None:
        """Make no folder: Faust keeps nothing on disk, and the store is the engine's."""

    async def on_stop(self) -> None:
        """Stop the engine first: Faust would clear the queues of slices that are not settled yet."""
        await self.consumer.stop_engine()
        await super().on_stop()

    async def _producer_flush(self, logger: Any) -> None:
        """Flush nothing: the app has no producer of Faust's."""


def exactly_once_app(
    group: str,
    *,
    source: str,
    outputs: Sequence[str],
    tables: Sequence[TableDefinition[Any]],
    fold: str,
    bootstrap_servers: str,
    client_options: Mapping[str, Any] | None = None,
    commit_interval_seconds: float | None = None,
    **options: Any,
) -> ExactlyOnceApp:
    """Make an app whose author writes only a fold. It has one source topic, outputs, and the changelog GROUP-changelog.

    `fold` names what the state depends on besides the records: a worker refuses a state of another fold. A worker keeps
    its identity and its store in Faust's `datadir`. It makes missing topics with as many partitions as the source has;
    if the source is missing too, with Faust's `topic_partitions`. `client_options` are options of aiokafka for every
    client, such as security. A `commit_interval_seconds` of None adapts to the cost of a commit. `options` are Faust's.
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
            commit_interval_seconds=commit_interval_seconds,
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
    """Make the missing topics. Raises TopicMisconfigured for a topic whose settings would scatter or lose records."""
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

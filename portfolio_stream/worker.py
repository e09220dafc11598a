"""The composition root: it puts settings, engine, Faust app, agents, tables and web server together.

No other module knows all of them, and this module does nothing else.
"""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from importlib.metadata import version
from typing import Any, NamedTuple

from agents.market_prices import read_record
from agents.portfolio_events import make_agent, make_mover
from portfolio_stream.checkpoints.history import History
from portfolio_stream.checkpoints.recorder import Recorder
from portfolio_stream.compiled import BUILD
from portfolio_stream.control.job_control import FIRST_START, JobControl
from portfolio_stream.control.values import Generation
from portfolio_stream.errors import PortfolioStreamError, WebServerNeeded
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.state_memory import StateMemory
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.faust_host.app import ExactlyOnceApp
from portfolio_stream.faust_host.command_line import literal, refuse
from portfolio_stream.faust_host.web import web_service
from portfolio_stream.http.access import Access
from portfolio_stream.http.addresses import DEFAULT_PORT, advertised_address, authority, listen
from portfolio_stream.jobs.agent import JobAgent, SavepointHeads, SavepointPlace
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.jobs.copies import copies_of
from portfolio_stream.jobs.export_process import ChildExporter
from portfolio_stream.jobs.first_start import require_no_outputs
from portfolio_stream.jobs.job_configuration import job_configuration
from portfolio_stream.jobs.switch import Switcher
from portfolio_stream.kafka.admin import admin_client, prepare_for_worker
from portfolio_stream.kafka.changelog_topics import ChangelogTopics
from portfolio_stream.kafka.client import kafka_connections
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.kafka.quiet_logs import quieten
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.start_steps import StartSteps
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.settings import KINDS, Settings, read_value, unknown_variables, variable
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.server import WebServer
from tables.catalog import TABLES
from tables.prices import Prices

log = logging.getLogger(__name__)

DISTRIBUTION = "portfolio-stream"

#: options of Faust's that set one of our settings
HONOURED_OPTIONS = {"datadir": "data_dir", "web_bind": "web_host", "web_port": "web_port"}
#: options of Faust's that we refuse, and what to do instead
REFUSED_OPTIONS = {"web_host": "Set PORTFOLIO_WEB_ADVERTISED to the host:port that other workers use."}


class Parts(NamedTuple):
    """The parts of one worker."""

    engine: Engine
    server: WebServer
    control: JobControl
    agent: JobAgent
    switches: BackgroundSwitches


async def make_parts(
    settings: Settings,
    tables: list[TableDefinition[Any]],
    prices: Prices,
    checkpoints: History,
    host_setting: str = variable("web_host"),
) -> Parts:
    """Make the engine, the web server and the connection to the job of one worker.

    The worker takes its identity, its store and its web port before it calls any broker: so a second process of the
    same identity ends before it can fence the first. When this function raises, it lets all of them go.
    `host_setting` is the option or variable that says where to listen.
    """
    async with AsyncExitStack() as held:
        made = await _make_parts(settings, tables, prices, checkpoints, host_setting, held)
        held.pop_all()
    return made


async def _make_parts(
    settings: Settings,
    tables: list[TableDefinition[Any]],
    prices: Prices,
    checkpoints: History,
    host_setting: str,
    held: AsyncExitStack,
) -> Parts:
    steps = StartSteps.of_this_process()
    identity = claim(settings.data_dir, settings.instance_id)
    held.callback(release, identity)
    store = Store(identity.folder / "store", memory=StateMemory.of(settings.state_memory))
    held.callback(store.close)
    sock = listen(settings.web_host, settings.web_port, host_setting)
    held.callback(sock.close)
    # raises WebTokenMissing now, before a broker is called
    Access(settings, sock.getsockname()[0], host_setting=host_setting)
    steps.end("store")
    async with admin_client(settings) as admin:
        topic_settings, partitions = await prepare_for_worker(admin, settings)
    steps.end("topics")
    kafka = kafka_connections(settings, f"{identity.instance_id}@{advertised_address(settings, sock)}")
    events = EventRing()
    control = JobControl(kafka, group=settings.group, source_topic=settings.input_topic, tell=events.tell)
    held.push_async_callback(control.stop)
    if (await control.open()).job is None:
        await require_no_outputs(control, kafka, job_configuration(settings))
    await control.begin_job(first_generation(settings, partitions))
    orders = await control.follow()
    steps.end("job")
    order = orders.current
    configuration = replace(
        job_configuration(settings), generation=order.generation, changelog_topic=order.changelog_topic
    )
    engine = Engine(
        configuration, kafka, identity, store, tables, make_mover(settings), topic_settings, events, orders, partitions
    )
    engine.statistics.start = steps
    objects = open_objects(settings.savepoint_dir)
    place = SavepointPlace(
        objects=objects,
        exporter=ChildExporter(settings.savepoint_dir),
        folder=copies_of(identity),
        head=SavepointHeads(control, engine, version(DISTRIBUTION)).of,
        interval=settings.savepoint_interval,
    )
    topics, job = ChangelogTopics(settings), job_configuration(settings)
    switches = BackgroundSwitches(
        control, lambda report: Switcher(control, kafka, topics, objects, job, report), identity.member_id
    )
    routes = JobRoutes(control, objects, switches, identity.instance_id)
    server = WebServer(engine, settings, sock, prices, checkpoints, routes)
    return Parts(engine, server, control, JobAgent(control, engine, place), switches)


def first_generation(settings: Settings, partitions: int) -> Generation:
    """The generation of a job that never was restored: its changelog is the one that every version knows."""
    return Generation(
        number=1,
        changelog_topic=settings.changelog_topic,
        source_topic_id=None,
        partitions=partitions,
        first_offsets={},
        fold=settings.fold_signature,
        origin=FIRST_START,
        created_at=time.time(),
    )


def make_app(settings: Settings, unknown: Sequence[str] = ()) -> ExactlyOnceApp:
    """Make the Faust app of one worker. Options of Faust's command line beat the settings.

    `unknown` are environment variables that look like settings, but no setting has their name. A worker warns of them
    when it starts.
    """
    quieten()
    started: list[WebServer | Follower | JobControl | JobAgent | BackgroundSwitches | Recorder] = []

    async def stop_started() -> None:
        while started:
            await started.pop().stop()

    def chosen() -> Settings:
        """The settings with the options of the command line. Faust knows the options once it has found its command."""
        given = {field: app.given[option] for option, field in HONOURED_OPTIONS.items() if option in app.given}
        return replace(settings, **given)

    async def make(tables: list[TableDefinition[Any]]) -> Engine:
        if not app.conf.web_enabled:
            raise WebServerNeeded
        if unknown:
            log.warning("ignored variables=%s reason=no setting has this name", ",".join(unknown))
        prices, checkpoints = Prices(read_record), History()
        host_setting = "--web-bind" if "web_bind" in app.given else variable("web_host")
        engine, server, control, agent, switches = await make_parts(chosen(), tables, prices, checkpoints, host_setting)
        try:
            started.append(control)
            started.append(switches)
            await switches.end_orphans()
            started.append(server)
            await server.start()
            follower = Follower(settings, settings.prices_topic, prices)
            started.append(follower)
            follower.start()
            recorder = Recorder(engine, settings, checkpoints)
            started.append(recorder)
            recorder.start()
            started.append(agent)
            agent.start()
        except BaseException:
            await stop_started()
            await engine.close()
            release(engine.identity)
            raise
        # Faust's banner names neither the guarantee nor the port that was free
        log.info("serving web=http://%s guarantee=%s", server.address, app.guarantee)
        _tell_build()
        return engine

    app = ExactlyOnceApp(
        settings.group,
        make_engine=make,
        bootstrap_servers=settings.bootstrap_servers,
        refused_options=REFUSED_OPTIONS,
        remains_at_stop=settings.on_stop == "remain",
        datadir=literal(settings.data_dir),
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
    )
    for name, definition in TABLES.items():
        app.Table(name, options={"definition": definition}, partitions=settings.partitions)
    app.agent(app.topic(settings.input_topic), name="portfolio_events")(make_agent(settings))

    def web_url() -> str:
        return f"http://{authority(chosen().web_host, chosen().web_port or DEFAULT_PORT)}"

    app.web_server(web_service(web_url, stop_started))
    return app


def _tell_build() -> None:
    """Say which modules fold."""
    level = logging.WARNING if BUILD.is_stale else logging.INFO
    log.log(level, "folding modules=%s", "compiled" if BUILD.is_used else f"interpreted reason={BUILD.reason}")


def _app_or_exit() -> ExactlyOnceApp:
    try:
        settings = Settings.from_environment(os.environ)
        folder = os.environ.get("FAUST_DATADIR")
        if folder and not os.environ.get(variable("data_dir")):
            settings = replace(settings, data_dir=read_value("FAUST_DATADIR", folder, KINDS["data_dir"]))
        return make_app(settings, unknown_variables(os.environ))
    except PortfolioStreamError as error:
        refuse(error)


app = _app_or_exit()

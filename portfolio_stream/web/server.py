"""The worker's web server. It answers from before the engine's start until after the engine's end.

A worker takes the port (`http.addresses`) before it calls any broker, because the engine's client id names the port.
Paths hold portfolio ids. So access logs are off, and the log does not show the bytes of a request that is no HTTP.
"""

import asyncio
import logging
import socket
from pathlib import Path

from aiohttp import web

from portfolio_stream.checkpoints.history import History
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.access import IDENTITY_PATH, Access
from portfolio_stream.http.addresses import advertised_address
from portfolio_stream.http.listener import Listener
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.problem import problems
from portfolio_stream.http.sign_in import LOGIN, LOGOUT, SignIn
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.observe.disks import Disks, FilledPlace
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.settings import SHORTEST_TOKEN, Settings
from portfolio_stream.web import runbook
from portfolio_stream.web.checkpoints import ONE_PATH as ONE_CHECKPOINT_PATH
from portfolio_stream.web.checkpoints import PATH as CHECKPOINTS_PATH
from portfolio_stream.web.checkpoints import Checkpoints
from portfolio_stream.web.events import PATH as EVENTS_PATH
from portfolio_stream.web.events import Events
from portfolio_stream.web.fanout import Fanout
from portfolio_stream.web.figures import FigureRoutes
from portfolio_stream.web.forwarding import Forwarding
from portfolio_stream.web.group_watch import Watch
from portfolio_stream.web.health import Health, lag_of
from portfolio_stream.web.identity_proof import IdentityProof
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.live import Live
from portfolio_stream.web.metrics import Metrics
from portfolio_stream.web.minutes import Minutes
from portfolio_stream.web.operations import ONE_PATH as ONE_PARTITION_PATH
from portfolio_stream.web.operations import PATH as PARTITIONS_PATH
from portfolio_stream.web.operations import Operations
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.roll_call import Roll
from portfolio_stream.web.routing import Routing
from portfolio_stream.web.static_files import StaticFiles
from portfolio_stream.web.status import PATH as WORKER_PATH
from portfolio_stream.web.status import Status
from portfolio_stream.web.table_routes import table_routes
from portfolio_stream.web.table_sizes import Census
from portfolio_stream.web.watched import PageWatcher
from tables.prices import Prices

log = logging.getLogger(__name__)

LONGER_TOKEN = (
    f"Give all workers and commands a random one of {SHORTEST_TOKEN} characters or more, such as that of `openssl rand "
    "-hex 16`: whoever reaches this port can try shorter ones on a machine of his own."
)
SHUTDOWN_SECONDS = 0.3  # for running requests; a worker has 5 s to end, and its engine needs 3 s of these

HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class WebServer:
    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        sock: socket.socket,
        prices: Prices,
        checkpoints: History,
        job: JobRoutes | None = None,
    ) -> None:
        """`job`: None for a server without a job, as some tests have it."""
        self._job = job
        self._engine = engine
        self._settings = settings
        self._sock = sock
        self._prices = prices
        self._checkpoints = checkpoints
        self._peers = Peers(settings.web_token, settings.group, engine.identity.instance_id)
        self.routing = Routing(engine)
        self._forwarding = Forwarding(self._peers)
        self._owners = Owners(engine, settings, self.routing, self._forwarding)
        self._roll = Roll(engine, self.routing, self._peers, advertised_address(settings, sock))
        self._pulse = Pulse(engine.statistics, lambda: lag_of(engine))
        self._disks = Disks(disk_places(settings))
        self._beside: list[asyncio.Task[None]] = []
        self._census = Census(engine, self._owners)
        self._listener: Listener | None = None
        #: the host:port that other workers use
        self.address = advertised_address(settings, sock)
        #: the port where this worker listens
        self.port: int = sock.getsockname()[1]

    async def start(self) -> None:
        """Start to answer. Call this before the engine's start. Raises WebTokenMissing."""
        if self._settings.has_short_token:
            log.warning("short token variable=PORTFOLIO_WEB_TOKEN action=%s", LONGER_TOKEN)
        access = Access(self._settings, self._sock.getsockname()[0], self.address)
        await self._peers.start()
        self._listener = Listener(self._application(access), self._sock, log, SHUTDOWN_SECONDS)
        await self._listener.start()
        self._beside = [
            asyncio.create_task(self._roll.run(), name="roll call"),
            asyncio.create_task(self._pulse.run(), name="pulse"),
        ]
        for task in self._beside:
            task.add_done_callback(log_failure)
        self._disks.start()

    async def stop(self) -> None:
        """Close idle connections at once, and the others after SHUTDOWN_SECONDS. A stop takes less than a second."""
        self._disks.stop()
        if self._listener is not None:
            await self._listener.stop()
        for task in self._beside:
            task.cancel()
        await asyncio.gather(*self._beside, return_exceptions=True)
        await self._census.stop()
        await self._peers.stop()
        self._sock.close()

    def _watch(self, status: Status) -> Watch:
        """Make a watch. Each use needs its own: a watch computes rates between its own looks."""
        return Watch(self._engine, self._settings, self.routing, status, self._peers, self._roll, self.address)

    def _application(self, access: Access) -> web.Application:
        engine = self._engine
        app = web.Application(middlewares=[problems, access.middleware])
        fanout = Fanout(engine, self._owners, self.routing, self._forwarding)
        health = Health(engine, self._roll, self._prices)
        status = Status(engine, self._pulse.meter, self.address, self._roll)
        checkpoints = Checkpoints(engine, self._settings, self._checkpoints)
        operations = Operations(engine, self._owners, self._watch(status))
        minutes = Minutes(engine, self.routing, self._peers, self._pulse, self.address)
        app.on_response_prepare.append(_with_headers)
        app.add_routes(
            [
                web.get(EVENTS_PATH, Events(engine).show),
                web.get("/metrics", self._metrics().scrape),
                web.get(CHECKPOINTS_PATH, checkpoints.overview),
                web.get(ONE_CHECKPOINT_PATH, checkpoints.one),
                web.get(PARTITIONS_PATH, operations.partitions),
                web.post(f"{ONE_PARTITION_PATH}/retry", operations.retry),
                web.post(f"{ONE_PARTITION_PATH}/dead-letter", operations.dead_letter),
                web.get(IDENTITY_PATH, IdentityProof(engine, self._settings, self.address).show, allow_head=False),
                web.get("/health/live", health.live),
                web.get("/health/ready", health.ready),
                *table_routes(engine, self._owners, fanout, self._census, self._prices),
                *FigureRoutes(engine, self._settings, status, self._pulse, self._disks).routes(),
                *minutes.routes(),
                *(self._job.routes() if self._job is not None else ()),
                *self._live_view(app, status, minutes),
            ]
        )
        return app

    def _metrics(self) -> Metrics:
        job = None if self._job is None else self._job.figures
        return Metrics(
            self._engine, self._pulse, self._prices, self._roll, self._checkpoints, disks=self._disks, job=job
        )

    def _live_view(self, app: web.Application, status: Status, minutes: Minutes) -> list[web.RouteDef]:
        token = self._settings.web_token
        page, sign_in = StaticFiles(), SignIn(None if token is None else token.encode())
        watcher = PageWatcher(
            self._engine, self._settings, self._checkpoints, lambda: None if self._job is None else self._job.now()
        )
        live = Live(self._engine, self._settings, self._watch(status), watcher, minutes)
        app.on_shutdown.append(live.close)
        return [
            web.get("/", page.show),
            web.get("/static/{name}", page.file),
            web.get("/live", live.stream, allow_head=False),
            web.get(runbook.PATH, runbook.show),
            web.get(WORKER_PATH, status.show),
            web.post(LOGIN, sign_in.login),
            web.post(LOGOUT, sign_in.logout),
        ]


def disk_places(settings: Settings) -> dict[FilledPlace, Path]:
    """The folders whose file systems this worker fills. Savepoints in a bucket have none."""
    savepoints = settings.savepoint_dir
    places: dict[FilledPlace, Path] = {"state": settings.data_dir}
    return places if "://" in savepoints else places | {"savepoints": Path(savepoints)}


async def _with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    """Add HEADERS to the response, except those that the handler has set."""
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)

"""Flink's REST interface on port 8081: what its clients and its web interface read. `changes` has the other requests.

1. Who may ask stands in http/access.py: on loopback the Host header is checked, and a web page of another origin may
   change nothing; with PORTFOLIO_WEB_TOKEN every request needs the token.
2. It asks the workers now and then what went wrong (`incidents`), and everything else only when somebody asks it.
"""

import asyncio
import logging
import socket
from collections.abc import Sequence

from aiohttp import web

from portfolio_stream.checkpoints.history import History
from portfolio_stream.flink.answer_routes import AnswerRoutes
from portfolio_stream.flink.error_shape import in_flinks_shape
from portfolio_stream.flink.figures import ClusterFigures
from portfolio_stream.flink.gathering import FigureGathering, Sources
from portfolio_stream.flink.incidents import Incidents
from portfolio_stream.flink.interface import Interface, jar
from portfolio_stream.flink.profiles import Profiles
from portfolio_stream.http.access import Access
from portfolio_stream.http.listener import Listener
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.problem import problems
from portfolio_stream.http.sign_in import LOGIN, LOGOUT, SignIn
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.settings import Settings, variable

log = logging.getLogger(__name__)

PORT_REMEDY = "give another PORTFOLIO_FLINK_PORT"
SHUTDOWN_SECONDS = 0.3
SENDER = "supervisor"  # our name in the workers' logs
VERSION_PATH = "/v1"  # the only version of the interface
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class FlinkServer:
    def __init__(
        self, settings: Settings, sock: socket.socket, sources: Sources, changes: Sequence[web.RouteDef] = ()
    ) -> None:
        """`sock` listens already (http.addresses.listen). `changes` are the routes that change something.

        Raises WebTokenMissing.
        """
        self._settings = settings
        self._sock = sock
        self._sources = sources
        self._changes = changes
        self._access = Access(
            settings, sock.getsockname()[0], changes_on_loopback=True, host_setting=variable("flink_host")
        )
        self._peers = Peers(settings.web_token, settings.group, SENDER)
        self._history = History()
        self._follower = Follower(settings, settings.checkpoints_topic, self._history)
        self._gathering = FigureGathering(settings.group, settings.input_topic, sources, self._peers, self._history)
        self._incidents = Incidents(self._gathering, self._peers)
        self._profiles = Profiles(self._peers)
        self._interface = Interface(jar())
        self._listener: Listener | None = None
        self._beside: asyncio.Task[None] | None = None
        self.port: int = sock.getsockname()[1]

    async def start(self) -> None:
        await self._peers.start()
        self._follower.start()
        self._listener = Listener(self._application(), self._sock, log, SHUTDOWN_SECONDS)
        await self._listener.start()
        self._beside = asyncio.create_task(self._incidents.run(), name="incidents")
        self._beside.add_done_callback(log_failure)

    async def stop(self) -> None:
        if self._listener is not None:
            await self._listener.stop()
        if self._beside is not None:
            self._beside.cancel()
            await asyncio.gather(self._beside, return_exceptions=True)
        await self._profiles.stop()
        await self._follower.stop()
        await self._peers.stop()
        self._sock.close()

    async def look(self) -> ClusterFigures:
        """Returns the figures of this moment, for the supervisor and the routes that change something."""
        return await self._gathering.look()

    # -- routes

    def _application(self) -> web.Application:
        answers = AnswerRoutes(self._settings, self.look, self._incidents.newest, self._profiles, self._sources.logs)
        app = web.Application(middlewares=[in_flinks_shape, problems, self._access.middleware])
        token = self._settings.web_token
        sign_in = SignIn(None if token is None else token.encode())
        app.on_response_prepare.append(_with_headers)
        routes = [*answers.routes(), *self._changes]
        app.add_routes(
            [
                *routes,
                *map(_versioned, routes),
                web.post(LOGIN, sign_in.login),
                web.post(LOGOUT, sign_in.logout),
                web.get("/", self._interface.page),
                web.get("/{file:.+}", self._interface.file),
            ]
        )
        return app


def _versioned(route: web.RouteDef) -> web.RouteDef:
    """The same route under the path that Flink's Java clients ask for."""
    return web.route(route.method, f"{VERSION_PATH}{route.path}", route.handler)


async def _with_headers(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)

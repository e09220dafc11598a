"""The HTTP listener of a worker and of the auditor. Clients get a bounded share of the process, whatever they send: the
engine needs files and sockets of the same process.

1. At most CONNECTIONS are open, and fewer if the process may open only few files. For one more connection, the listener
   closes the idle connection that was used longest ago. If no connection is idle, it closes the new one.
2. The listener closes a connection that has sent no whole request for IDLE_SECONDS, even if single bytes arrive.
3. The listener gives up a client that reads nothing of its answer for UNREAD_SECONDS (on Linux).
4. Bytes that are not HTTP, and a bug of ours, get a problem document (RFC 9457). It does not repeat the bytes.
5. The listener does not decompress request bodies.
"""

import asyncio
import logging
import resource
import socket
from http import HTTPStatus
from typing import Any

from aiohttp import web
from aiohttp.http import HttpProcessingError

from portfolio_stream.http.addresses import BACKLOG
from portfolio_stream.http.problem import Handler, Problem

CONNECTIONS = 256  # 32 live views, the group's workers, scrapers and commands; each costs some 20 KB
FILES_SHARE = 4  # a quarter of the open files; RocksDB, connections to Kafka and our own requests need the others
IDLE_SECONDS = 30.0  # a peer keeps a connection for 15 s, so it never sends a request on a closed one
UNREAD_SECONDS = 20.0  # longer than the bound of a live view

NO_REQUEST = "This is no HTTP request that this server takes."
OUR_FAULT = "The server failed at this request; its log says why."


def most_connections() -> int:
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if files == resource.RLIM_INFINITY else max(1, min(CONNECTIONS, files // FILES_SHARE))


class Listener:
    """Serves an application on a listening socket."""

    def __init__(self, app: web.Application, sock: socket.socket, log: logging.Logger, shutdown_seconds: float) -> None:
        app.middlewares.insert(0, self._using)
        self._runner = web.AppRunner(
            app,
            access_log=None,
            logger=log,
            shutdown_timeout=shutdown_seconds,
            handler_cancellation=True,
        )
        self._sock = sock
        self._log = log
        self._most = most_connections()
        self._server: asyncio.Server | None = None
        #: the open connections, the one that was used longest ago first; True while a request is being answered
        self._connections: dict[_Connection, bool] = {}

    async def start(self) -> None:
        if hasattr(socket, "TCP_USER_TIMEOUT"):  # accepted sockets inherit this option
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD_SECONDS * 1000))
        await self._runner.setup()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._protocol, sock=self._sock, backlog=BACKLOG)

    async def stop(self) -> None:
        """Close idle connections at once, and the others after the seconds of a shutdown."""
        if self._server is not None:
            self._server.close()
        await self._runner.cleanup()

    def opened(self, connection: "_Connection") -> None:
        self._connections[connection] = False

    def lost(self, connection: "_Connection") -> None:
        self._connections.pop(connection, None)

    def _protocol(self) -> asyncio.Protocol:
        """Returns the protocol of a new connection. Without room, the protocol closes the connection."""
        server = self._runner.server
        if server is None or not self._has_room():
            return _Refused()
        return _Connection(server, self, self._log)

    def _has_room(self) -> bool:
        if len(self._connections) < self._most:
            return True
        idle = next((connection for connection, is_used in self._connections.items() if not is_used), None)
        if idle is not None:
            self.lost(idle)
            idle.force_close()
        return idle is not None

    @web.middleware
    async def _using(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        self._use(request.protocol, is_used=True)
        try:
            return await handler(request)
        finally:
            self._use(request.protocol, is_used=False)

    def _use(self, protocol: Any, *, is_used: bool) -> None:
        if self._connections.pop(protocol, None) is not None:
            self._connections[protocol] = is_used


class _Connection(web.RequestHandler):
    __slots__ = ("_listener",)

    def __init__(self, server: web.Server, listener: Listener, log: logging.Logger) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=IDLE_SECONDS,
            access_log=None,  # type: ignore[arg-type]  # no access log: paths hold portfolio ids
            logger=log,
            auto_decompress=False,
        )
        self._listener = listener

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._listener.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        self._listener.lost(self)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """Answer with a problem. The log gets the traceback of a bug, and never the bytes of a request."""
        is_ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR and not isinstance(exc, HttpProcessingError)
        if is_ours:
            self.log_exception("Error handling request", exc_info=exc)
        if request.writer is not None and request.writer.output_size > 0:
            raise ConnectionError("the answer has begun")
        response = Problem(HTTPStatus(status), OUR_FAULT if is_ours else NO_REQUEST).response()
        response.force_close()
        return response


class _Refused(asyncio.Protocol):
    """Closes a new connection for which there is no room."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            transport.abort()

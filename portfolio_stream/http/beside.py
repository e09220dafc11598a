"""The small servers beside the workers (auditor, watcher): how one is served, and how it is asked.

1. On loopback such a server needs no token, because the workers' page asks it without one. On any other address it
   needs PORTFOLIO_WEB_TOKEN, or the signature of a process with the token. It changes nothing.
2. Whoever asks signs the request for any address but loopback, and believes only an answer with a proof. The token
   never travels.
"""

import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from http import HTTPStatus
from ipaddress import ip_address
from socket import socket

import aiohttp
from aiohttp import web
from yarl import URL

from portfolio_stream.http import signatures
from portfolio_stream.http.access import Access
from portfolio_stream.http.addresses import authority, is_loopback, listen
from portfolio_stream.http.answers import AnswerTooLarge, read_bounded
from portfolio_stream.http.listener import Listener
from portfolio_stream.http.peers import authorization
from portfolio_stream.http.problem import json_response, problems
from portfolio_stream.settings import Settings

SHUTDOWN_SECONDS = 0.3


@asynccontextmanager
async def served_beside(
    settings: Settings,
    port: int,
    recipient: str,
    routes: Iterable[web.RouteDef],
    log: logging.Logger,
    is_ready: Callable[[], bool] = lambda: True,
) -> AsyncIterator[str]:
    """Serve the routes, /health/live and /health/ready, and yield the server's URL.

    Signed requests must name `recipient`. `is_ready`: whether the process does its work, which may begin later than it
    serves. Raises PortInUse, WebTokenMissing and InvalidSetting.
    """

    async def ready(_: web.Request) -> web.Response:
        if is_ready():
            return json_response({"status": "ready"})
        return json_response({"status": "starting"}, status=HTTPStatus.SERVICE_UNAVAILABLE)

    with bound_beside(settings, port, recipient) as (sock, access):
        host, port = sock.getsockname()[:2]
        app = web.Application(middlewares=[problems, access.middleware])
        app.add_routes([*routes, web.get("/health/live", _live), web.get("/health/ready", ready)])
        listener = Listener(app, sock, log, SHUTDOWN_SECONDS)
        try:
            await listener.start()
            yield f"http://{authority(host, port)}"
        finally:
            await listener.stop()


@contextmanager
def bound_beside(settings: Settings, port: int, recipient: str) -> Iterator[tuple[socket, Access]]:
    """Listen, and say who may ask. Raises PortInUse, WebTokenMissing and InvalidSetting."""
    remedy = f"give another --web-port and set PORTFOLIO_{recipient.upper()} to it"
    with listen(settings.web_host, port, port_remedy=remedy) as sock:
        host = sock.getsockname()[0]
        token = None if ip_address(host).is_loopback else settings.web_token
        yield sock, Access(replace(settings, web_token=token, web_advertised=None), host, recipient)


async def _live(_: web.Request) -> web.Response:
    return json_response({"status": "live"})


@dataclass(frozen=True, kw_only=True, slots=True)
class SideServer:
    """A server to ask."""

    #: host:port
    address: str
    recipient: str
    #: derived from the token; None: without a token
    key: bytes | None
    #: our own name, for its log
    sender: str
    seconds: float
    most_bytes: int


@dataclass(frozen=True, slots=True)
class Unanswered:
    #: absent: nobody answers. refused: it answers with another status. unproved: it does not have our token.
    #: stranger: another program answers
    kind: str
    status: int = 0


async def ask_beside(session: aiohttp.ClientSession, server: SideServer, path: str) -> bytes | Unanswered:
    """Returns the body of the answer to GET `path`."""
    key = None if is_loopback(server.address) else server.key
    try:
        url, nonce = URL(f"http://{server.address}{path}"), signatures.new_nonce()
        headers = {"Accept-Encoding": "identity"}
        if key is not None:
            headers["Authorization"] = authorization(
                key, "GET", url, headers, sender=server.sender, recipient=server.recipient, nonce=nonce
            )
        timeout = aiohttp.ClientTimeout(total=server.seconds)
        async with session.get(url, headers=headers, timeout=timeout, allow_redirects=False) as reply:
            body = await read_bounded(reply, server.most_bytes)
        if reply.status != HTTPStatus.OK:
            return Unanswered("refused", reply.status)
        content_type, proof = reply.headers.get("Content-Type", ""), reply.headers.get(signatures.PROOF)
        if key is not None and not signatures.is_answer(key, proof, nonce, HTTPStatus.OK, content_type, body):
            return Unanswered("unproved")
    except (AnswerTooLarge, aiohttp.ClientResponseError, aiohttp.ClientPayloadError):  # too large, or no HTTP
        return Unanswered("stranger")
    except (TimeoutError, aiohttp.ClientError, ValueError):  # ValueError: the address is no address
        return Unanswered("absent")
    return body

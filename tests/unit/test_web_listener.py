"""A web port of ours costs a bounded share of the process, whoever connects and whatever is sent or not read."""

import asyncio
import json
import logging
import resource
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from aiohttp import web

from portfolio_stream.http import listener
from portfolio_stream.http.listener import CONNECTIONS, Listener, most_connections

log = logging.getLogger(__name__)

ANSWER_SECONDS = 10.0
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

ClientStreams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[..., Awaitable[ClientStreams]]


async def hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


@asynccontextmanager
async def listening(handler: object = hello) -> AsyncIterator[int]:
    """The port."""
    app = web.Application()
    app.router.add_route("*", "/", handler)  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as sock:
        serving = Listener(app, sock, log, 0.1)
        await serving.start()
        try:
            yield sock.getsockname()[1]
        finally:
            await serving.stop()


@pytest.fixture
async def connected() -> AsyncIterator[Connect]:
    """Opens a connection to a port, and sends something."""
    writers = []

    async def connect(port: int, sent: bytes = b"") -> ClientStreams:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writers.append(writer)
        writer.write(sent)
        return reader, writer

    yield connect
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def received(connection: ClientStreams, most: int = -1) -> bytes:
    """What comes until the connection ends; with `most`, the first bytes."""
    async with asyncio.timeout(ANSWER_SECONDS):
        try:
            return await connection[0].read(most)
        except ConnectionResetError:
            return b""


async def test_the_idlest_connection_makes_room(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """More connections than there is room for: whoever waits for nothing goes, whoever asks is answered."""
    monkeypatch.setattr(listener, "CONNECTIONS", 3)
    async with listening() as port:
        first = await connected(port, GET)
        assert (await received(first, 1000)).startswith(b"HTTP/1.1 200")
        half = await connected(port, b"GET / HT")
        silent = await connected(port)
        first[1].write(GET)  # so it is the one that was used last
        assert (await received(first, 1000)).startswith(b"HTTP/1.1 200")
        for _ in range(10):
            another = await connected(port, GET)
            assert (await received(another, 1000)).startswith(b"HTTP/1.1 200")
        assert [b"", b""] == [await received(half), await received(silent)]


async def test_a_request_is_not_ended_for_a_new_connection(connected: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    """While all are answered a new connection is closed, and nobody's answer is lost."""
    monkeypatch.setattr(listener, "CONNECTIONS", 2)
    asked, go = asyncio.Semaphore(0), asyncio.Event()

    async def slow(_: web.Request) -> web.Response:
        asked.release()
        await go.wait()
        return web.Response(text="late")

    async with listening(slow) as port:
        waiting = [await connected(port, GET) for _ in range(2)]
        for _ in waiting:
            await asked.acquire()
        assert b"" == await received(await connected(port, GET))
        go.set()
        for connection in waiting:
            assert (await received(connection, 1000)).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("drip", [b"", b"x"])
async def test_a_request_that_never_ends(connected: Connect, monkeypatch: pytest.MonkeyPatch, drip: bytes) -> None:
    """Its connection is closed, though a byte comes now and then."""
    monkeypatch.setattr(listener, "IDLE_SECONDS", 0.2)
    async with listening() as port:
        reader, writer = await connected(port, b"GET / HTTP/1.1\r\nX: ")

        async def drips() -> None:
            while True:
                writer.write(drip)
                await asyncio.sleep(0.02)

        dripping = asyncio.create_task(drips())
        try:
            assert b"" == await received((reader, writer))
        finally:
            dripping.cancel()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system cannot tell that nobody reads")
async def test_a_client_that_never_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker gives its connection up, and with it the answer."""
    monkeypatch.setattr(listener, "UNREAD_SECONDS", 0.2)
    ended = asyncio.Event()

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 100_000)
        finally:
            ended.set()

    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setblocking(False)
        async with listening(large) as port:
            await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
            await asyncio.get_running_loop().sock_sendall(client, GET)
            async with asyncio.timeout(ANSWER_SECONDS):
                await ended.wait()


def test_few_open_files_mean_few_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine needs most of them."""
    for files, expected in ((resource.RLIM_INFINITY, CONNECTIONS), (100_000, CONNECTIONS), (256, 64), (1, 1)):
        limits = (files, resource.RLIM_INFINITY)
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        assert expected == most_connections()


@pytest.mark.parametrize(
    "sent",
    [
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: secret\r\n\r\n",
        b"GET /secret\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"secret" * 5000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: secret\r\n" * 10_000 + b"\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nsecret",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\nsecret",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\xc8\x01\x00\x00\xc4\x03\x03secret",
    ],
)
async def test_what_is_no_request_is_answered_by_a_problem(
    connected: Connect, sent: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """As every other error is, without what came; and no log has it either."""
    async with listening() as port:
        head, _, body = (await received(await connected(port, sent))).partition(b"\r\n\r\n")
    assert b" 400 " in head
    assert b"Content-Type: application/problem+json" in head
    assert 400 == json.loads(body)["status"]
    assert b"secret" not in head + body
    assert [] == caplog.records


async def test_a_bug_is_answered_by_a_problem(connected: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """The answer says no more than that; the log has the traceback."""

    async def broken(_: web.Request) -> web.Response:
        raise ValueError("an amount")

    async with listening(broken) as port:
        head, _, body = (await received(await connected(port, GET))).partition(b"\r\n\r\n")
    assert b" 500 " in head
    assert (500, listener.OUR_FAULT) == (json.loads(body)["status"], json.loads(body)["detail"])
    assert "ValueError" in caplog.text

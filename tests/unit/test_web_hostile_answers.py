"""Whatever a stranger, a worker or an auditor answers, a worker goes on: no task ends, no request is a 500."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web

from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import Owner
from portfolio_stream.web import verdict
from portfolio_stream.web.watcher import watcher_answer
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, get, listening, serving

DEEP = b"[" * 2_000
HUGE = b"9" * 30
#: what is valid JSON up to a point, or has what no JSON of ours can have; %s: the members that are asked for
NESTED = b'{"x":' + DEEP
BODIES = (
    NESTED,
    DEEP,
    b"\xff\xfe",
    b'{"worker":"\xff"}',
    b"{",
    b"null",
    b'{"worker":' + HUGE + b"}",
)
STATUS: dict[str, Any] = {
    "worker": "w2",
    "address": "127.0.0.1:1",
    "process": "1",
    "version": "1",
    "uptime_seconds": 1.0,
    "reasons": [],
    "partitions": {},
    "events": 0,
    "commits": 0,
    "rejected": 0,
    "drops": 0,
    "latency_bounds": [],
    "latency_counts": [],
}
PAGE = {"table": "positions", "rows": [], "cursor": None, "worker": "w2"}


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[FakeEngine]:
    """w1, which owns nothing."""
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.join()
    yield made


def answering(*, identity: bytes | None = None, status: bytes = b"{}", other: bytes = b"{}") -> Any:
    """A handler that says so; without an identity, that of w2."""
    own = b'{"worker":"w2","member":"member of w2"}' if identity is None else identity

    async def handle(request: web.Request) -> web.Response:
        body = {"/identity": own, "/worker": status}.get(request.path, other)
        return web.Response(body=body, content_type="application/json")

    return handle


@pytest.mark.parametrize("body", BODIES)
async def test_an_answer_to_a_challenge(body: bytes) -> None:
    """It is a stranger's: the roll call goes on, and names it."""
    asker = Peers(None, "portfolio-stream", "w1")
    await asker.start()
    try:
        async with listening(answering(identity=body)) as address:
            assert "stranger" == (await asker.identify(Owner("w2", address, "member of w2"))).kind
    finally:
        await asker.stop()


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        msgspec.json.encode(STATUS)[:-1] + b',"x":' + DEEP,
        *(
            msgspec.json.encode({**STATUS, name: msgspec.Raw(HUGE)})
            for name in ("events", "commits", "rejected", "drops", "latency_counts")
        ),
        msgspec.json.encode({**STATUS, "latency_bounds": [1.0], "latency_counts": [msgspec.Raw(HUGE)]}),
        msgspec.json.encode({**STATUS, "partitions": {"999999999": {"state": "running"}}}),
        msgspec.json.encode({**STATUS, "partitions": {"0": {"state": "halted", "offset": msgspec.Raw(HUGE)}}}),
        msgspec.json.encode({**STATUS, "partitions": {"-7": {"state": "running"}}}),
    ],
)
async def test_what_a_worker_says_of_itself(engine: FakeEngine, body: bytes) -> None:
    """The group is told all the same, with that worker as one that does not answer."""
    async with listening(answering(status=body)) as address, serving(engine) as server:
        engine.client.members = {f"w2@{address}": tuple(range(PARTITIONS))}
        told = await get(server, "/partitions")
        assert 200 == told.status
        assert ["silent"] * PARTITIONS == [row["state"] for row in told.json["partitions"]]


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        msgspec.json.encode({**PAGE, "partitions": []})[:-1] + b',"x":' + DEEP,
        msgspec.json.encode(
            {**PAGE, "partitions": [{"partition": p, "offset": msgspec.Raw(HUGE), "worker": "w2"} for p in range(8)]}
        ),
    ],
)
@pytest.mark.parametrize("path", ["/tables/positions", "/tables"])
async def test_a_share_of_an_answer(engine: FakeEngine, path: str, body: bytes) -> None:
    """Its partitions are missing, as those of a worker that does not answer."""
    async with listening(answering(other=body)) as address, serving(engine) as server:
        engine.client.members = {f"w2@{address}": tuple(range(PARTITIONS))}
        told = await get(server, path)
        assert (200 if path == "/tables" else 503) == told.status
        assert list(range(PARTITIONS)) == [lack["partition"] for lack in told.json["missing"]]


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        b'{"verdict":"holds","x":' + DEEP,
        b'{"verdict":"holds","records":' + HUGE + b"}",
        b'{"verdict":"holds","lag":' + HUGE + b"}",
        b'{"verdict":"violated","anomalies":[{"kind":"a","detail":"b","offset":' + HUGE + b"}]}",
    ],
)
async def test_what_listens_where_the_auditor_should(body: bytes) -> None:
    """It is no auditor, and the page says so."""
    async with listening(answering(other=body)) as address, aiohttp.ClientSession() as session:
        told = await verdict.ask_auditor(session, address, None, "w1")
    assert ("not audited", f"the process that answers at {address} is no auditor") == (told.verdict, told.detail)


@pytest.mark.parametrize(
    "body",
    [
        *BODIES,
        b'{"at":1,"since":1,"seconds":1,"figures":{"at":1},"x":' + DEEP,
        b'{"at":1,"since":1,"seconds":1,"figures":{"at":1,"partitions":{"0":{"state":"running","lag":' + HUGE + b"}}}}",
        b'{"at":NaN,"since":1,"seconds":1,"figures":{"at":1}}',
    ],
)
async def test_what_listens_where_the_watcher_should(body: bytes) -> None:
    """It is no watcher, and the page says so."""
    async with listening(answering(other=body)) as address, aiohttp.ClientSession() as session:
        told = await watcher_answer(session, address, None, "w1")
    assert f"the process that answers at {address} is no watcher of this version" == told


@pytest.mark.parametrize(
    "answer",
    [
        b"220 mail ESMTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 10_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: \xff\r\nContent-Length: 1\r\n\r\n{",
    ],
)
async def test_what_answers_is_no_http(answer: bytes) -> None:
    """No worker to whom challenges it, no auditor to the page."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.close()

    asker = Peers(None, "portfolio-stream", "w1")
    await asker.start()
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server, aiohttp.ClientSession() as session:
        address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        assert "stranger" == (await asker.identify(Owner("w2", address, "member of w2"))).kind
        assert (
            f"the process that answers at {address} is no auditor"
            == (await verdict.ask_auditor(session, address, None, "w1")).detail
        )
    await asker.stop()


async def test_a_partition_that_is_named_again_and_again(tmp_path: Path) -> None:
    """It is read once, and stands in the answer once."""
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.join(0, 1)
    headers = {"X-Portfolio-Forwarded": "1", "X-Portfolio-Partitions": "0," * 3_000 + "1"}
    async with serving(made) as server:
        async with asyncio.timeout(5):
            page, tables = await get(server, "/tables/positions", **headers), await get(server, "/tables", **headers)
    assert [0, 1] == [one["partition"] for one in page.json["partitions"]]
    assert [0, 1] == [one["partition"] for one in tables.json["tables"][0]["partitions"]]

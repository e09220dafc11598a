"""Whatever a request says, a worker and the auditor answer it; 500 is a bug of ours."""

import asyncio
from collections.abc import Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portfolio_stream.audit import server as audit_server
from portfolio_stream.audit.board import Board
from portfolio_stream.http.exposition import prefers_open_metrics
from portfolio_stream.settings import Settings
from tests.ports import free_port
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, serving

OPEN_METRICS = "application/openmetrics-text"
#: what scrapers send, and what could be sent
ACCEPTS = (
    "",
    "*/*",
    "text/plain",
    'text/plain; version="0.0.4"',
    "text/plain;version=1.0.0;escaping=values",
    f'{OPEN_METRICS}; version="1.0.0"',
    f"{OPEN_METRICS}; version=x",
    f"{OPEN_METRICS}; version=",
    OPEN_METRICS,
    f"{OPEN_METRICS};version=1.0.0;escaping=allow-utf-8;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    f"{OPEN_METRICS};version=99999999999999999999.0.0",
    f"{OPEN_METRICS};version=1.0.0.0.0;q=nan",
    f"{OPEN_METRICS};q",
    f"{OPEN_METRICS};version=1..0",
    f"{OPEN_METRICS};version=\u0661",
    "text/plain;version=2\u00b2",
    ",;=,;;==",
    ";" * 5000,
    "a/b;" + "q=1;" * 1500,
    "\udcff\udcfe",
    '"',
    "text/plain;version=-1",
)
ROUTES = (
    "/",
    "/metrics",
    "/live",
    "/tables",
    "/partitions",
    "/health/live",
    "/health/ready",
    "/worker",
    "/portfolios/P1",
    "/tables/positions",
    "/tables/positions/P1/ACME",
    "/tables/activity/P1/0",
    "/tables/prices/ACME",
    "/verdict",
    "/static/main.js",
    "/static/none",
    "/partitions/0/retry",
    "/login",
    "/logout",
    "/none",
)
QUERIES = (
    "?limit=9" + "9" * 5000,
    "?limit=-1",
    "?limit=\u0663",
    "?limit=nan",
    "?cursor=%00",
    "?cursor=%ff%fe",
    "?cursor=%",
    "?cursor=" + "A" * 4000,
    "?prefix=%00",
    "?prefix=%FF",
    "?from=%zz&to=%2",
    "?from=\udcff",
    "?limit=1&limit=2",
    "?&&==",
    "?prefix=%C0%80",
    "?prefix=P1/%00",
    "?to=/",
    "?cursor==",
    "?cursor=bnVsbA==",
    "?cursor=W10=",
    "?limit=1e3",
    "??",
    "?#",
)
SUFFIXES = (
    "",
    "%00",
    "%ff",
    "%",
    "%2",
    "%zz",
    "/",
    "//",
    "/..",
    "/%2e%2e",
    ";x",
    "\udcff",
    "/" + "a" * 2000,
    "%2F",
    "\u00e4",
)
HEADERS = (
    ("Accept-Encoding", "gzip;q=x, \udcff"),
    ("If-None-Match", 'W/"'),
    ("If-None-Match", "\udcff"),
    ("Range", "bytes=-"),
    ("Range", "bytes=99999999999999999999-"),
    ("Last-Event-ID", "\udcff"),
    ("Last-Event-ID", "9" * 5000),
    ("If-Modified-Since", "Thu, 99 Foo 99999 99:99:99 GMT"),
    ("Cookie", 'session="\udcff; =; a=b=c'),
    ("Cookie", "portfolio_stream=\u00e9"),
    ("Authorization", "Bearer \udcff"),
    ("Authorization", ""),
    ("Forwarded", "for=_"),
    ("X-Forwarded-Proto", "\udcff"),
    ("Content-Type", "application/json; charset=nonsense"),
    ("Content-Type", "\udcff"),
    ("Origin", "null"),
    ("Expect", "nothing"),
    ("Te", "\udcff"),
    ("Upgrade", "websocket"),
    ("Accept-Language", "\udcff"),
    ("Host", "localhost:99999"),
    ("Host", "[::1"),
    ("Host", "\udcff"),
)
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS", "BREW")
ANSWER_SECONDS = 10.0


class Answering:
    """A worker that owns every partition, and an auditor, on a loop of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.loop = asyncio.new_event_loop()
        self.ports: tuple[int, ...] = ()

    @asynccontextmanager
    async def started(self) -> Any:
        engine, auditor = FakeEngine(self._folder, "w1", FakeCoordinator()), free_port()
        engine.join(*range(8))
        async with serving(engine) as server, audit_server.serving(Settings(), auditor, Board()):
            self.ports = (server.port, auditor)
            yield

    async def status(self, port: int, request: bytes) -> int:
        """Of the answer; 400 for a connection that is closed without one, as HTTP allows for what is no request."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            line = await asyncio.wait_for(reader.readline(), ANSWER_SECONDS)
        finally:
            writer.close()
        return int(line.split()[1]) if line else 400

    def statuses(self, request: bytes) -> set[int]:
        return {self.loop.run_until_complete(self.status(port, request)) for port in self.ports}


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Answering]:
    made = Answering(tmp_path_factory.mktemp("hostile"))
    running = made.started()
    made.loop.run_until_complete(running.__aenter__())
    yield made
    made.loop.run_until_complete(running.__aexit__(None, None, None))
    made.loop.close()


def written(method: str, target: str, headers: tuple[tuple[str, str], ...]) -> bytes:
    """A lone surrogate is the byte that it stands for."""
    named = headers if any(name == "Host" for name, _ in headers) else (("Host", "localhost"), *headers)
    lines = [f"{method} {target} HTTP/1.1", "Connection: close", *(f"{name}: {value}" for name, value in named), "", ""]
    return "\r\n".join(lines).encode(errors="surrogateescape")


@pytest.mark.parametrize("accept", ACCEPTS)
def test_metrics_are_answered_whatever_is_accepted(answering: Answering, accept: str) -> None:
    """200 with metrics, on a worker and on the auditor; alone and beside another Accept header."""
    for headers in ((("Accept", accept),), (("Accept", "text/html"), ("Accept", accept))):
        assert {200} == answering.statuses(written("GET", "/metrics", headers))


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ((f'{OPEN_METRICS}; version="1.0.0"',), True),
        ((OPEN_METRICS.upper(),), True),
        ((f"{OPEN_METRICS};version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",), True),
        ((f"{OPEN_METRICS};version=1.0.0;q=0.2", "text/plain;q=0.9"), False),
        ((f"{OPEN_METRICS};version=1.0.0;q=0",), False),
        ((f"{OPEN_METRICS};version=2.0.0",), False),
        ((f"{OPEN_METRICS};q=nan",), False),
        (("*/*",), False),
        ((), False),
    ],
)
def test_the_format_is_the_one_that_is_preferred(accept: tuple[str, ...], expected: bool) -> None:
    """OpenMetrics for who asks for a version of it that we write, by weight; else the plain text of Prometheus."""
    assert expected == prefers_open_metrics(accept)


@given(st.lists(st.text()))
def test_nothing_in_an_accept_header_is_an_error(accept: list[str]) -> None:
    """It is text from a stranger."""
    assert prefers_open_metrics(accept) in (True, False)


header = st.sampled_from(HEADERS) | st.tuples(
    st.sampled_from([name for name, _ in HEADERS] + ["Accept"]),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=60),
)
target = st.builds(
    "{}{}{}".format,
    st.sampled_from(ROUTES),
    st.sampled_from(SUFFIXES),
    st.sampled_from(("", *QUERIES)) | st.text("?&=%/0aF\u00e4", max_size=30),
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(METHODS), target, st.lists(header, max_size=3))
@example("GET", "/live", [("Last-Event-ID", "9" * 5000)])
@example("GET", "/tables/positions?limit=9" + "9" * 5000, [])
def test_no_request_is_an_error_of_ours(
    answering: Answering, method: str, target: str, headers: list[tuple[str, str]]
) -> None:
    """Below 500, or 503 where the contract has it."""
    found = answering.statuses(written(method, target, tuple(headers)))
    assert all(status < 500 or status == 503 for status in found), found

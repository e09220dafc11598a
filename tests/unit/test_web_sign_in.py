"""A browser's session: how it is got, what it is good for, and what it is not."""

import asyncio
import time
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from pathlib import Path

import aiohttp
import pytest

from portfolio_stream.http import sign_in
from portfolio_stream.http.access import Access
from portfolio_stream.http.sign_in import COOKIE, SESSION_SECONDS, Sessions
from portfolio_stream.settings import Settings
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, serving

TOKEN = "s\u00e9cret"
HTML = {"Accept": "text/html,*/*;q=0.8"}


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", FakeCoordinator())


@pytest.fixture
async def server(engine: FakeEngine) -> AsyncIterator[WebServer]:
    async with serving(engine, web_token=TOKEN) as started:
        yield started


async def post(server: WebServer, path: str, **options: object) -> aiohttp.ClientResponse:
    url = f"http://127.0.0.1:{server.port}{path}"
    async with aiohttp.ClientSession() as session:
        response = await session.post(url, allow_redirects=False, **options)  # type: ignore[arg-type]
        await response.read()
        return response


async def test_page_without_a_session_is_the_form(server: WebServer) -> None:
    """Still a 401, so that nothing but /health is open; scripts and clients get the problem as before."""
    page = await get(server, "/", Accept="text/html")
    assert (401, "Bearer") == (page.status, page.headers["www-authenticate"])
    assert b'action="/login"' in page.body
    policy = page.headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "form-action 'self'" in policy
    for path, accept in (("/live", "text/event-stream"), ("/static/main.js", "*/*"), ("/worker", "*/*")):
        answer = await get(server, path, Accept=accept)
        assert (401, "application/problem+json") == (answer.status, answer.headers["content-type"])


async def test_signing_in(server: WebServer) -> None:
    """The right token gives a cookie that scripts cannot read and other sites cannot send; then pages open."""
    answer = await post(server, "/login", data={"token": TOKEN})
    assert (303, "/") == (answer.status, answer.headers["Location"])
    morsel = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    assert (True, "Strict", "/", "") == (morsel["httponly"], morsel["samesite"], morsel["path"], morsel["secure"])
    assert TOKEN not in answer.headers["Set-Cookie"]
    for path in ("/", "/static/main.js", "/worker", "/metrics", "/tables/portfolios/P1"):
        assert 401 != (await get(server, path, Cookie=f"{COOKIE}={morsel.value}")).status


async def test_session_behind_tls_is_secure(server: WebServer) -> None:
    """A proxy that speaks TLS says so."""
    answer = await post(server, "/login", data={"token": TOKEN}, headers={"X-Forwarded-Proto": "https"})
    assert "Secure" in answer.headers["Set-Cookie"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"data": {"token": "secret"}}, 401),
        ({"data": {"token": ""}}, 401),
        ({"data": {"other": TOKEN}}, 401),
        ({"data": {"token": "x" * 5000}}, 400),
        ({"json": {"token": TOKEN}}, 400),
        ({}, 400),
    ],
)
async def test_wrong_token(server: WebServer, body: dict[str, object], status: int) -> None:
    """No cookie, and the form again with words; what is sent is not repeated."""
    answer = await post(server, "/login", **body)
    assert status == answer.status
    assert "Set-Cookie" not in answer.headers
    assert "text/html" == answer.content_type


@pytest.mark.parametrize("cookie", ["a\udcff.b", "\udcff", "1.\udcff", "\u00e9.\u00e9"])
async def test_bytes_that_are_no_text_are_no_session(server: WebServer, cookie: str) -> None:
    """Whoever sends them is asked for the token as everyone else is."""
    answer = await get(server, "/metrics", Cookie=f"{COOKIE}={cookie}")
    assert (401, "application/problem+json") == (answer.status, answer.headers["content-type"])


@pytest.mark.parametrize(
    "path", ["/health/", "/health/../metrics", "/health/%2e%2e/metrics", "/health/live/", "/healthy"]
)
async def test_the_two_health_routes_alone_are_open(server: WebServer, path: str) -> None:
    """Nothing that only begins like them."""
    assert 401 == (await get(server, path)).status
    assert [200, 503] == [(await get(server, f"/health/{name}")).status for name in ("live", "ready")]


async def test_signing_in_checks_the_host(server: WebServer) -> None:
    """As every other request does."""
    assert 421 == (await post(server, "/login", data={"token": TOKEN}, headers={"Host": "evil.example"})).status


async def test_signing_out(server: WebServer) -> None:
    """The browser forgets its session. Another site's form, which comes without it, signs nobody out."""
    answer = await post(server, "/logout", headers={"Cookie": f"{COOKIE}=anything"})
    morsel = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE]
    assert (303, "", "0") == (answer.status, morsel.value, morsel["max-age"])
    answer = await post(server, "/logout")
    assert (303, None) == (answer.status, answer.headers.get("Set-Cookie"))


@pytest.mark.parametrize(
    ("charset", "encoding", "body"),
    [
        ("bogus", None, b"token=a"),
        ("utf-16", None, b"token=a"),
        ("idna", None, b"token=\xff"),
        ("ascii", None, b"token=\xff"),
        ("utf-8", None, b"token=\xff"),
        ("utf-8", None, b"token=%ff"),
        ("utf-8", None, b"&=" * 2000),
        ("utf-8", "gzip", b"token=a"),
        ("utf-8", "br", b"token=a"),
        ("utf-8", "zstd", b"token=a"),
        ("utf-8", "identity, x", b"token=a"),
    ],
)
async def test_what_is_no_form_of_ours(server: WebServer, charset: str, encoding: str | None, body: bytes) -> None:
    """It signs nobody in, and is no error of ours, whatever it says that it is."""
    headers = {"Content-Type": f"application/x-www-form-urlencoded; charset={charset}"}
    answer = await post(
        server, "/login", data=body, headers=headers | ({"Content-Encoding": encoding} if encoding else {})
    )
    assert answer.status in (400, 401)
    assert "Set-Cookie" not in answer.headers


async def test_a_form_that_does_not_come(server: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits for it longer than a browser takes to send it."""
    monkeypatch.setattr(sign_in, "FORM_SECONDS", 0.2)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    head = "POST /login HTTP/1.1", "Host: localhost", "Content-Type: application/x-www-form-urlencoded"
    writer.write("\r\n".join([*head, "Content-Length: 9", "", "tok"]).encode())
    async with asyncio.timeout(5):
        assert b"400" in await reader.readline()
    writer.close()


async def test_without_a_token_nobody_signs_in(engine: FakeEngine) -> None:
    """The form's address leads to the page, and no cookie is made."""
    async with serving(engine) as server:
        answer = await post(server, "/login", data={"token": "anything"})
    assert (303, None) == (answer.status, answer.headers.get("Set-Cookie"))


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_session_changes_nothing(method: str) -> None:
    """Whatever changes something needs the bearer token, which no other site can make a browser send."""
    access = Access(Settings(web_token=TOKEN), "127.0.0.1")
    session = Sessions(TOKEN.encode()).issue()
    asked = {"host": "localhost", "path": "/partitions/1/retry", "session": session}
    refusal = access.refusal(authorization=None, method=method, **asked)  # type: ignore[arg-type]
    assert refusal is not None
    assert 401 == refusal.status
    bearer = f"Bearer {TOKEN}"
    assert access.refusal(authorization=bearer, method=method, **asked) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_session_reads(method: str) -> None:
    """On any path."""
    access = Access(Settings(web_token=TOKEN), "127.0.0.1")
    session = Sessions(TOKEN.encode()).issue()
    assert access.refusal(host="localhost", path="/live", authorization=None, method=method, session=session) is None


def test_session_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a working day, and with the token that signed it; no part of it can be changed."""
    sessions = Sessions(b"one")
    cookie = sessions.issue()
    until, _, signature = cookie.partition(".")
    assert sessions.is_valid(cookie)
    assert not Sessions(b"other").is_valid(cookie)
    forged = (
        f"{int(until) + 1}.{signature}",
        until,
        f".{signature}",
        signature,
        "",
        None,
        f"{until}.",
        f"\u0661.{cookie}",
    )
    assert [False] * len(forged) == [sessions.is_valid(value) for value in forged]
    now = time.time()
    monkeypatch.setattr(sign_in.time, "time", lambda: now + SESSION_SECONDS + 1)
    assert not sessions.is_valid(cookie)


async def test_session_of_another_worker(tmp_path: Path, server: WebServer) -> None:
    """One sign-in is good for the links to all workers with that token, and across their restarts."""
    answer = await post(server, "/login", data={"token": TOKEN})
    cookie = SimpleCookie(answer.headers["Set-Cookie"])[COOKIE].value
    async with serving(FakeEngine(tmp_path, "w2", FakeCoordinator()), web_token=TOKEN) as other:
        assert 200 == (await get(other, "/worker", Cookie=f"{COOKIE}={cookie}")).status

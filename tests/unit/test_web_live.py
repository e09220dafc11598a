"""The live view's stream and files: who gets what, how many, how fast, and what a stop does to it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest

from portfolio_stream.errors import BrokerUnreachable
from portfolio_stream.web import live
from portfolio_stream.web.live import LiveViewer, frame
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, opened, serving


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.join(0)
    return made


async def test_stream_tells_the_group(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stream tells the group at once, then every GROUP_SECONDS. No cache keeps the stream."""
    monkeypatch.setattr(live, "GROUP_SECONDS", 0.05)
    async with serving(engine) as server, opened(server) as first:
        headers = first.response.headers
        assert ("text/event-stream", "no-store") == (headers["Content-Type"], headers["Cache-Control"])
        assert "nosniff" == headers["X-Content-Type-Options"]
        state = await first.next("group")
        assert ("w1", ["w1"]) == (state["served_by"], [row["worker"] for row in state["workers"]])
        engine.statistics.events += 100
        assert (await first.next("group"))["totals"]["events_per_second"] > 0


async def test_whoever_comes_is_told_at_once(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the others were told last: the next look may be far off."""
    monkeypatch.setattr(live, "GROUP_SECONDS", 3_600)
    async with serving(engine) as server, opened(server) as first:
        told = await first.next("group")
        async with opened(server) as second:
            assert told == await second.next("group")


async def test_nothing_runs_without_a_listener(engine: FakeEngine) -> None:
    """The last one who leaves ends the work; the next one starts it again."""
    async with serving(engine) as server:
        for _ in range(2):
            async with opened(server) as stream:
                await stream.next("group")
                work = [task for task in asyncio.all_tasks() if task.get_name().startswith("live ")]
            assert work
            assert set() == (await asyncio.wait(work, timeout=5))[1]


async def test_listeners_are_bounded(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """One too many is told so, and is served once another has gone."""
    monkeypatch.setattr(live, "MAX_LISTENERS", 1)
    async with serving(engine) as server:
        async with opened(server) as stream:
            await stream.next("group")
            refused = await get(server, "/live")
            assert (503, "application/problem+json") == (refused.status, refused.headers["content-type"])
        async with asyncio.timeout(5):
            while True:
                async with opened(server) as stream:
                    if stream.response.status == 200:
                        return


async def test_slow_listener_loses_the_oldest() -> None:
    """Nobody waits for it, and it does not grow."""
    listener = LiveViewer()
    for number in range(live.QUEUE_EVENTS + 5):
        listener.put(frame("group", number))
    assert frame("group", 5) == await anext(listener.frames())


async def test_listener_that_takes_nothing_is_let_go(engine: FakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A phone that fell asleep keeps no place."""

    async def look(*_: object) -> str:
        return "x" * 1_000_000  # no socket holds many of these

    monkeypatch.setattr(live.Watch, "look", look)
    monkeypatch.setattr(live, "GROUP_SECONDS", 0.001)
    monkeypatch.setattr(live, "WRITE_SECONDS", 0.1)
    monkeypatch.setattr(live, "MAX_LISTENERS", 1)
    async with serving(engine) as server:
        reader, asleep = await asyncio.open_connection("127.0.0.1", server.port, limit=1_000)
        asleep.write(b"GET /live HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        assert 503 == (await get(server, "/live")).status
        async with asyncio.timeout(10):
            while True:
                async with opened(server) as awake:
                    if awake.response.status == 200:
                        break
        asleep.transport.abort()


async def test_silence_is_filled_with_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxies and pages see that the stream lives; a closed listener ends."""
    monkeypatch.setattr(live, "HEARTBEAT_SECONDS", 0.01)
    listener = LiveViewer()
    frames = listener.frames()
    assert (await anext(frames)).startswith(b":")
    listener.close()
    assert [] == [data async for data in frames]


def test_frames_hold_any_text() -> None:
    """Line ends within a value cannot end the event: they are escaped."""
    assert b'event: x\ndata: "a\\n\\nevent: y"\n\n' == frame("x", "a\n\nevent: y")


async def test_stop_ends_open_streams_at_once(engine: FakeEngine) -> None:
    """A worker must end within 5 s, and pages know that it has gone."""
    async with serving(engine) as server, opened(server) as stream:
        await stream.next("group")
        started = time.monotonic()
        await server.stop()
        assert time.monotonic() - started < 0.5
        with pytest.raises((EOFError, aiohttp.ClientError)):
            while True:
                await stream.next("group")


async def test_bug_in_the_work_ends_the_streams(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A page that hears nothing would show old numbers as if they were new."""
    monkeypatch.setattr(live, "GROUP_SECONDS", 0.01)
    async with serving(engine) as server, opened(server) as stream:
        await stream.next("group")
        monkeypatch.delattr(engine, "statistics")
        with pytest.raises(EOFError):
            while True:
                await stream.next("group")
    assert "AttributeError" in caplog.text


async def test_cancellation_that_nobody_asked_for(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Out of the Kafka client, when a broker is lost: the tail goes on; in a look at the group it ends the streams."""
    monkeypatch.setattr(live, "AGAIN_SECONDS", 0)
    monkeypatch.setattr(live, "GROUP_SECONDS", 0.01)
    ends = iter([asyncio.CancelledError(), ConnectionResetError(), BrokerUnreachable("nowhere")])

    @asynccontextmanager
    async def open_tail(*_: object) -> AsyncIterator[Any]:
        async def events() -> AsyncIterator[tuple[str, object]]:
            for end in ends:
                raise end
            yield "outputs", "again"
            await asyncio.Event().wait()

        yield SimpleNamespace(events=events)

    monkeypatch.setattr(live, "open_tail", open_tail)
    async with serving(engine) as server, opened(server) as stream:
        assert "again" == await stream.next("outputs")
        monkeypatch.setattr(live.Watch, "look", cancelled)
        with pytest.raises(EOFError):
            while True:
                await stream.next("group")
    assert "live view failed task=live group" in caplog.text


async def cancelled(*_: object) -> None:
    raise asyncio.CancelledError


async def test_page_and_its_files(engine: FakeEngine) -> None:
    """Right types, nothing from elsewhere, nothing inline, asked for again and answered by 304."""
    async with serving(engine) as server:
        page = await get(server, "/")
        script = await get(server, "/static/main.js")
        again = await get(server, "/static/main.js", If_None_Match=script.headers["etag"])
        style = await get(server, "/static/view.css")
        missing = [await get(server, f"/static/{name}") for name in ("nothing.js", "..%2Fpage.py", "__init__.py")]
    assert "text/html; charset=utf-8" == page.headers["content-type"]
    assert "text/javascript; charset=utf-8" == script.headers["content-type"]
    assert "text/css; charset=utf-8" == style.headers["content-type"]
    assert (304, b"") == (again.status, again.body)
    assert [404, 404, 404] == [answer.status for answer in missing]
    for answer in (page, script, style, again):
        policy = answer.headers["content-security-policy"]
        assert "unsafe" not in policy
        assert "script-src 'self'; style-src 'self'" in policy
        assert ("no-cache", "nosniff") == (answer.headers["cache-control"], answer.headers["x-content-type-options"])
    for forbidden in (b"http://", b"https://", b"style=", b"<style", b"onclick"):
        assert forbidden not in page.body


def test_scripts_never_write_markup() -> None:
    """Data is text: no script of ours has a way to make HTML, or code, of a string."""
    folder = Path(live.__file__).parent / "static"
    scripts = {path.name: path.read_text() for path in folder.glob("*.js")}
    assert "main.js" in scripts
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert [] == [name for name, text in scripts.items() if word in text]

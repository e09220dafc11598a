"""GET /live: server-sent events, the same for every listener (docs/live.md lists the events).

1. A listener is one open page. While there is a listener, tasks run: they look at the whole group, ask the watcher,
   gather the last hours, and read the newest records of Kafka. Without a listener nothing runs.
2. A slow listener delays no other listener. Each listener has a queue of its own; a full queue loses its oldest event.
3. The number of listeners is bounded. A stop of the worker ends every stream at once.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import aiohttp
import msgspec
from aiohttp import web

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.settings import Settings
from portfolio_stream.web.group_watch import Watch
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.minutes import Minutes
from portfolio_stream.web.newest_records import open_tail
from portfolio_stream.web.watched import PageWatcher

log = logging.getLogger(__name__)
outage_log = sparing(__name__)

MAX_LISTENERS = 32  # open pages of one worker; a page costs a connection and at most 64 events
QUEUE_EVENTS = 64  # half a minute of events; a page that reads more slowly gets the newest events
RETRY_MS = 1_000  # how long a browser waits before it connects again
HEARTBEAT_SECONDS = 5.0  # after so long without an event, a comment shows proxies and pages that the stream lives
WRITE_SECONDS = 15.0  # a listener that reads nothing for so long counts as gone
GROUP_SECONDS = 1.0  # from one look at the group to the next
WATCH_SECONDS = 2.0  # the watcher itself looks about as often
HISTORY_SECONDS = 20.0  # a look costs 20 ms and sends 0.1 MB to each page; its newest minute changes all the time
AGAIN_SECONDS = 1.0  # between two attempts to reach a broker that is away
CLOSE_SECONDS = 0.5  # a worker has 5 s to end, and the engine needs most of them


def frame(event: str, value: object) -> bytes:
    """Returns the bytes of one server-sent event. The JSON has no line ends, so one data line is enough."""
    return b"event: " + event.encode() + b"\ndata: " + msgspec.json.encode(value) + b"\n\n"


class LiveViewer:
    """One listener: the queue of the frames that its page has not got yet."""

    def __init__(self) -> None:
        self._frames: deque[bytes] = deque(maxlen=QUEUE_EVENTS)
        self._news = asyncio.Event()
        self._is_closed = False

    def put(self, data: bytes) -> None:
        """Queue a frame. A full queue loses its oldest frame."""
        self._frames.append(data)
        self._news.set()

    def close(self) -> None:
        self._is_closed = True
        self._news.set()

    async def frames(self) -> AsyncIterator[bytes]:
        """Yields the frames in order until `close`, and a comment after each HEARTBEAT_SECONDS without a frame."""
        while not self._is_closed:
            if self._frames:
                yield self._frames.popleft()
                continue
            self._news.clear()
            try:
                await asyncio.wait_for(self._news.wait(), HEARTBEAT_SECONDS)
            except TimeoutError:
                yield b": heartbeat\n\n"


class Live:
    def __init__(
        self, engine: Engine, settings: Settings, watch: Watch, watcher: PageWatcher, minutes: Minutes
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._watch = watch
        self._watcher = watcher
        self._minutes = minutes
        self._listeners: set[LiveViewer] = set()
        self._working: set[asyncio.Task[None]] = set()
        #: cancelled tasks that have not ended yet
        self._ending: set[asyncio.Task[None]] = set()
        #: the newest frame of each event: a new listener gets these frames at once
        self._newest: dict[str, bytes] = {}
        self._is_closed = False

    async def stream(self, request: web.Request) -> web.StreamResponse:
        if self._is_closed or len(self._listeners) >= MAX_LISTENERS:
            return Problem(
                HTTPStatus.SERVICE_UNAVAILABLE, "This worker has as many live views as it serves."
            ).response()
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "X-Accel-Buffering": "no"})
        with self._listening() as listener:
            try:
                await response.prepare(request)
                await response.write(f"retry: {RETRY_MS}\n\n".encode())
                async for data in listener.frames():
                    async with asyncio.timeout(WRITE_SECONDS):
                        await response.write(data)
            except (ConnectionError, TimeoutError):
                log.debug("live view gone")
        return response

    async def close(self, _app: web.Application | None = None) -> None:
        self._is_closed = True
        for listener in self._listeners:
            listener.close()
        self._rest()
        if self._ending:
            await asyncio.wait(self._ending, timeout=CLOSE_SECONDS)

    def publish(self, event: str, value: object) -> None:
        data = frame(event, value)
        self._newest[event] = data
        for listener in self._listeners:
            listener.put(data)

    @contextmanager
    def _listening(self) -> Iterator[LiveViewer]:
        listener = LiveViewer()
        for data in self._newest.values():
            listener.put(data)
        self._listeners.add(listener)
        if len(self._listeners) == 1:
            self._work()
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            if not self._listeners:
                self._rest()

    def _work(self) -> None:
        self._working = {
            asyncio.create_task(self._group(), name="live group"),
            asyncio.create_task(self._watched(), name="live watch"),
            asyncio.create_task(self._history(), name="live history"),
            asyncio.create_task(self._tail(), name="live tail"),
        }
        for task in self._working:
            task.add_done_callback(self._ended)

    def _rest(self) -> None:
        for task in self._working:
            task.cancel()
        self._ending |= self._working
        self._working = set()
        self._newest.clear()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Close all streams if a task ended by a bug: the pages then connect again. `_rest` cancels tasks by design."""
        self._ending.discard(task)
        if task not in self._working:
            return
        log.error("live view failed task=%s", task.get_name(), exc_info=None if task.cancelled() else task.exception())
        for listener in self._listeners:
            listener.close()

    async def _group(self) -> None:
        async with _session() as session:
            await self._repeat("group", GROUP_SECONDS, lambda: self._watch.look(session))

    async def _watched(self) -> None:
        async with _session() as session:
            await self._repeat("watch", WATCH_SECONDS, lambda: self._watcher.look(session))

    async def _history(self) -> None:
        await self._repeat("history", HISTORY_SECONDS, self._minutes.look)

    async def _repeat(self, event: str, seconds: float, look: Callable[[], Awaitable[object]]) -> None:
        while True:
            started = time.monotonic()
            self.publish(event, await look())
            await asyncio.sleep(max(0.0, started + seconds - time.monotonic()))

    async def _tail(self) -> None:
        """Publish the newest records. Begin again when Kafka was away; the event `group` says that Kafka is away."""
        while True:
            if membership_of(self._engine) is not None:  # the started engine knows the topics and their partitions
                await self._tail_until_lost()
            await asyncio.sleep(AGAIN_SECONDS)

    async def _tail_until_lost(self) -> None:
        try:
            async with open_tail(self._settings, self._engine.partition_count) as tail:
                async for event, value in tail.events():
                    self.publish(event, value)
        except (PortfolioStreamError, OSError) as error:
            outage_log.info("live tail waits error=%s", type(error).__name__)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # nobody cancelled this task: a consumer that stops without its broker raises its own fetch's cancellation
            outage_log.info("live tail waits error=fetch cancelled")


def _session() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)

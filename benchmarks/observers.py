"""Who watches a worker: Prometheus, an open page and the watcher, as a literal table.

They run in a thread of the benchmark's process, so they cost the worker nothing but its answers.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import aiohttp

ANSWER_SECONDS = 5.0
END_SECONDS = 10.0


class Visit(NamedTuple):
    """A request that an observer repeats."""

    path: str
    every_seconds: float
    #: what the observer sends
    headers: dict[str, str]


#: what Prometheus sends with each scrape
PROMETHEUS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,"
    "text/plain;version=1.0.0;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    "Accept-Encoding": "gzip",
}
SCRAPE = "/metrics"
VISITS = (
    Visit(SCRAPE, 1.0, PROMETHEUS),
    Visit("/worker/figures", 2.0, {}),
)
#: the stream of an open page
PAGE = "/live"


class Observers:
    def __init__(self, port: int) -> None:
        self._base = f"http://127.0.0.1:{port}"
        self._loop = asyncio.new_event_loop()
        self._ending = asyncio.Event()
        self._failure: BaseException | None = None
        #: the seconds of each answer, by path
        self.answers: dict[str, list[float]] = {visit.path: [] for visit in VISITS}
        #: of the page's stream
        self.bytes = 0

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._watch())
        except (aiohttp.ClientError, TimeoutError) as error:
            self._failure = error
        finally:
            self._loop.close()

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._ending.set)

    def check(self) -> None:
        """Raises SystemExit if somebody did not get what he asked for: then the worker was not watched."""
        lacking = [path for path, seconds in self.answers.items() if not seconds]
        if self._failure is not None or lacking or not self.bytes:
            raise SystemExit(f"the worker was not watched: no answer of {lacking or PAGE}, {self._failure!r}")

    async def _watch(self) -> None:
        async with aiohttp.ClientSession(self._base, raise_for_status=True) as session:
            tasks = [asyncio.create_task(self._visit(session, visit)) for visit in VISITS]
            tasks.append(asyncio.create_task(self._look_at_page(session)))
            tasks.append(asyncio.create_task(self._end()))
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for task in done:
                task.result()

    async def _end(self) -> None:
        await self._ending.wait()

    async def _visit(self, session: aiohttp.ClientSession, visit: Visit) -> None:
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        while True:
            begun = time.monotonic()
            async with session.get(visit.path, headers=visit.headers, timeout=timeout) as reply:
                await reply.read()
            seconds = time.monotonic() - begun
            self.answers[visit.path].append(seconds)
            await asyncio.sleep(max(0.0, visit.every_seconds - seconds))

    async def _look_at_page(self, session: aiohttp.ClientSession) -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=ANSWER_SECONDS * 2)
        async with session.get(PAGE, timeout=timeout) as reply:
            async for data in reply.content.iter_any():
                self.bytes += len(data)


@contextmanager
def observed(port: int) -> Iterator[Observers]:
    """Watch the worker at this port while the block runs. Raises SystemExit if it does not answer."""
    observers = Observers(port)
    thread = threading.Thread(target=observers.run, name="observers")
    thread.start()
    try:
        yield observers
    finally:
        observers.end()
        thread.join(END_SECONDS)
    observers.check()

"""The place of the savepoints, as an S3 bucket: shared by all processes, at times slow, at times failing.

A request takes effect, or not, whatever becomes of its process. A failed request may have taken effect.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine
from contextvars import Context
from random import Random
from typing import Any, TypeVar

from portfolio_stream.errors import SavepointStoreFailed
from portfolio_stream.savepoints.objects import MemoryObjects, ObjectEntry

LATENCY = (0.002, 0.04)
UNHEARD = 0.5  # the share of the failed requests that took effect
T = TypeVar("T")


class Bucket:
    location = "simulated"

    def __init__(self, loop: asyncio.AbstractEventLoop, random: Random, outside: Context) -> None:
        self._loop = loop
        self._random = random
        self._outside = outside
        self._objects = MemoryObjects(self.location)
        #: hears of each object that is there for the first time, or is put again
        self.witness: Callable[[str, bytes], None] = lambda path, data: None
        #: the share of requests that fail
        self.failing = 0.0
        self.latency = LATENCY

    def heal(self) -> None:
        self.failing, self.latency = 0.0, LATENCY

    def content(self, path: str) -> bytes | None:
        """What is there now."""
        return _result(self._objects.get(path))

    def paths(self, prefix: str = "") -> list[str]:
        return [entry.path for entry in _result(self._objects.list(prefix))]

    async def put(self, path: str, data: bytes) -> None:
        await self._request(lambda: self._put(path, data))

    async def put_new(self, path: str, data: bytes) -> bool:
        return await self._request(lambda: self._put_new(path, data))

    async def get(self, path: str) -> bytes | None:
        return await self._request(lambda: _result(self._objects.get(path)))

    async def list(self, prefix: str = "") -> list[ObjectEntry]:
        return await self._request(lambda: _result(self._objects.list(prefix)))

    async def delete(self, paths: Collection[str]) -> None:
        await self._request(lambda: _result(self._objects.delete(paths)))

    def _put(self, path: str, data: bytes) -> None:
        _result(self._objects.put(path, data))
        self.witness(path, data)

    def _put_new(self, path: str, data: bytes) -> bool:
        is_new = _result(self._objects.put_new(path, data))
        if is_new:
            self.witness(path, data)
        return is_new

    async def _request(self, effect: Callable[[], T]) -> T:
        answered: asyncio.Future[T] = self._loop.create_future()
        there, back = (self._random.uniform(*self.latency) for _ in range(2))
        fails = self._random.random() < self.failing
        happens = not fails or self._random.random() < UNHEARD

        def arrive() -> None:
            result = effect() if happens else None
            self._loop.call_later(back, answer, result, context=self._outside)

        def answer(result: Any) -> None:
            if answered.done():
                return
            if fails:
                answered.set_exception(SavepointStoreFailed(self.location, "the request failed"))
            else:
                answered.set_result(result)

        self._loop.call_later(there, arrive, context=self._outside)
        return await answered


def _result(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    raise AssertionError("objects in memory wait for nothing")

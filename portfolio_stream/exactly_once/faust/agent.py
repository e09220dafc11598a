"""An agent folds slices: `async def agent(slices): async for slice in slices: ...`.

A fold that raises never acknowledges: the engine is told which slice failed, drops its partition's share, and hands the
records out again in smaller slices. The agent goes on at once; mode's supervisor would lose up to five seconds.
"""

import asyncio
import inspect
from typing import Any

from faust.agents.agent import Agent

from portfolio_stream.errors import NotTransactional


class SliceAgent(Agent):
    def __init__(self, fun: Any, **options: Any) -> None:
        super().__init__(fun, **options)
        if inspect.isasyncgenfunction(fun):
            raise NotTransactional("an agent that yields", "slice.appender(topic) for its outputs")
        if self._sinks or self.concurrency != 1:
            raise NotTransactional("an agent with sinks or concurrency", "one plain agent a source topic")

    async def _execute_actor(self, coro: Any, aref: Any) -> None:
        while True:
            try:
                await super()._execute_actor(self._guarded(coro, aref), aref)
            except _FoldFailed:
                coro = self.fun(aref.stream)
            else:
                return

    async def _guarded(self, coro: Any, aref: Any) -> None:
        try:
            await coro
        except asyncio.CancelledError:
            raise
        except Exception as error:  # whatever a user's fold raises
            piece = aref.stream.take_failed()
            if piece is None:
                raise
            self.app.engine.failed(piece, error)
            raise _FoldFailed from None


class _FoldFailed(BaseException):
    """Passes Faust's own handling of an agent's Exception, which would wait for its supervisor."""

"""An agent folds slices: `async def agent(slices): async for slice in slices: ...`.

An agent that raises or returns never acknowledges its slice. The engine learns which slice failed, drops the
partition's share, and hands the records out again in smaller slices. The agent goes on at once: mode's supervisor would
start the agent again up to five seconds later.
"""

import asyncio
import inspect
from typing import Any

from faust.agents.agent import Agent

from portfolio_stream.errors import AgentReturned, NotTransactional


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
        stream = aref.stream
        try:
            await coro
        except (KeyboardInterrupt, GeneratorExit):
            raise
        except BaseException as error:  # a user's fold may raise anything, also by sys.exit()
            if isinstance(error, asyncio.CancelledError) and _is_cancelled():
                raise
            await self._fail(stream, error)
        else:
            if not stream.has_ended:
                await self._fail(stream, AgentReturned())

    async def _fail(self, stream: Any, error: BaseException) -> None:
        piece = await stream.take_failed()
        if piece is not None:
            self.app.engine.failed(piece, error)
            raise _FoldFailed from None


def _is_cancelled() -> bool:
    """Whether the agent's own task is cancelled. A task that the fold waited for may be cancelled alone."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


class _FoldFailed(BaseException):
    """A fold failed. It is no Exception, because Faust would hand an agent's Exception to the slow supervisor."""

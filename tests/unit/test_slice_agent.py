"""Whatever an app's own agent does, each slice that is on its way is acknowledged or failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio_stream.errors import AgentReturned
from portfolio_stream.faust_host.app import ExactlyOnceApp

Agent = Callable[[Any], Awaitable[None]]


class NotingEngine:
    """Notes what became of each slice."""

    def __init__(self) -> None:
        self.log: list[tuple[str, object]] = []
        self.settled = asyncio.Semaphore(0)

    def acknowledged(self, piece: Any) -> None:
        self._note("acknowledged", piece.name)

    def failed(self, piece: Any, error: BaseException) -> None:
        self._note(type(error).__name__, piece.name)

    def discarded(self, piece: Any) -> None:
        self._note("discarded", piece.name)

    def _note(self, what: str, name: str) -> None:
        self.log.append((what, name))
        self.settled.release()


async def outcomes(fun: Agent, slices: int) -> list[tuple[str, object]]:
    """What an agent makes of slices 0, 1, .."""

    async def nowhere(_: Any) -> Any:
        raise AssertionError

    app = ExactlyOnceApp("agents", make_engine=nowhere, bootstrap_servers="127.0.0.1:1")
    engine: Any = NotingEngine()
    app.engine = engine
    app.flow_control.resume()
    agent = app.agent(app.topic("events"), name="fold")(fun)
    stream: Any = app.stream(app.channel())
    for name in range(slices):
        stream.channel.queue.put_nowait(SimpleNamespace(value=SimpleNamespace(name=name, is_current=True)))
    actor = SimpleNamespace(stream=stream, crash=None)
    running = asyncio.create_task(agent._execute_actor(agent.fun(stream), actor))
    try:
        async with asyncio.timeout(5):
            for _ in range(slices):
                await engine.settled.acquire()
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await stream.stop()
    return engine.log  # type: ignore[no-any-return]


def raising(error: BaseException) -> Agent:
    async def agent(slices: AsyncIterator[Any]) -> None:
        async for piece in slices:
            if piece.name == 1:
                raise error

    return agent


ERRORS = (
    ValueError,
    RecursionError,
    MemoryError,
    StopAsyncIteration,
    SystemExit,
    asyncio.CancelledError,
    BaseException,
)


@pytest.mark.parametrize("error", [kind() for kind in ERRORS])
async def test_whatever_a_fold_raises_fails_its_slice(error: BaseException) -> None:
    """A cancellation that is not the agent's own too: its fold waited for a task that was cancelled."""
    expected = [("acknowledged", 0), (type(error).__name__, 1), ("acknowledged", 2)]
    assert expected == (await outcomes(raising(error), 4))[:3]


async def returning(slices: AsyncIterator[Any]) -> None:
    """Amid a slice."""
    async for piece in slices:
        if piece.name == 1:
            return


async def test_an_agent_that_returns_fails_its_slice() -> None:
    """The slice was not folded to its end, and nobody would ask for the next ones."""
    expected = [("acknowledged", 0), (AgentReturned.__name__, 1), ("acknowledged", 2)]
    assert expected == (await outcomes(returning, 4))[:3]


async def never_iterating(slices: AsyncIterator[Any]) -> None:
    return


async def never_coming_that_far(slices: AsyncIterator[Any]) -> None:
    raise KeyError


@pytest.mark.parametrize(("fun", "error"), [(never_iterating, AgentReturned), (never_coming_that_far, KeyError)])
async def test_an_agent_that_asks_for_no_slice_fails_each(fun: Agent, error: type[Exception]) -> None:
    """The main loop must not wait for it for ever."""
    assert [(error.__name__, 0), (error.__name__, 1)] == await outcomes(fun, 2)

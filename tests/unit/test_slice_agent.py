"""Whatever an app's own agent does, each slice that is on its way is acknowledged or failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio_stream.errors import AgentReturned
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.faust_host.app import ExactlyOnceApp
from portfolio_stream.faust_host.stream import Handful
from portfolio_stream.faust_host.transport import EngineConsumer

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
    pieces = [SimpleNamespace(name=name, is_current=True) for name in range(slices)]
    for first in range(0, slices, 2):
        stream.channel.queue.put_nowait(SimpleNamespace(value=Handful(pieces[first : first + 2])))
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


async def test_slices_that_are_handed_out_together_come_with_one_message() -> None:
    """A message costs more than a small slice. The next one is sent when the stream has taken the last slice."""
    sent: list[Any] = []

    async def callback(message: Any) -> None:
        sent.append(message.value)

    engine = SimpleNamespace(configuration=SimpleNamespace(source_topic="in"))
    consumer: Any = SimpleNamespace(callback=callback, engine=engine, _handful=Handful())
    pieces: list[Any] = [
        SimpleNamespace(partition=number, records=[MemoryRecord(0, 1, b"k", b"v")]) for number in range(3)
    ]
    for piece in pieces[:2]:
        await EngineConsumer._deliver(consumer, piece)
    assert [pieces[:2]] == [list(handful) for handful in sent]
    sent[0].clear()
    sent[0].is_on_its_way = False
    await EngineConsumer._deliver(consumer, pieces[2])
    assert [pieces[2:]] * 2 == [list(handful) for handful in sent]

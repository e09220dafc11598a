"""Gathers the evidence: every piece within a time limit, whatever is down, and all pieces at the same time.

1. A piece that cannot be had is an `Unseen` with the reason. It never stops the other pieces.
2. A piece may need others: it waits for them, and takes their `Unseen` if there is one.
3. The Kafka pieces share one connection, which is a piece of its own. No piece takes longer than its seconds after the
   pieces that it needs. So the whole ends within LONGEST_SECONDS.
4. A look at a disk runs in a thread that the process's end does not wait for: a dead network drive never answers.
"""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from aiokafka.errors import KafkaError

from portfolio_stream.doctor.evidence import Unseen
from portfolio_stream.doctor.findings import Private, say
from portfolio_stream.errors import PortfolioStreamError

T = TypeVar("T")

CONNECT_SECONDS = 10.0  # a handshake takes milliseconds; aiokafka tries three times
LOOK_SECONDS = 7.0
COMPUTED_SECONDS = 1.0  # of a piece that asks nobody
LONGEST_CHAIN = 3  # looks after the connection that need each other: control topic, topics, source
#: with the end of the connections
LONGEST_SECONDS = CONNECT_SECONDS + (LONGEST_CHAIN + 1) * LOOK_SECONDS + COMPUTED_SECONDS

#: the values of pieces, or why they could not be had, by name
Pieces = Mapping[str, Any]


class EvidencePiece(NamedTuple):
    """One piece of evidence."""

    #: the pieces whose values `gather` takes, in this order
    needs: tuple[str, ...]
    gather: Callable[..., Awaitable[Any]]
    seconds: float = LOOK_SECONDS
    #: `gather` takes an Unseen in the place of a value that could not be had
    takes_unseen: bool = False


async def gather_all(pieces: Mapping[str, EvidencePiece]) -> dict[str, Any]:
    """Returns each piece's value, or the Unseen that says why it has none."""
    tasks: dict[str, asyncio.Task[Any]] = {}
    ready = asyncio.Event()

    async def one(piece: EvidencePiece) -> Any:
        await ready.wait()
        values = [await tasks[name] for name in piece.needs]
        unseen = next((value for value in values if isinstance(value, Unseen)), None)
        if unseen is not None and not piece.takes_unseen:
            return unseen
        return await seen(piece.gather(*values), piece.seconds)

    for name, piece in pieces.items():
        tasks[name] = asyncio.create_task(one(piece), name=name)
    ready.set()
    try:
        return {name: await task for name, task in tasks.items()}
    finally:
        for task in tasks.values():
            task.cancel()


async def seen(look: Awaitable[T], seconds: float) -> T | Unseen:
    """Returns what the look finds, or the Unseen that says why it found nothing.

    After `seconds` nobody waits for the look any more, even if it goes on in spite of its cancellation.
    """
    task = asyncio.ensure_future(look)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        task.cancel()
    if not task.done():
        return Unseen(say("no answer within {seconds:g} s", seconds=seconds))
    try:
        return task.result()
    except Unseen as unseen:
        return unseen
    except TimeoutError:
        return Unseen(say("no answer in time"))
    except PortfolioStreamError as error:
        return Unseen(
            say("{cause}", cause=Private(error.cause.rstrip("."))), say("{action}", action=Private(error.action))
        )
    except KafkaError as error:
        return Unseen(say("Kafka answers {error}", error=type(error).__name__))
    except OSError as error:
        return Unseen(say("{reason}", reason=error.strerror or type(error).__name__))
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  a bug in one look must not hide the others' finds
        return Unseen(say("the look failed: {error}, a bug", error=type(error).__name__))


async def in_thread(look: Callable[[], T]) -> T:
    """Returns what the function finds. It runs in a daemon thread: if it never returns, nobody waits for it."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[T] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if done.done():
            return
        if error is None:
            done.set_result(value)
        else:
            done.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = look()
        except Exception as error:  # noqa: BLE001  the awaiting task gets it
            failure = error
        try:
            loop.call_soon_threadsafe(settle, value, failure)
        except RuntimeError:  # the loop has ended: nobody waits any more
            return

    threading.Thread(target=run, daemon=True, name="doctor").start()
    return await done


class KeptOpen:
    """What must be closed at the end: connections that several pieces share."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()

    async def open(self, context: Any) -> Any:
        return await self._stack.enter_async_context(context)

    async def close(self) -> None:
        await self._stack.aclose()


@asynccontextmanager
async def held() -> AsyncIterator[KeptOpen]:
    """Closes everything that was opened, within LOOK_SECONDS: a broker that went away must not hold the end."""
    one = KeptOpen()
    try:
        yield one
    finally:
        await seen(one.close(), LOOK_SECONDS)

"""Rules for exchanges. A rule sees the request before the broker does, and the reply before the client does.

1. Rules run in the proxy's thread. While one waits, the connection's later requests wait behind it, as on a network.
2. CUT ends the connection on both sides: a request that the broker has is answered to nobody.
3. A client that gives up closes its side only. What is held of it still reaches the broker if the rule lets it pass.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypeVar

from tests.proxy.frames import ReplyFrame, Request

T = TypeVar("T")

CAUGHT_SECONDS = 30.0


class FrameVerdict(Enum):
    PASS = "goes on"
    CUT = "the connection ends"


class ProxySide(Enum):
    REQUEST = "before the broker sees it"
    REPLY = "after the broker answered, before the client sees it"


class Exchange:
    """A request and its reply."""

    def __init__(self, request: Request, rules: "tuple[Rule, ...]", client_gone: "Future[None]") -> None:
        self.request = request
        #: the rules that fit the request
        self.rules = rules
        #: done when the client has closed its side
        self.client_gone = client_gone
        #: done when the broker has answered; cancelled if the connection ended before
        self.answered: Future[ReplyFrame] = Future()


@dataclass(frozen=True, slots=True)
class Match:
    """Requests of one kind. None stands for any."""

    api: int | None = None
    #: what the client ids begin with
    client: str | None = None
    node: int | None = None
    when: Callable[[Request], bool] | None = None

    def fits(self, request: Request) -> bool:
        return (
            self.api in (None, request.api_key)
            and self.node in (None, request.node)
            and (self.client is None or (request.client_id or "").startswith(self.client))
            and (self.when is None or self.when(request))
        )


class Rule:
    """Lets everything pass. A subclass overrides the part that must not pass."""

    def fits(self, request: Request) -> bool:
        return True

    async def on_request(self, exchange: Exchange) -> FrameVerdict:
        return FrameVerdict.PASS

    async def on_reply(self, exchange: Exchange) -> FrameVerdict:
        return FrameVerdict.PASS


class Cut(Rule):
    """No request that fits arrives."""

    def __init__(self, match: Match) -> None:
        self._match = match

    def fits(self, request: Request) -> bool:
        return self._match.fits(request)

    async def on_request(self, exchange: Exchange) -> FrameVerdict:
        return FrameVerdict.CUT


class Caught:
    """An exchange that stands still until somebody decides, from any thread."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._verdict: Future[FrameVerdict] = Future()

    @property
    def request(self) -> Request:
        return self._exchange.request

    def forward(self) -> None:
        """Let the exchange go on, however late."""
        self._decide(FrameVerdict.PASS)

    def cut(self) -> None:
        """Stop the exchange, and end its connection."""
        self._decide(FrameVerdict.CUT)

    async def client_gone(self, seconds: float = CAUGHT_SECONDS) -> None:
        """Wait until the client has given up and closed its connection."""
        await waited(self._exchange.client_gone, seconds)

    async def answer(self, seconds: float = CAUGHT_SECONDS) -> Any:
        """Returns the broker's answer as kio's entity, whether or not the client sees the answer."""
        return (await waited(self._exchange.answered, seconds)).body

    async def verdict(self) -> FrameVerdict:
        return await asyncio.wrap_future(self._verdict)

    def _decide(self, verdict: FrameVerdict) -> None:
        if not self._verdict.done():  # the connection may have ended
            self._verdict.set_result(verdict)


class Trap(Rule):
    """Stops the n-th exchange that fits, and no other."""

    def __init__(self, match: Match, side: ProxySide, occurrence: int) -> None:
        self._match = match
        self._side = side
        self._left = occurrence
        self._lock = threading.Lock()
        self._caught: Future[Caught] = Future()

    def fits(self, request: Request) -> bool:
        if self._left > 0 and self._match.fits(request):
            self._left -= 1
            return self._left == 0
        return False

    async def on_request(self, exchange: Exchange) -> FrameVerdict:
        return await self._stop(exchange) if self._side is ProxySide.REQUEST else FrameVerdict.PASS

    async def on_reply(self, exchange: Exchange) -> FrameVerdict:
        return await self._stop(exchange) if self._side is ProxySide.REPLY else FrameVerdict.PASS

    async def _stop(self, exchange: Exchange) -> FrameVerdict:
        caught = Caught(exchange)
        with self._lock:
            if self._caught.cancelled():
                return FrameVerdict.PASS
            self._caught.set_result(caught)
        return await caught.verdict()

    async def caught(self, seconds: float = CAUGHT_SECONDS) -> Caught:
        """Wait for the exchange. Raises TimeoutError if no exchange that fits came."""
        return await waited(self._caught, seconds)

    @property
    def has_caught(self) -> bool:
        return self._caught.done() and not self._caught.cancelled()

    def release(self) -> None:
        """Catch nothing more, and let go of an exchange without a decision."""
        with self._lock:
            self._caught.cancel()
        if self.has_caught:
            self._caught.result().forward()


async def waited(future: "Future[T]", seconds: float) -> T:
    """Wait for a future of another thread. A time-out here must not cancel the future there."""
    return await asyncio.wait_for(asyncio.shield(asyncio.wrap_future(future)), seconds)

"""Carries one client's connection to one broker, frame by frame, both ways.

1. Frames keep their order. Bytes go on as they came, unless an address in them is rewritten.
2. Reading runs ahead of carrying, by a few frames: so it is seen at once that a client gives up, also while a request
   of it is held.
3. When the client has closed, the broker's side stays until what was sent to it is answered.
"""

import asyncio
import struct
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

from tests.proxy.addresses import Address, redirected
from tests.proxy.frames import ReplyFrame, Request, correlation_id
from tests.proxy.rules import Exchange, FrameVerdict, Rule

LAST_ANSWER_SECONDS = 60.0  # how long to wait for the answer to a client that is gone; a Produce with acks=0 has none
FRAMES_AHEAD = 16  # bounds the memory: later frames stay with their sender
BUFFER_BYTES = 1 << 20

_SIZE = struct.Struct(">i")

Frame = tuple[float, bytes]
Frames = asyncio.Queue[Frame | None]


@dataclass(frozen=True, slots=True)
class ProxyLink:
    """One direction of the network. A frame waits for the frame before it on its connection, and for no other."""

    latency_seconds: float = 0.0
    bytes_per_second: float = float("inf")

    async def carry(self, frame: Frame) -> None:
        arrived, content = frame
        seconds = arrived + self.latency_seconds + len(content) / self.bytes_per_second - time.monotonic()
        if seconds > 0:
            await asyncio.sleep(seconds)


@dataclass
class Network:
    """The state that all connections of a proxy share. Any thread may replace a field; no field is changed in place."""

    addresses: Mapping[Address, Address]
    rules: tuple[Rule, ...] = ()
    requests: ProxyLink = ProxyLink()
    replies: ProxyLink = ProxyLink()


class ProxiedConnection:
    def __init__(
        self,
        network: Network,
        node: int,
        flowing: asyncio.Event,
        client: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        broker: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        self._network = network
        self._node = node
        self._flowing = flowing
        self._client_reader, self._client = client
        self._broker_reader, self._broker = broker
        self._client_gone: Future[None] = Future()
        self._unanswered: dict[int, Exchange] = {}
        self._all_answered = asyncio.Event()

    async def run(self) -> None:
        """Carry frames until one side is done. Then close both sides."""
        requests: Frames = asyncio.Queue(FRAMES_AHEAD)
        replies: Frames = asyncio.Queue(FRAMES_AHEAD)
        readers = [
            asyncio.create_task(_read(self._client_reader, requests, self._see_client_go)),
            asyncio.create_task(_read(self._broker_reader, replies)),
        ]
        carriers = [
            asyncio.create_task(self._carry_requests(requests)),
            asyncio.create_task(self._carry_replies(replies)),
        ]
        try:
            done, _ = await asyncio.wait(carriers, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (*readers, *carriers):
                task.cancel()
            for exchange in self._unanswered.values():
                exchange.answered.cancel()
            self._see_client_go()
            self._client.transport.abort()
            self._broker.transport.abort()
            await asyncio.gather(
                *readers, *carriers, return_exceptions=True
            )  # last, because this wait may be cancelled too

    async def _carry_requests(self, frames: Frames) -> None:
        while (frame := await frames.get()) is not None:
            await self._network.requests.carry(frame)
            request = Request(frame[1], self._node)
            rules = tuple(rule for rule in self._network.rules if rule.fits(request))
            exchange = self._unanswered[request.correlation_id] = Exchange(request, rules, self._client_gone)
            for rule in rules:
                if await rule.on_request(exchange) is FrameVerdict.CUT:
                    return
            await self._flowing.wait()
            if not await _write(self._broker, request.frame):
                return
        if self._unanswered:
            self._all_answered.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._all_answered.wait(), LAST_ANSWER_SECONDS)

    async def _carry_replies(self, frames: Frames) -> None:
        while (frame := await frames.get()) is not None:
            await self._network.replies.carry(frame)
            content = frame[1]
            exchange = self._unanswered.get(correlation_id(content))
            if exchange is not None:
                reply = ReplyFrame(content, exchange.request)
                exchange.answered.set_result(reply)
                for rule in exchange.rules:
                    if await rule.on_reply(exchange) is FrameVerdict.CUT:
                        return
                content = redirected(reply, exchange.request, self._network.addresses)
                del self._unanswered[exchange.request.correlation_id]
            await self._flowing.wait()
            await _write(self._client, content)  # a client that is gone needs no answer
            if not self._unanswered:
                self._all_answered.set()

    def _see_client_go(self) -> None:
        if not self._client_gone.done():
            self._client_gone.set_result(None)


async def _read(reader: asyncio.StreamReader, frames: Frames, at_end: Callable[[], None] = lambda: None) -> None:
    """Yield frames as they come, then None."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            (size,) = _SIZE.unpack(await reader.readexactly(_SIZE.size))
            await frames.put((time.monotonic(), await reader.readexactly(size)))
    at_end()
    await frames.put(None)


async def _write(writer: asyncio.StreamWriter, content: bytes) -> bool:
    """Returns False if the other side is gone."""
    try:
        writer.writelines((_SIZE.pack(len(content)), content))
        await writer.drain()
    except ConnectionError:
        return False
    return True

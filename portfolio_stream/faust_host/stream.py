"""A stream of slices. A slice is acknowledged only when the agent asks for the next slice.

A Faust message costs more than a small slice, so one message brings all slices that the engine hands out at once.
Faust's own iterator also acknowledges events whose agent raised. The iterator is compiled, with the acknowledgement in
its midst, so this module overrides iteration as a whole.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import Any, NoReturn

import faust
from faust.events import Event

from portfolio_stream.errors import NotTransactional
from portfolio_stream.exactly_once.slices import Slice


class Handful(deque[Slice]):
    """The slices of one Faust message. More slices may be added until the stream has taken the last one."""

    #: the message has been sent, and the stream has not taken the last slice
    is_on_its_way = False


class SliceSchema(faust.Schema):
    """Pass handfuls through: the fold decodes the records."""

    def compile(self, app: Any, **options: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        return decode


class SliceStream(faust.Stream):
    current_slice: Slice | None = None
    #: the slices of the last message that the agent did not take yet
    _handful: Handful = Handful()
    #: Faust has stopped the stream
    has_ended = False

    def __aiter__(self) -> AsyncIterator[Slice]:
        slices = self._slices()
        self._active_agens.add(slices)
        return slices

    async def _slices(self) -> AsyncIterator[Slice]:
        self._finalized = True
        await self.maybe_start()
        queue = self.channel.queue
        while not self.should_stop:
            if not self._handful:
                self._handful.is_on_its_way = False
                try:
                    self.current_event = queue.get_nowait() if not queue.empty() else await self.channel.__anext__()
                except StopAsyncIteration:  # Faust throws it into the queue when the agent stops
                    break
                self._handful = self.current_event.value
            piece = self._handful.popleft()
            engine = self.app.engine
            if not piece.is_current:  # fetched before a drop: the engine reads its records again
                engine.discarded(piece)
                continue
            self.current_slice = piece
            yield piece
            self.current_slice = None
            engine.acknowledged(piece)
        self.has_ended = True

    async def take_failed(self) -> Slice | None:
        """Returns the slice whose fold raised, once. If the agent raised without a slice, return the next slice.

        None: the stream has ended.
        """
        if self.current_slice is None:
            await anext(aiter(self), None)
        piece, self.current_slice = self.current_slice, None
        return piece

    def group_by(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("stream.group_by()", "a source topic that is keyed as the fold needs it")

    def take(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("stream.take()", "slice.records, which already are a batch")

    def through(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise NotTransactional("stream.through()", "slice.appender(topic)")

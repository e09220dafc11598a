"""A stream of slices. A slice is acknowledged only when the agent asks for the next slice.

Faust's own iterator also acknowledges events whose agent raised. The iterator is compiled, with the acknowledgement in
its midst, so this module overrides iteration as a whole.
"""

from collections.abc import AsyncIterator
from typing import Any, NoReturn

import faust
from faust.events import Event

from portfolio_stream.errors import NotTransactional
from portfolio_stream.exactly_once.slices import Slice


class SliceSchema(faust.Schema):
    """Pass slices through: the fold decodes the records."""

    def compile(self, app: Any, **options: Any) -> Any:
        async def decode(message: Any, *, propagate: bool = False) -> Event:
            return Event(app, None, message.value, None, message)

        return decode


class SliceStream(faust.Stream):
    current_slice: Slice | None = None
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
            try:
                event = queue.get_nowait() if not queue.empty() else await self.channel.__anext__()
            except StopAsyncIteration:  # Faust throws it into the queue when the agent stops
                break
            piece: Slice = event.value
            engine = self.app.engine
            if not piece.is_current:  # fetched before a drop: the engine reads its records again
                engine.discarded(piece)
                continue
            self.current_event, self.current_slice = event, piece
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

"""Reading all of a one-partition topic into a global table, from its beginning on and for ever: read_committed, outside
any group.

1. The table is ready when the end that the topic had at the start is reached; progress is the position, as markers and
   compaction leave gaps.
2. No outage ends it: the client tries again by itself, and where it gives up a new one goes on from the same position.
   The table stays ready meanwhile: what it has was committed.
3. A batch that nobody can read is passed over, and the table is told.
4. An offset that the topic does not have, or another topic id, means another topic of the same name: the table is
   cleared and read anew. The offset alone does not tell: the new topic may have it by the time we ask.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Any, Protocol
from uuid import UUID

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.batch_consumer import Piece, Reading, batch_consumer
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.kafka.topic_watch import WATCH_SECONDS, describe
from portfolio_stream.observe.lag import records_behind
from portfolio_stream.settings import Settings

log = logging.getLogger(__name__)

WAIT_MILLISECONDS = 1_000  # a bound for nothing: a fetch returns as soon as there are records
RECORDS = 200  # some 2 ms of decoding, then others get a turn
PAUSE_SECONDS = 1.0  # after an error that the client did not get over


class GlobalTable(Protocol):
    is_ready: bool
    lag: int | None

    def apply(self, records: Sequence[Any], /) -> None: ...
    def pass_over(self, batch: UnreadableBatch, /) -> None: ...
    def clear(self) -> None: ...


class Follower:
    def __init__(self, settings: Settings, topic: str, table: GlobalTable) -> None:
        self._settings = settings
        self._place = TopicPartition(topic, 0)
        self._table = table
        self._position: int | None = None
        self._topic_id: UUID | None = None
        #: monotonic seconds of the last look at the topic's id
        self._looked = float("-inf")
        self._task: asyncio.Task[None] | None = None
        self._is_stopping = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name=f"follow {self._place.topic}")
        self._task.add_done_callback(self._ended)

    async def stop(self) -> None:
        self._is_stopping = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        """A bug: what is not followed must not be served."""
        self._table.is_ready = False
        if not task.cancelled():
            log.error("following ended topic=%s", self._place.topic, exc_info=task.exception())

    async def _run(self) -> None:
        while True:
            try:
                await self._follow()
            except (PortfolioStreamError, OSError) as error:
                log.warning("following interrupted topic=%s error=%s", self._place.topic, error)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._is_stopping or (task is not None and task.cancelling()):
                    raise
                # a consumer that stops while its broker is lost lets out the cancellation of its own fetch
                log.warning("following interrupted topic=%s error=fetch cancelled", self._place.topic)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        """Returns only when the topic is another one now."""
        self._looked = float("-inf")
        consumer = batch_consumer(
            Reading(RECORDS),
            **client_options(self._settings),
            isolation_level="read_committed",
            auto_offset_reset="none",  # a record that is gone is an error, not a place to jump from
        )
        place = self._place
        async with connected(self._settings, consumer):
            consumer.assign([place])
            start = (await consumer.beginning_offsets([place]))[place] if self._position is None else self._position
            consumer.seek(place, start)
            end = (await consumer.end_offsets([place]))[place]
            try:
                while not await self._is_replaced(consumer):
                    await self._read(consumer, end)
                log.warning("topic replaced topic=%s offset=%s", place.topic, self._position)
            except OffsetOutOfRangeError:
                log.warning("offset out of range topic=%s offset=%s", place.topic, self._position)
            self._position = None
            self._table.clear()

    async def _is_replaced(self, consumer: Any) -> bool:
        """Whether the topic was deleted and made again since it was looked at first."""
        if time.monotonic() - self._looked < WATCH_SECONDS:
            return False
        self._looked = time.monotonic()
        name = self._place.topic
        try:
            found = (await describe(consumer._client, [name])).get(name)
        except (*LOST, KafkaError) as error:
            log.info("topic not looked at topic=%s error=%s", name, type(error).__name__)
            return False
        if found is None:
            return False
        known, self._topic_id = self._topic_id, found.id
        return known not in (None, found.id)

    async def _read(self, consumer: Any, end: int) -> None:
        place, table = self._place, self._table
        for piece in (await consumer.getmany(place, timeout_ms=WAIT_MILLISECONDS, max_records=1)).get(place, ()):
            if isinstance(piece, Piece):
                table.apply(piece.records)
            else:
                log.warning("batch passed over topic=%s reason=%s", place.topic, piece)
                table.pass_over(piece)
        position = self._position = await consumer.position(place)
        stable = consumer.last_stable_offset(place)
        table.lag = None if stable is None else records_behind(position, stable)
        if not table.is_ready and position >= end:
            table.is_ready = True
            log.info("table ready topic=%s offset=%d", place.topic, position)
        await asyncio.sleep(0)  # records that are here already come without a wait

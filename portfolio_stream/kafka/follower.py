"""A follower reads all committed records of a one-partition topic into a global table, and then every new record.

It belongs to no consumer group.

1. The table is ready when the follower has reached the end that the topic had at the start. The follower compares
   positions, not offsets of records: markers and compaction leave gaps.
2. No outage ends the follower. The client tries again by itself. If the client gives up, a new client goes on from the
   same position. The table stays ready meanwhile, because its values were committed.
3. The follower passes over a batch that cannot be read, and tells the table.
4. If the topic does not have the position, or has another topic id, it is another topic of the same name. Then the
   follower clears the table and reads the new topic from its start. The position alone does not tell: the new topic
   may have grown past the position already.
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

WAIT_MILLISECONDS = 1_000  # how long a fetch waits if there are no records
RECORDS = 200  # decoding them takes some 2 ms; then other tasks get a turn
PAUSE_SECONDS = 1.0  # after an error that ended the client


class FollowedTable(Protocol):
    is_ready: bool
    lag: int | None

    def apply(self, records: Sequence[Any], /) -> None: ...
    def pass_over(self, batch: UnreadableBatch, /) -> None: ...
    def clear(self) -> None: ...


class Follower:
    def __init__(self, settings: Settings, topic: str, table: FollowedTable) -> None:
        self._settings = settings
        self._place = TopicPartition(topic, 0)
        self._table = table
        self._position: int | None = None
        self._topic_id: UUID | None = None
        #: when the topic's id was last looked at, in monotonic seconds
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
        """Stop serving the table. If `stop` did not cancel the task, a bug ended it."""
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
                # not our own cancellation: a consumer that stops while its broker is lost lets out that of its fetch
                log.warning("following interrupted topic=%s error=fetch cancelled", self._place.topic)
            await asyncio.sleep(PAUSE_SECONDS)

    async def _follow(self) -> None:
        """Read until the topic has been replaced; then clear the table and return."""
        self._looked = float("-inf")
        consumer = batch_consumer(
            Reading(RECORDS),
            **client_options(self._settings),
            isolation_level="read_committed",
            auto_offset_reset="none",  # a missing offset is an error; the consumer must not skip records
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
        """Whether the topic was deleted and made again since the first look at its id."""
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
        await asyncio.sleep(0)  # getmany does not yield to other tasks while it has buffered records

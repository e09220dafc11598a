"""Reads the control topic: once up to its end, or on and on (`Following`)."""

import asyncio
from collections.abc import Callable
from typing import Any

from aiokafka import errors as kafka_errors

from portfolio_stream.control.state import ControlState
from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, log_offsets
from portfolio_stream.kafka.reach import LOST, answered
from portfolio_stream.kafka.reader import BatchUnreadable, FetchLimits
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import Tell, write

FETCH_WAIT_MS = 500
FETCH = FetchLimits(min_bytes=1, max_wait_ms=FETCH_WAIT_MS, partition_bytes=1 << 20)
PAUSE_SECONDS = 1.0  # after an outage
PATIENCE_SECONDS = 60.0  # for the end of the topic: a transaction of a dead writer ends after 3 s
PARTITION = 0


class ControlLog:
    """The topic as far as it was read. One task at a time reads; `read_to_end` lets the next one wait."""

    def __init__(self, client: Client, reader: Reader, topic: str) -> None:
        """`client` knows the topic (`set_topics`); `reader` is started, and reads the topic alone."""
        self._client = client
        self._reader = reader
        self._topic = topic
        self._is_reading = False
        self._reads = asyncio.Lock()
        #: the values when the topic was last read to its end, and what was read since
        self.state = ControlState()
        #: what is read now: another one than `state` until a topic that was made again is read to its end
        self._newest = self.state
        #: where the topic ended when the reading began
        self._first_end = 0
        #: how often the state has changed
        self.changes = 0

    async def read_to_end(self, at_least: int = 0) -> ControlState:
        """Read all that was committed before the call, and everything before the offset `at_least`.

        A broker that has just woken from a pause may name an end that is too low. Raises TimeoutError, one of LOST or
        a KafkaError.
        """
        await self.read_up_to(max(at_least, await self._bound(LATEST)))
        return self.state

    async def read_up_to(self, end: int) -> None:
        """Read everything before the offset `end`. Raises as read_to_end."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS), self._reads:
                while not self._is_whole or await self._reader.position(PARTITION) < end:
                    await self.read()
        except TimeoutError:
            raise TimeoutError(
                f"in {PATIENCE_SECONDS:.0f} s it was not read to its end. No broker answers for it, or an open "
                f"transaction hides its newest records"
            ) from None

    @property
    def _is_whole(self) -> bool:
        return self._is_reading and self._newest is self.state

    async def read(self) -> bool:
        """Wait for the next records, at most FETCH_WAIT_MS. Returns whether they changed the state.

        A topic that was made again changes the state once, when it is read to its end: old values would look new.
        """
        if not self._is_reading:
            self._first_end, start = await self._bound(LATEST), await self._bound(EARLIEST)
            self._reader.resume(PARTITION, start)
            self._is_reading = True
            return await self._take_if_whole()
        try:
            fetched = await self._reader.fetch(FETCH_WAIT_MS)
        except kafka_errors.OffsetOutOfRangeError:  # the topic was made again, or somebody deleted its first records
            self._newest = ControlState()
            self._is_reading = False
            return False
        except BatchUnreadable as unreadable:
            if unreadable.batch.reason == "corrupt":  # perhaps on its way: a decision without it would be a wrong one
                await asyncio.sleep(PAUSE_SECONDS)
            else:  # not one of ours
                self._reader.resume(PARTITION, unreadable.batch.last_offset + 1)
            return False
        is_changed = any([self._newest.apply(batch) for batch in fetched.get(PARTITION, ())])
        if self._newest is not self.state:
            return await self._take_if_whole()
        self.changes += is_changed
        return is_changed

    async def _take_if_whole(self) -> bool:
        """Take the values of a topic that was made again once it is read to its end. Returns whether they are taken."""
        if self._newest is self.state or await self._reader.position(PARTITION) < self._first_end:
            return False
        self.state = self._newest
        self.changes += 1
        return True

    async def _bound(self, which: int) -> int:
        """The log's start or end. While its leader moves, ask again."""

        async def ask() -> int:
            try:
                return (await log_offsets(self._client, self._topic, (PARTITION,), which))[PARTITION]
            except (KeyError, kafka_errors.LeaderNotAvailableError):
                raise kafka_errors.StaleMetadata(self._topic) from None

        return await answered(self._client, ask)


class Following:
    """Follows the topic in a task of its own, and tells each change."""

    def __init__(self, log: ControlLog, changed: Callable[[ControlState], Any], tell: Tell = write) -> None:
        self._log = log
        self._changed = changed
        self._tell = tell

    @property
    def state(self) -> ControlState:
        return self._log.state

    async def run(self) -> None:
        """Run until cancelled. No outage ends it."""
        while True:
            try:
                if await self._log.read():
                    self._changed(self._log.state)
            except (*LOST, kafka_errors.KafkaError) as error:
                self._tell(told.ControlOutage(error=type(error).__name__))
                await asyncio.sleep(PAUSE_SECONDS)

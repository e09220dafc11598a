"""Reading whole topics with a consumer of their own, a partition at a time.

- An end is stable: it is taken as the last stable offset, but not before that has reached the high watermark of the
  call. So all that was committed before the call lies below it, no transaction lies across it, and reading to it never
  waits.
- Progress is the consumer's position, not the last record: markers, aborted and compacted records leave gaps, also at
  the end.
- A batch that nobody can read comes as one record, see `record_batches`: who reads says what becomes of it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.errors import CannotVerifyYet, PartitionUnreadable
from portfolio_stream.kafka.batch_consumer import Reading, batch_consumer, flattened
from portfolio_stream.kafka.client import COORDINATOR_MOVES, client_options, connected
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.settings import Settings

PATIENCE_SECONDS = 60.0  # without progress; six times what a broker takes to abort a dead worker's transaction
FETCH_BYTES = 2 << 20  # a partition, all of them are held at once while they wait for their turn
PIECE_RECORDS = 2_000  # 40 ms of replay, then others have the event loop
WAIT_MILLISECONDS = 50  # for records; positions also move without any
AGREEMENT_SECONDS = 15.0  # a commit's last marker is there within milliseconds; a broker that starts may take longer
ABSENCE_SECONDS = 1.0  # for the offset of a group's first transaction; one that is absent for longer is gone
POLL_SECONDS = 0.02  # a stable offset tells nobody when it moves


@dataclass(frozen=True, slots=True)
class TopicReader:
    """Two consumers outside any group: one sees what is committed, one knows where the log ends."""

    committed: Any
    uncommitted: Any

    async def log_starts(self, topic: str, partitions: int) -> Mapping[int, int]:
        """The first offset that each partition still has."""
        all_of_it = [TopicPartition(topic, partition) for partition in range(partitions)]
        starts: Mapping[TopicPartition, int] = await self.uncommitted.beginning_offsets(all_of_it)
        return {partition: starts[TopicPartition(topic, partition)] for partition in range(partitions)}

    async def ends(self, topic: str, partitions: int) -> Mapping[int, int]:
        """The last stable offsets of this moment: whatever was committed before lies below, and reading to them never
        waits."""
        all_of_it = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends: Mapping[TopicPartition, int] = await self.committed.end_offsets(all_of_it)
        return {partition: ends[TopicPartition(topic, partition)] for partition in range(partitions)}

    async def stable_end(self, topic: str, partition: int) -> int:
        """Raises CannotVerifyYet if a transaction stays open."""
        at = TopicPartition(topic, partition)
        high_watermark = (await self.uncommitted.end_offsets([at]))[at]
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            stable: int = (await self.committed.end_offsets([at]))[at]
            if stable >= high_watermark:
                return stable
            if time.monotonic() > deadline:
                raise CannotVerifyYet(
                    f"a transaction in partition {partition} of {topic} has been open for {PATIENCE_SECONDS:g} s",
                    "Find the producer that holds it (`kafka-transactions find-hanging`) and run verify again.",
                )
            await asyncio.sleep(POLL_SECONDS)

    async def read(self, topic: str, partition: int, start: int, end: int) -> AsyncGenerator[Sequence[Any], None]:
        """The committed records of [start, end), in order, in pieces. `end` must be stable. To be closed.

        Among them are UnreadableBatches.
        """
        at = TopicPartition(topic, partition)
        if await self.committed.position(at) != start:
            self.committed.seek(at, start)  # throws away what was fetched
        self.committed.resume(at)
        try:
            async for records in self._read_resumed(at, start, end):
                yield records
        finally:
            self.committed.pause(at)

    async def _read_resumed(self, at: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Any]]:
        position, moved = start, time.monotonic()
        while position < end:
            fetched = await self.committed.getmany(at, timeout_ms=WAIT_MILLISECONDS, max_records=1)
            records = flattened(fetched.get(at, ()))
            if records and records[-1].offset >= end:
                records = [record for record in records if record.offset < end]
            if records:
                yield records
                await asyncio.sleep(0)  # what is fetched already comes without a turn of the loop
            before, position = position, await self.committed.position(at)
            now = time.monotonic()
            if position != before:
                moved = now
            elif now - moved > PATIENCE_SECONDS:
                raise PartitionUnreadable(at.topic, at.partition, position)


def cannot_read(record: Any) -> CannotVerifyYet:
    """For an UnreadableBatch where records are needed, or a record where the workers met no readable one."""
    if isinstance(record, UnreadableBatch):
        reason = str(record)
    else:
        reason = f"the workers could not read the source record at offset {record.offset}, but it can be read"
    return CannotVerifyYet(
        reason,
        "If it is corrupt, repair the broker's log or let another replica lead; if nobody can read it, the workers' "
        "`portfolio-stream partitions list` says whether it halts them.",
    )


@asynccontextmanager
async def open_reader(settings: Settings, topics: Sequence[str], partitions: int) -> AsyncIterator[TopicReader]:
    """Everything is assigned once, paused: each new assignment would cost the client its metadata, and us 0.1 s."""
    places = [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]

    def consumer(isolation_level: str) -> Any:
        return batch_consumer(
            Reading(PIECE_RECORDS),
            **client_options(settings),
            isolation_level=isolation_level,
            auto_offset_reset="none",  # a record that is gone is an error, not a place to jump from
            max_partition_fetch_bytes=FETCH_BYTES,
            fetch_max_wait_ms=WAIT_MILLISECONDS,
        )

    async with (
        connected(settings, consumer("read_committed")) as committed,
        connected(settings, consumer("read_uncommitted")) as uncommitted,
    ):
        for each in (committed, uncommitted):
            each.assign(places)
            for place in places:
                each.seek(place, 0)
            each.pause(*places)
        yield TopicReader(committed, uncommitted)


async def committed_offset(
    admin: AIOKafkaAdminClient, group: str, topic: str, partition: int, reached: int = 0
) -> int | None:
    """The group's next offset, None if it has none. Asks until it has come to `reached`, for a while."""
    at = TopicPartition(topic, partition)
    start = time.monotonic()
    while True:
        waited = time.monotonic() - start
        try:
            found = await admin.list_consumer_group_offsets(group, partitions=[at])
        except COORDINATOR_MOVES:
            if waited > AGREEMENT_SECONDS:
                raise
        else:
            offset = found[at].offset if at in found and found[at].offset >= 0 else None
            patience = ABSENCE_SECONDS if offset is None else AGREEMENT_SECONDS
            if (offset or 0) >= reached or waited > patience:
                return offset
        await asyncio.sleep(POLL_SECONDS)

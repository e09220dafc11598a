"""Reads whole topics with separate consumers, one partition at a time.

- A stable end is a last stable offset that has reached the high watermark of the call. So all records that were
  committed before the call are below the end, no transaction crosses the end, and reading to the end never waits.
- Progress is the consumer's position, not the last record: markers, aborted and compacted records leave gaps, also at
  the end.
- A batch that cannot be read comes as one record (see record_batches). The caller decides about it.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import OffsetOutOfRangeError

from portfolio_stream.errors import CannotVerifyYet, HistoryMoved, PartitionUnreadable
from portfolio_stream.kafka.batch_consumer import Reading, batch_consumer, flattened
from portfolio_stream.kafka.client import COORDINATOR_MOVES, client_options, connected
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.settings import Settings

PATIENCE_SECONDS = 60.0  # without progress; a broker aborts a dead worker's transaction in a sixth of this time
FETCH_BYTES = 2 << 20  # for each partition; the consumer holds the bytes of all partitions at once
PIECE_RECORDS = 2_000  # 40 ms of replay; then other tasks get the event loop
WAIT_MILLISECONDS = 50  # for records; a position may also move without records
AGREEMENT_SECONDS = 15.0  # the last marker of a commit takes milliseconds; a starting broker may take longer
ABSENCE_SECONDS = 1.0  # for the offset of a group's first transaction; after that the offset is gone
POLL_SECONDS = 0.02  # Kafka does not say when a stable offset moves


@dataclass(frozen=True, slots=True)
class TopicReader:
    """Two consumers outside any group: one reads committed records, the other knows where the logs end."""

    committed: Any
    uncommitted: Any

    async def log_starts(self, topic: str, partitions: int) -> Mapping[int, int]:
        """Returns the first offset that each partition still has."""
        all_of_it = [TopicPartition(topic, partition) for partition in range(partitions)]
        starts: Mapping[TopicPartition, int] = await self.uncommitted.beginning_offsets(all_of_it)
        return {partition: starts[TopicPartition(topic, partition)] for partition in range(partitions)}

    async def ends(self, topic: str, partitions: int) -> Mapping[int, int]:
        """Returns the last stable offsets. All records committed before the call are below, and reading to the
        offsets never waits."""
        all_of_it = [TopicPartition(topic, partition) for partition in range(partitions)]
        ends: Mapping[TopicPartition, int] = await self.committed.end_offsets(all_of_it)
        return {partition: ends[TopicPartition(topic, partition)] for partition in range(partitions)}

    async def stable_end(self, topic: str, partition: int) -> int:
        """Returns the stable end of the partition. Raises CannotVerifyYet if a transaction stays open."""
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
        """Yields the committed records of [start, end) in pieces, with UnreadableBatches among them.

        `end` must be stable. The caller must close the generator. Raises HistoryMoved if the position is gone.
        """
        at = TopicPartition(topic, partition)
        if await self.committed.position(at) != start:
            self.committed.seek(at, start)  # a seek drops the fetched records
        self.committed.resume(at)
        try:
            async for records in self._read_resumed(at, start, end):
                yield records
        finally:
            self.committed.pause(at)

    async def _read_resumed(self, at: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Any]]:
        position, moved = start, time.monotonic()
        while position < end:
            try:
                fetched = await self.committed.getmany(at, timeout_ms=WAIT_MILLISECONDS, max_records=1)
            except OffsetOutOfRangeError:
                raise trimmed(at, position) from None
            records = flattened(fetched.get(at, ()))
            if records and records[-1].offset >= end:
                records = [record for record in records if record.offset < end]
            if records:
                yield records
                await asyncio.sleep(0)  # getmany does not yield to other tasks while it has buffered records
            before, position = position, await self.committed.position(at)
            now = time.monotonic()
            if position != before:
                moved = now
            elif now - moved > PATIENCE_SECONDS:
                raise PartitionUnreadable(at.topic, at.partition, position)


def trimmed(at: TopicPartition, position: int) -> HistoryMoved:
    return HistoryMoved(
        f"offset {position} of partition {at.partition} of {at.topic} was deleted before it was read",
        "Run verify again; it begins at a savepoint. If records are deleted faster than verify reads, keep them longer "
        "(retention.ms).",
    )


def cannot_read(record: Any) -> CannotVerifyYet:
    """Returns the error for an UnreadableBatch, or for a record that we can read and the workers could not."""
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
    """Yields a reader. Assigns all partitions once, and pauses them: a new assignment would take 0.1 s."""
    places = [TopicPartition(topic, partition) for topic in topics for partition in range(partitions)]

    def consumer(isolation_level: str) -> Any:
        return batch_consumer(
            Reading(PIECE_RECORDS),
            **client_options(settings),
            isolation_level=isolation_level,
            auto_offset_reset="none",  # a missing offset is an error; the consumer must not skip records
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


class Committed(NamedTuple):
    """What the group has committed for a partition."""

    #: the next source offset; None if the group has none
    offset: int | None
    #: the text that was committed with the offset: it names the generation (`generation=2`)
    metadata: str = ""

    def is_of(self, generation: int) -> bool:
        """Whether the offset belongs to the generation. An offset of the first one may name no generation."""
        return self.metadata == f"generation={generation}" or (generation == 1 and not self.metadata)


async def committed_offset(
    admin: AIOKafkaAdminClient, group: str, topic: str, partition: int, generation: int, reached: int | None = None
) -> Committed:
    """Returns the group's offset.

    With `reached`, asks until the offset is there and belongs to the generation, at most AGREEMENT_SECONDS.
    """
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
            has_offset = at in found and found[at].offset >= 0
            committed = Committed(found[at].offset, found[at].metadata or "") if has_offset else Committed(None)
            patience = ABSENCE_SECONDS if committed.offset is None else AGREEMENT_SECONDS
            if reached is None or waited > patience:
                return committed
            if (committed.offset or 0) >= reached and (committed.offset is None or committed.is_of(generation)):
                return committed
        await asyncio.sleep(POLL_SECONDS)

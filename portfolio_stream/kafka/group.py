"""The workers' consumer group as Kafka knows it: the members and their partitions, and the offsets of the source.

A Group sends its requests through the AIOKafkaClient of a worker or of a command.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient

from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.kafka.client import COORDINATOR_MOVES, client_options, connected
from portfolio_stream.kafka.member_lookup import MemberLookup
from portfolio_stream.kafka.offset_lookup import (
    EARLIEST,
    LATEST,
    NO_OFFSET,
    READ_COMMITTED,
    group_offsets,
    log_offsets,
)
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.observe.lag import records_behind
from portfolio_stream.settings import Settings

COORDINATOR_SECONDS, POLL_SECONDS = 10.0, 0.05  # Kafka does not say when the coordinator is there


class Offsets(NamedTuple):
    """The offsets of one partition of the source topic."""

    log_start: int
    #: the group's next offset. None if the group has no offset: then a worker begins at the log's start
    committed: int | None
    last_stable_offset: int
    high_watermark: int

    @property
    def lag(self) -> int:
        """The number of records and markers that a worker could read now and that the group has not committed."""
        begin = self.log_start if self.committed is None else self.committed
        return records_behind(begin, self.last_stable_offset)


class GroupClient(MemberLookup):
    """Asks Kafka about the members of the workers' group, and about its offsets.

    If Kafka gives no answer, a method raises a KafkaError or an OSError: the caller may try again.
    """

    async def offsets(self, partitions: Collection[int]) -> dict[int, Offsets]:
        """Returns the offsets of the partitions. Asks for the group's offsets first, so that no lag is negative."""
        client, topic = self._client, self._topic
        coordinator = await self._coordinators.group()
        committed = await group_offsets(client, coordinator, self._group, topic, partitions, is_stable=False)
        starts = await log_offsets(client, topic, partitions, EARLIEST)
        stable = await log_offsets(client, topic, partitions, LATEST, READ_COMMITTED)
        high = await log_offsets(client, topic, partitions, LATEST)
        known = committed.keys() & starts.keys() & stable.keys() & high.keys()
        if unknown := set(partitions) - known:
            raise kafka_errors.LeaderNotAvailableError(f"{topic}-{min(unknown)}")
        return {
            partition: Offsets(
                log_start=starts[partition],
                committed=None if committed[partition].offset == NO_OFFSET else committed[partition].offset,
                last_stable_offset=stable[partition],
                high_watermark=high[partition],
            )
            for partition in sorted(known)
        }


@asynccontextmanager
async def open_group(settings: Settings) -> AsyncIterator[tuple[GroupClient, int]]:
    """Yields the group and the number of the source's partitions. Raises TopicMissing and the errors of `connected`."""
    async with admin_client(settings) as admin:
        partitions = await partition_count(admin, settings.input_topic)
    async with connected(settings, AIOKafkaClient(**client_options(settings))) as client:
        await client.set_topics([settings.input_topic])
        coordinators = Coordinators(client, settings.group, settings.group)
        group = GroupClient(client, coordinators, group=settings.group, topic=settings.input_topic)
        await until_known(group)
        yield group, partitions


async def until_known(group: GroupClient) -> None:
    """Wait for the coordinator: a fresh broker makes its offsets topic only at the first request for a coordinator."""
    deadline = time.monotonic() + COORDINATOR_SECONDS
    while True:
        try:
            await group.offsets(())
        except COORDINATOR_MOVES:
            if time.monotonic() > deadline:
                raise
        else:
            return
        await group.forget()
        await asyncio.sleep(POLL_SECONDS)

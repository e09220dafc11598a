"""How far the source reaches, and how far the group has committed: two requests to Kafka a look."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

from portfolio_stream.settings import GROUP, Settings


class Offsets(NamedTuple):
    """Of every partition of the source."""

    ends: Mapping[int, int]
    #: the group's next offset; 0 where it has none
    committed: Mapping[int, int]

    @property
    def produced(self) -> int:
        return sum(self.ends.values())

    @property
    def processed(self) -> int:
        return sum(self.committed.values())

    @property
    def behind(self) -> dict[int, int]:
        """Lag by partition, of those that have any."""
        return {
            partition: end - self.committed[partition]
            for partition, end in self.ends.items()
            if end > self.committed[partition]
        }


class Ruler:
    """Reads offsets. Errors of Kafka's are raised as they come: `connected` around it makes them ours."""

    def __init__(self, admin: Any, consumer: Any, topic: str, partitions: int) -> None:
        from aiokafka import TopicPartition

        self.partitions = partitions
        self._admin = admin
        self._consumer = consumer
        self._places = [TopicPartition(topic, partition) for partition in range(partitions)]

    async def read(self) -> Offsets:
        """Committed offsets first: what is produced meanwhile is lag, and lag is never negative."""
        from portfolio_stream.kafka_client import COORDINATOR_MOVES

        try:
            found = await self._admin.list_consumer_group_offsets(GROUP, partitions=self._places)
        except COORDINATOR_MOVES:  # nobody has joined yet
            found = {}
        ends = await self._consumer.end_offsets(self._places)
        return Offsets(
            ends={place.partition: ends[place] for place in self._places},
            committed={place.partition: max(found[place].offset, 0) if place in found else 0 for place in self._places},
        )


@asynccontextmanager
async def open_ruler(settings: Settings) -> AsyncIterator[Ruler]:
    """Makes the contract's topics first, where they are missing."""
    from aiokafka import AIOKafkaConsumer

    from portfolio_stream.admin import admin_client, create_all
    from portfolio_stream.kafka_client import client_options, connected

    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    async with admin_client(settings) as admin, connected(settings, consumer):
        await create_all(admin, settings)
        yield Ruler(admin, consumer, settings.input_topic, settings.partitions)

"""The follower reads a whole topic into a global table, from a real broker."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.follower import Follower
from portfolio_stream.settings import Settings
from tests.integration.workers import until


@dataclass
class FollowedPrices:
    """A global table that keeps the records it gets."""

    is_ready: bool = False
    lag: int | None = None
    values: list[bytes] = field(default_factory=list)
    #: number of values when the table became ready
    had: int | None = None

    def __setattr__(self, name: str, value: object) -> None:
        super().__setattr__(name, value)
        if name == "is_ready" and value:
            self.had = len(self.values)

    def apply(self, records: Sequence[Any]) -> None:
        self.values += [record.value for record in records]

    def clear(self) -> None:
        self.values.clear()
        self.is_ready = False


@asynccontextmanager
async def admin(kafka: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def tell(kafka: Cluster, topic: str, values: Sequence[bytes], commit: bool = True) -> None:
    """Send the values in one transaction."""
    producer = AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers, transactional_id=topic)
    async with producer:
        await producer.begin_transaction()
        await asyncio.gather(*[await producer.send(topic, value) for value in values])
        await (producer.commit_transaction() if commit else producer.abort_transaction())


@asynccontextmanager
async def following(kafka: Cluster, topic: str) -> AsyncIterator[FollowedPrices]:
    table = FollowedPrices()
    follower = Follower(Settings(bootstrap_servers=kafka.bootstrap_servers), topic, table)
    follower.start()
    try:
        yield table
    finally:
        await follower.stop()
        assert not table.is_ready


async def test_everything_committed_from_the_beginning(kafka: Cluster) -> None:
    """The table is ready with all committed records, though aborted ones are last. Then it gets new records."""
    topic = f"followed-{uuid4().hex[:8]}"
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(topic, 1, 1)])
    first = [b"%d" % number for number in range(1_000)]
    await tell(kafka, topic, first)
    await tell(kafka, topic, [b"aborted"], commit=False)
    async with following(kafka, topic) as table:
        await until(lambda: table.is_ready, 15, "the topic's end")
        assert (1_000, first) == (table.had, table.values)
        await tell(kafka, topic, [b"next"])
        await until(lambda: table.values[1_000:] == [b"next"] and table.lag == 0, 10, "the next record")


async def test_another_topic_of_the_same_name(kafka: Cluster) -> None:
    """After the topic was deleted and created again, the table has the new topic's records only."""
    topic = f"replaced-{uuid4().hex[:8]}"
    async with admin(kafka) as client:
        await client.create_topics([NewTopic(topic, 1, 1)])
        await tell(kafka, topic, [b"old"] * 100)
        async with following(kafka, topic) as table:
            await until(lambda: table.is_ready, 15, "the topic's end")
            await client.delete_topics([topic])
            await until(lambda: _is_created(client, topic), 15, "the topic can be made again")
            await tell(kafka, topic, [b"new"])
            await until(lambda: table.is_ready and table.values == [b"new"], 30, "the new topic's records")


async def _is_created(client: AIOKafkaAdminClient, topic: str) -> bool:
    """Try to create the topic. Kafka answers a deletion before it has ended, so this may fail at first."""
    answer = await client.create_topics([NewTopic(topic, 1, 1)])
    return all(error[1] == 0 for error in answer.topic_errors)

"""The topic of the watcher's round trips, GROUP-probe: the only thing that the watcher ever creates.

It has a partition for each broker, so Kafka spreads its leaders over all of them. Its records are kept for minutes.
"""

from typing import Any

from aiokafka.admin import NewPartitions

from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.contract_topics import probe_topic
from portfolio_stream.kafka.topics import create_missing, describe_topics
from portfolio_stream.settings import Settings


async def prepare(settings: Settings) -> int:
    """Create the topic if it is missing, and give it a partition for each broker. Returns its number of partitions.

    Raises the errors of `admin_client`.
    """
    async with admin_client(settings) as admin:
        brokers = len(admin._client.cluster.brokers())
        topic = probe_topic(settings, brokers)
        await create_missing(admin, [topic])
        found = (await describe_topics(admin, [topic.name])).get(topic.name)
        if found is None:
            return 0
        if found.partitions < brokers:
            await _widen(admin, topic.name, brokers)
        return max(found.partitions, brokers)


async def _widen(admin: Any, name: str, partitions: int) -> None:
    await admin.create_partitions({name: NewPartitions(partitions)})

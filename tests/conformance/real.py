"""The real Kafka of a test session."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.exactly_once.connections import Connections, KafkaConnections
from tests.integration.producer_epochs import transaction_log


class RealKafka:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.connections: Connections = KafkaConnections(options={"bootstrap_servers": cluster.bootstrap_servers})

    def unique(self, name: str) -> str:
        return f"{name}-{uuid4().hex[:8]}"

    async def create_topic(self, partitions: int, settings: Mapping[str, str] | None = None) -> str:
        name = self.unique("topic")
        async with self._admin() as admin:
            await admin.create_topics([NewTopic(name, partitions, 1, topic_configs=dict(settings or {}))])
        return name

    async def trim(self, topic: str, start: int) -> None:
        async with self._admin() as admin:
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=start)})

    async def compact(self, topic: str) -> None:
        """The cleaner comes by itself."""

    async def restart(self) -> None:
        for node in range(self._cluster.brokers):
            await asyncio.to_thread(self._cluster.kill, node)
        await asyncio.to_thread(self._cluster.start)

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        async with transaction_log(self._cluster.bootstrap_servers) as log:
            await log.set_epochs(epochs)
        await self.restart()

    @asynccontextmanager
    async def _admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        admin = AIOKafkaAdminClient(bootstrap_servers=self._cluster.bootstrap_servers)
        await admin.start()
        try:
            yield admin
        finally:
            await admin.close()

"""The real Kafka of a test session."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from uuid import uuid4

from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete
from aiokafka.structs import TopicPartition

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka import health
from portfolio_stream.kafka.connections import Connections, KafkaConnections
from portfolio_stream.settings import Settings
from tests.integration.producer_epochs import transaction_log
from tests.integration.topics import KEPT
from tests.integration.workers import until

HEALTHY_SECONDS = 60.0


class RealKafka:
    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._copies = cluster.brokers
        self.connections: Connections = KafkaConnections(
            options={"bootstrap_servers": cluster.bootstrap_servers}, client_id="conformance"
        )

    def unique(self, name: str) -> str:
        return f"{name}-{uuid4().hex[:8]}"

    async def create_topic(self, partitions: int, settings: Mapping[str, str] | None = None, name: str = "") -> str:
        name = name or self.unique("topic")
        async with self._admin() as admin:
            await admin.create_topics(
                [NewTopic(name, partitions, self._copies, topic_configs={**KEPT, **(settings or {})})]
            )
        return name

    async def delete_topic(self, topic: str) -> None:
        async with self._admin() as admin:
            await admin.delete_topics([topic])

    async def trim(self, topic: str, start: int) -> None:
        async with self._admin() as admin:
            await admin.delete_records({TopicPartition(topic, 0): RecordsToDelete(before_offset=start)})

    async def compact(self, topic: str) -> None:
        """The real cleaner comes by itself."""

    async def restart(self) -> None:
        for node in range(self._cluster.brokers):
            await asyncio.to_thread(self._cluster.kill, node)
        await asyncio.to_thread(self._cluster.start)

    async def kill(self, node: int) -> None:
        await asyncio.to_thread(self._cluster.kill, node)

    async def start(self, node: int) -> None:
        await asyncio.to_thread(self._cluster.start_broker, node)
        settings = Settings(bootstrap_servers=self._cluster.bootstrap_servers)

        async def is_healthy() -> bool:
            return (await health.look(settings)).is_healthy

        await until(is_healthy, HEALTHY_SECONDS, "all copies are in sync")

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

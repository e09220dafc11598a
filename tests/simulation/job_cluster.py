"""The port `jobs.cluster` on the simulated Kafka: topics are made and deleted while everything else goes on.

A request may be lost, or take effect and fail. Then the command says that Kafka refused it.
"""

import asyncio
from collections.abc import Callable, Collection
from contextvars import Context

from portfolio_stream.errors import KafkaRefused
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.kafka.network import Link


class SimulatedCluster:
    def __init__(
        self, kafka: SimulatedKafka, link: Link, partitions: int, outside: Context, deleted: Callable[[str], None]
    ) -> None:
        """`deleted` hears of each topic that is deleted."""
        self._kafka = kafka
        self._link = link
        self._partitions = partitions
        self._outside = outside
        self._deleted = deleted

    async def make_changelog(self, topic: str) -> None:
        def make() -> None:
            self._delete(topic)
            self._kafka.create_topic(topic, self._partitions)

        await self._ask("CreateTopics", make)

    async def delete(self, topics: Collection[str]) -> None:
        for topic in topics:
            await self._ask("DeleteTopics", lambda topic=topic: self._delete(topic))  # type: ignore[misc]

    def _delete(self, topic: str) -> None:
        if (topic, 0) in self._kafka.logs:
            self._kafka.delete_topic(topic)
            self._deleted(topic)

    async def _ask(self, api: str, effect: Callable[[], None]) -> None:
        await asyncio.sleep(self._link.delay())
        if self._link.is_cut or self._link.loses_request() or not self._kafka.are_all_up:
            raise KafkaRefused(f"{api} got no answer")
        self._outside.run(effect)
        await asyncio.sleep(self._link.delay())
        if self._link.loses_reply(api):
            raise KafkaRefused(f"{api} got no answer")

"""Makes and deletes the changelogs of generations on a real cluster (`jobs.cluster`)."""

import asyncio
import time
from collections.abc import Collection
from dataclasses import replace

from aiokafka.errors import NoError, UnknownTopicOrPartitionError, for_code

from portfolio_stream.errors import KafkaRefused
from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.reach import answered
from portfolio_stream.kafka.topics import create_missing, describe_topics
from portfolio_stream.settings import Settings

GONE_SECONDS, GONE_POLL_SECONDS = 30.0, 0.05  # it takes some 50 ms on an idle machine


class ChangelogTopics:
    """A connection for each request: a switch makes one topic, and deletes one now and then."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    async def make_changelog(self, topic: str) -> None:
        """Has the settings of the contract, and as many partitions as the source has now."""
        await self.delete((topic,))
        async with admin_client(self._settings) as admin:
            partitions = await partition_count(admin, self._settings.input_topic)
            topics = all_topics(replace(self._settings, partitions=partitions))
            wanted = [replace(known, name=topic) for known in topics if known.role == "changelog"]
            await answered(admin._client, lambda: create_missing(admin, wanted))

    async def delete(self, topics: Collection[str]) -> None:
        async with admin_client(self._settings) as admin:
            present = await describe_topics(admin, topics)
            if not present:
                return
            answer = await admin.delete_topics(list(present))
            for name, code in answer.topic_error_codes:
                error = for_code(code)
                if error not in (NoError, UnknownTopicOrPartitionError):
                    raise error(f"Topic {name} cannot be deleted")
            deadline = time.monotonic() + GONE_SECONDS
            while await describe_topics(admin, topics):
                if time.monotonic() > deadline:
                    raise KafkaRefused(f"topic {min(present)} is still there {GONE_SECONDS:.0f} s after its deletion")
                await asyncio.sleep(GONE_POLL_SECONDS)

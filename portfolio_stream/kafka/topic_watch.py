"""Watches whether a topic of the engine was deleted, or deleted and made again.

Up to Kafka 4.0, Produce and Fetch name a topic by its name. So a topic that was made again accepts the records for the
old topic without an error; only the topic's id differs (KIP-516). The engine may write for WATCH_SECONDS into the
wrong topic. META holds the changelog's id, so no recovery takes these records for state.
"""

import asyncio
import time
from collections.abc import Collection
from typing import NamedTuple
from uuid import UUID

from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import TopicMissing, TopicReplaced
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Lane, Node, call, schema

outage_log = sparing(__name__)

_metadata = schema("metadata", 12)

WATCH_SECONDS = 2.0  # one small request
#: how long a topic may be missing, for a running and for a starting worker: a fresh broker may not know it yet
GONE_SECONDS, MISSING_SECONDS = 15.0, 2.0
MISSING_POLL_SECONDS = 0.25


class TopicIdentity(NamedTuple):
    id: UUID
    partitions: int


async def describe(client: Client, names: Collection[str]) -> dict[str, TopicIdentity]:
    """Returns the topics that exist, by name. Raises one of LOST or a KafkaError."""
    request = _metadata.MetadataRequest(
        topics=tuple(_metadata.MetadataRequestTopic(topic_id=None, name=name) for name in names),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)
    return {
        topic.name: TopicIdentity(topic.topic_id, len(topic.partitions))
        for topic in reply.topics
        if topic.error_code is not E.unknown_topic_or_partition and topic.partitions
    }


class TopicWatch:
    def __init__(self, client: Client, names: Collection[str]) -> None:
        self._client = client
        self._names = names
        self.topics: dict[str, TopicIdentity] = {}

    async def start(self) -> None:
        """Remember the topics' ids. Raises TopicMissing if a topic is still missing after MISSING_SECONDS."""
        deadline = time.monotonic() + MISSING_SECONDS
        while True:
            self.topics = await describe(self._client, self._names)
            missing = [name for name in self._names if name not in self.topics]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise TopicMissing(missing[0])
            await asyncio.sleep(MISSING_POLL_SECONDS)

    async def run(self) -> None:
        """Watch until cancelled. Raises TopicReplaced, or TopicMissing if a topic is missing for GONE_SECONDS."""
        seen = dict.fromkeys(self._names, time.monotonic())
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            try:
                found = await describe(self._client, self._names)
            except (*LOST, kafka_errors.KafkaError) as error:
                outage_log.info("topics not looked at error=%s", type(error).__name__)
                seen = dict.fromkeys(self._names, time.monotonic())
                continue
            for name in self._names:
                if name in found:
                    self._check(name, found[name])
                    seen[name] = time.monotonic()
                elif time.monotonic() - seen[name] > GONE_SECONDS:
                    raise TopicMissing(name)

    def _check(self, name: str, found: TopicIdentity) -> None:
        if found.id != self.topics[name].id:
            raise TopicReplaced(name)

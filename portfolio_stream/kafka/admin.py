"""The contract's topics on a real cluster: create the missing topics, check the others.

These functions never change a topic that exists. If a topic breaks the contract, they raise an error that names the
topic, and the operator decides.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.errors import TopicMissing
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.reach import answered
from portfolio_stream.kafka.topic_check import TopicCheck, check_present
from portfolio_stream.kafka.topics import Topic, create_missing, describe_topics
from portfolio_stream.settings import Settings


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[Any]:
    """Yields a started aiokafka admin client. Raises the errors of `connected`."""
    async with connected(settings, AIOKafkaAdminClient(**client_options(settings))) as admin:
        yield admin


async def create_all(admin: Any, settings: Settings) -> dict[str, bool]:
    """Check the topics that exist and create the others. Returns for every topic's name whether it was created now."""
    topics = all_topics(settings)
    # the check comes first: with a wrong topic, no other topic is created
    await check_present(admin, topics, settings.bootstrap_servers)
    made = await create_missing(admin, topics)
    return {topic.name: topic.name in made for topic in topics}


async def prepare_for_worker(admin: Any, settings: Settings) -> tuple[TopicCheck, int]:
    """Create the topics that a worker may create, and check the others.

    Returns the check to run beside the worker, and how many partitions the input topic has.

    One broker of several may be away meanwhile. Raises TopicMissing for the input topic, and TopicMisconfigured for
    any topic.
    """
    topics = await answered(admin._client, lambda: _prepare_for_worker(admin, settings))
    check = TopicCheck(lambda: admin_client(settings), topics, settings.bootstrap_servers)
    await check.begin(admin)
    return check, topics[0].partitions


async def _prepare_for_worker(admin: Any, settings: Settings) -> tuple[Topic, ...]:
    described = await describe_topics(admin, [settings.input_topic])
    if settings.input_topic not in described:
        raise TopicMissing(settings.input_topic)
    partitions = described[settings.input_topic].partitions
    topics = all_topics(replace(settings, partitions=partitions))
    await check_present(admin, topics, settings.bootstrap_servers)
    await create_missing(admin, (topic for topic in topics if topic.made_by_worker))
    return topics


async def partition_count(admin: Any, topic: str) -> int:
    """Returns how many partitions the topic has. Raises TopicMissing."""
    found = await describe_topics(admin, [topic])
    if topic not in found:
        raise TopicMissing(topic)
    return found[topic].partitions

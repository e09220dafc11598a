"""The contract's topics on a real cluster: make what is missing, describe what is there, check it.

Nothing that exists is ever changed here: a topic that breaks the contract is named in an error, and the operator
decides.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import NoError, TopicAlreadyExistsError, UnknownTopicOrPartitionError, for_code

from portfolio_stream.errors import TopicMisconfigured, TopicMissing
from portfolio_stream.kafka_client import client_options, connected
from portfolio_stream.settings import Settings
from portfolio_stream.topics import Topic, all_topics

VISIBLE_SECONDS, VISIBLE_POLL_SECONDS = 10.0, 0.02  # some 50 ms on an idle machine; nothing tells when


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicDescription:
    """A topic as the cluster has it."""

    name: str
    partitions: int
    replication_factor: int
    #: every setting, the broker's defaults included
    configuration: Mapping[str, str]
    is_internal: bool = False


@asynccontextmanager
async def admin_client(settings: Settings) -> AsyncIterator[Any]:
    """A started aiokafka admin client."""
    async with connected(settings, AIOKafkaAdminClient(**client_options(settings))) as admin:
        yield admin


async def describe_topics(admin: Any, names: Iterable[str] | None = None) -> dict[str, TopicDescription]:
    """The topics that exist, by name, of those named; None: all. What does not exist is left out."""
    wanted = None if names is None else list(names)
    found = {}
    for topic in await admin.describe_topics(wanted):
        error = for_code(topic["error_code"])
        if error is NoError:
            found[topic["topic"]] = topic
        elif error is not UnknownTopicOrPartitionError:
            raise error(topic["topic"])
    configurations = await _configurations(admin, found) if found else {}
    return {
        name: TopicDescription(
            name=name,
            partitions=len(topic["partitions"]),
            replication_factor=len(topic["partitions"][0]["replicas"]),
            configuration=configurations[name],
            is_internal=topic["is_internal"],
        )
        for name, topic in sorted(found.items())
    }


async def create_missing(admin: Any, topics: Iterable[Topic]) -> tuple[str, ...]:
    """Make the topics that do not exist; returns the names of those made, also when another process races with us."""
    wanted = tuple(topics)
    present = await describe_topics(admin, [topic.name for topic in wanted])
    missing = [topic for topic in wanted if topic.name not in present]
    if not missing:
        return ()
    answer = await admin.create_topics([_new_topic(topic) for topic in missing])
    made = []
    for name, code, message in answer.topic_errors:
        error = for_code(code)
        if error is NoError:
            made.append(name)
        elif error is not TopicAlreadyExistsError:
            raise error(f"Topic {name} cannot be created: {message}")
    await _until_visible(admin, [topic.name for topic in missing])
    return tuple(made)


async def _until_visible(admin: Any, names: list[str]) -> None:
    """The controller answers before the brokers know the topics: a command that follows would not find them."""
    deadline = time.monotonic() + VISIBLE_SECONDS
    while absent := set(names) - set(await describe_topics(admin, names)):
        if time.monotonic() > deadline:
            raise TopicMissing(min(absent))
        await asyncio.sleep(VISIBLE_POLL_SECONDS)


def check(topic: Topic, found: TopicDescription) -> None:
    """Raises TopicMisconfigured if the partition count or cleanup.policy is not the contract's."""
    if found.partitions != topic.partitions:
        raise TopicMisconfigured(topic.name, "partition count", str(found.partitions), str(topic.partitions))
    policy = found.configuration["cleanup.policy"]
    if policy != topic.cleanup_policy:
        raise TopicMisconfigured(topic.name, "cleanup.policy", policy, topic.cleanup_policy)


def differences(topic: Topic, found: TopicDescription) -> dict[str, tuple[str, str]]:
    """Every setting of the contract that the cluster has otherwise: name -> (found, expected)."""
    pairs = {name: (found.configuration.get(name, "none"), value) for name, value in topic.configuration.items()}
    pairs["partition count"] = (str(found.partitions), str(topic.partitions))
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


async def create_all(admin: Any, settings: Settings) -> dict[str, bool]:
    """Every topic of the contract: name -> whether it was made now. Those that were there are checked."""
    topics = all_topics(settings)
    await _check_present(admin, topics)  # before anything is made: a wrong one would leave half a set
    made = await create_missing(admin, topics)
    return {topic.name: topic.name in made for topic in topics}


async def prepare_for_worker(admin: Any, settings: Settings) -> int:
    """Make what a worker may make, check the rest; returns the partition count, which is the input topic's.

    Raises TopicMissing for the input, TopicMisconfigured for any.
    """
    described = await describe_topics(admin, [settings.input_topic])
    if settings.input_topic not in described:
        raise TopicMissing(settings.input_topic)
    partitions = described[settings.input_topic].partitions
    topics = all_topics(replace(settings, partitions=partitions))
    await _check_present(admin, topics)
    await create_missing(admin, (topic for topic in topics if topic.made_by_worker))
    return partitions


async def _check_present(admin: Any, topics: tuple[Topic, ...]) -> None:
    found = await describe_topics(admin, [topic.name for topic in topics])
    for topic in topics:
        if topic.name in found:
            check(topic, found[topic.name])


async def _configurations(admin: Any, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    settings: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            error = for_code(code)
            if error is not NoError:
                raise error(f"The configuration of topic {name} cannot be read: {message}")
            settings[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
    return settings


def _new_topic(topic: Topic) -> Any:
    return NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.configuration))


async def partition_count(admin: Any, topic: str) -> int:
    """Raises TopicMissing."""
    found = await describe_topics(admin, [topic])
    if topic not in found:
        raise TopicMissing(topic)
    return found[topic].partitions

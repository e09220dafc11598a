"""Describe the topics of a cluster, and create missing ones."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    KafkaConnectionError,
    NodeNotReadyError,
    NoError,
    RequestTimedOutError,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
    for_code,
)
from aiokafka.protocol.metadata import MetadataRequest

from portfolio_stream.errors import TopicMissing

VISIBLE_SECONDS, VISIBLE_POLL_SECONDS = 60.0, 0.02  # it takes some 50 ms on an idle machine
FOREVER = "9223372036854775807"  # Long.MAX: no odd timestamp of a source record may block its partition for ever
#: settings of the topics that workers write: the workers set the timestamps, and Kafka refuses none
ANY_TIMESTAMP = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.before.max.ms": FOREVER,
    "message.timestamp.after.max.ms": FOREVER,
}
WEEK_MS = str(7 * 24 * 3600 * 1000)  # longer than any store is reasonably away


#: what a worker uses a topic for: `topic_rules` has other rules for each role
Role = Literal["source", "output", "changelog", "prices", "control", "checkpoints", "probe"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    name: str
    role: Role
    partitions: int
    replication_factor: int
    configuration: Mapping[str, str]
    #: whether a worker creates the topic if it is missing
    made_by_worker: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class TopicDescription:
    """A topic that exists in the cluster."""

    name: str
    partitions: int
    replication_factor: int
    #: every setting, also those that have the broker's default
    configuration: Mapping[str, str]
    is_internal: bool = False


async def describe_topics(admin: Any, names: Iterable[str] | None = None) -> dict[str, TopicDescription]:
    """Returns the descriptions of the named topics, or of all topics if `names` is None. A missing topic is left out.

    Two brokers may answer. A topic that one of them does not know counts as missing.
    """
    wanted = None if names is None else list(names)
    found = {}
    for topic in _topics(await admin._send_request(_question(wanted))):
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
        if name in configurations
    }


async def create_missing(admin: Any, topics: Iterable[Topic]) -> tuple[str, ...]:
    """Create the missing topics and return their names. A topic that another process creates meanwhile is left out."""
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
    """Wait until every broker knows the topics. Raises TopicMissing after VISIBLE_SECONDS.

    The controller answers before the brokers know the topics, and the next command may ask any broker. A broker that
    does not answer is passed over.
    """
    deadline = time.monotonic() + VISIBLE_SECONDS
    for node in [broker.nodeId for broker in admin._client.cluster.brokers()]:
        while absent := set(names) - await _known_by(admin, node, names):
            if time.monotonic() > deadline:
                raise TopicMissing(min(absent))
            await asyncio.sleep(VISIBLE_POLL_SECONDS)


async def _known_by(admin: Any, node: int, names: list[str]) -> set[str]:
    try:
        answer = await admin._client.send(node, _question(names))
    except (KafkaConnectionError, NodeNotReadyError, RequestTimedOutError):
        return set(names)
    return {topic["topic"] for topic in _topics(answer) if for_code(topic["error_code"]) is NoError}


def _question(names: list[str] | None) -> MetadataRequest:
    """A metadata request that creates no topic. The admin client's own request lets a broker auto-create it."""
    return MetadataRequest(names, allow_auto_topic_creation=False)


def _topics(answer: Any) -> Any:
    return answer.to_object()["topics"]


async def _configurations(admin: Any, names: Iterable[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    settings: dict[str, dict[str, str]] = {}
    for answer in await admin.describe_configs(resources):
        for code, message, _, name, entries in answer.resources:
            error = for_code(code)
            if error is NoError:
                settings[name] = {entry[0]: entry[1] for entry in entries if entry[1] is not None}
            elif error is not UnknownTopicOrPartitionError:
                raise error(f"The configuration of topic {name} cannot be read: {message}")
    return settings


def _new_topic(topic: Topic) -> Any:
    return NewTopic(topic.name, topic.partitions, topic.replication_factor, topic_configs=dict(topic.configuration))

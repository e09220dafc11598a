"""How well a Kafka cluster is: its controller, its brokers, and every partition that lacks something."""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode

from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Lane, Node, call, schema
from portfolio_stream.settings import Settings

_metadata = schema("metadata", 12)
_cluster = schema("describe_cluster", 2)
_quorum = schema("describe_quorum", 2)
_configs = schema("describe_configs", 4)

NOBODY = -1
TOPIC = 2  # the type of a resource
IN_SYNC = "min.insync.replicas"
QUORUM_TOPIC = "__cluster_metadata"
ANSWER_MS = 5_000  # a paused broker accepts connections but does not answer: then `look` asks the next broker


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerHealth:
    node: int
    address: str
    #: registered, and Kafka gets its heartbeats
    is_live: bool
    leaders: int
    replicas: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionHealth:
    topic: str
    partition: int
    #: None if the partition is offline
    leader: int | None
    replicas: tuple[int, ...]
    in_sync: tuple[int, ...]
    #: min.insync.replicas
    needed: int

    @property
    def is_under_replicated(self) -> bool:
        return len(self.in_sync) < len(self.replicas)

    @property
    def is_under_min_isr(self) -> bool:
        """Whether too few copies are in sync: then no transaction, and no write with acks=all, succeeds."""
        return len(self.in_sync) < self.needed


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaHealth:
    cluster_id: str
    #: None if there is no controller now
    controller: int | None
    brokers: tuple[BrokerHealth, ...]
    partitions: tuple[PartitionHealth, ...]

    @property
    def offline(self) -> tuple[PartitionHealth, ...]:
        return tuple(one for one in self.partitions if one.leader is None)

    @property
    def under_replicated(self) -> tuple[PartitionHealth, ...]:
        return tuple(one for one in self.partitions if one.is_under_replicated)

    @property
    def under_min_isr(self) -> tuple[PartitionHealth, ...]:
        return tuple(one for one in self.partitions if one.is_under_min_isr)

    @property
    def is_healthy(self) -> bool:
        """Whether every broker lives and every partition has all its copies in sync."""
        is_whole = not (self.offline or self.under_replicated or self.under_min_isr)
        return self.controller is not None and all(broker.is_live for broker in self.brokers) and is_whole


async def look(settings: Settings) -> KafkaHealth:
    """Returns the health of the cluster, from the first broker that answers.

    Raises BrokerUnreachable, BrokerTooOld and KafkaRefused.
    """
    client = AIOKafkaClient(**client_options(settings), request_timeout_ms=ANSWER_MS)
    async with connected(settings, client):
        return await examine(client)


async def examine(client: AIOKafkaClient) -> KafkaHealth:
    """Like `look`, over a connected client. Raises one of LOST, a KafkaError and BrokerTooOld.

    Without a controller, each broker is asked: one that has just lost its connection does not know it.
    """
    seen: KafkaHealth | None = None
    nodes = sorted(broker.nodeId for broker in client.cluster.brokers())
    for node in nodes:
        try:
            seen = await examine_by(client, Node(node))
        except LOST:
            if node == nodes[-1] and seen is None:
                raise
        else:
            if seen.controller is not None:
                return seen
    assert seen is not None  # noqa: S101  the last of the nodes has raised otherwise
    return seen


async def examine_by(client: AIOKafkaClient, node: Node) -> KafkaHealth:
    """The health as one broker sees it. Raises one of LOST, a KafkaError and BrokerTooOld."""
    cluster = await _ask(
        client,
        node,
        _cluster.DescribeClusterRequest(include_cluster_authorized_operations=False, include_fenced_brokers=True),
    )
    metadata = await call(
        client,
        node,
        Lane.RECOVERY,
        _metadata.MetadataRequest(
            topics=None, allow_auto_topic_creation=False, include_topic_authorized_operations=False
        ),
    )
    needed = await _needed_in_sync(client, node, [topic.name for topic in metadata.topics])
    partitions = _partitions(metadata.topics, needed)
    try:
        controller = await _controller(client, node)
    except LOST:  # the broker passes this question on to the controller, and waits for one in vain
        controller = None
    return KafkaHealth(
        cluster_id=cluster.cluster_id,
        controller=controller,
        brokers=_brokers(cluster.brokers, partitions),
        partitions=partitions,
    )


async def _controller(client: AIOKafkaClient, node: Node) -> int | None:
    """Returns the leader of the quorum. (The controller in Metadata is any broker, for old clients.)"""
    asked = _quorum.TopicData(topic_name=QUORUM_TOPIC, partitions=(_quorum.PartitionData(partition_index=0),))
    reply = await _ask(client, node, _quorum.DescribeQuorumRequest(topics=(asked,)))
    leader: int = reply.topics[0].partitions[0].leader_id
    return None if leader == NOBODY else leader


async def _needed_in_sync(client: AIOKafkaClient, node: Node, topics: Collection[str]) -> dict[str, int]:
    resources = tuple(
        _configs.DescribeConfigsResource(resource_type=TOPIC, resource_name=name, configuration_keys=(IN_SYNC,))
        for name in topics
    )
    reply = await call(client, node, Lane.RECOVERY, _configs.DescribeConfigsRequest(resources=resources))
    for result in reply.results:
        _raise_for(result.error_code)
    return {result.resource_name: int(config.value) for result in reply.results for config in result.configs}


async def _ask(client: AIOKafkaClient, node: Node, request: Any) -> Any:
    reply = await call(client, node, Lane.RECOVERY, request)
    _raise_for(reply.error_code)
    return reply


def _raise_for(code: ErrorCode) -> None:
    if code is not ErrorCode.none:
        raise kafka_errors.for_code(code.value)


def _partitions(topics: Collection[Any], needed: Mapping[str, int]) -> tuple[PartitionHealth, ...]:
    found = [
        PartitionHealth(
            topic=topic.name,
            partition=one.partition_index,
            leader=None if one.leader_id == NOBODY else one.leader_id,
            replicas=tuple(one.replica_nodes),
            in_sync=tuple(one.isr_nodes),
            needed=needed[topic.name],
        )
        for topic in topics
        for one in topic.partitions
    ]
    return tuple(sorted(found, key=lambda one: (one.topic, one.partition)))


def _brokers(brokers: Collection[Any], partitions: Collection[PartitionHealth]) -> tuple[BrokerHealth, ...]:
    leaders = Counter(one.leader for one in partitions)
    replicas = Counter(node for one in partitions for node in one.replicas)
    found = [
        BrokerHealth(
            node=one.broker_id,
            address=f"{one.host}:{one.port}",
            is_live=not one.is_fenced,
            leaders=leaders[one.broker_id],
            replicas=replicas[one.broker_id],
        )
        for one in brokers
    ]
    return tuple(sorted(found, key=lambda one: one.node))

"""Evidence that Kafka gives. Nothing here changes anything in the cluster."""

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode

from portfolio_stream.doctor.evidence import (
    BrokerVersion,
    Clock,
    ClusterFeatures,
    Feature,
    GroupEvidence,
    KafkaDisks,
    LogDir,
    NotThere,
    Rights,
    Room,
    SourceAges,
    Unseen,
)
from portfolio_stream.doctor.findings import say
from portfolio_stream.errors import BrokerTooOld
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.group import GroupClient, Offsets
from portfolio_stream.kafka.health import QUORUM_TOPIC
from portfolio_stream.kafka.members import GroupMember, members_in, worker_of
from portfolio_stream.kafka.offset_lookup import EARLIEST, NO_OFFSET, log_offsets
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.topics import Role, Topic, TopicDescription, describe_topics
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from portfolio_stream.settings import Settings

_versions = schema("api_versions", 4)
_quorum = schema("describe_quorum", 2)
_log_dirs = schema("describe_log_dirs", 4)
_metadata = schema("metadata", 12)
_cluster = schema("describe_cluster", 1)
_group_v1 = schema("consumer_group_describe", 1)
_group_v0 = schema("consumer_group_describe", 0)
_classic = schema("describe_groups", 5)

METADATA_VERSION = "metadata.version"
CLASSIC_MEMBER = 0  # KIP-1099
#: the topics with the partition count of the source
COUNTED: tuple[Role, ...] = ("source", "output", "changelog")
NOT_ASKED = -(1 << 31)  # Kafka's mark for operations that it does not tell
#: bits of the authorized operations, by Kafka's AclOperation
OPERATIONS = {
    3: "Read", 4: "Write", 5: "Create", 6: "Delete", 7: "Alter", 8: "Describe", 9: "ClusterAction",
    10: "DescribeConfigs", 11: "AlterConfigs", 12: "IdempotentWrite",
}  # fmt: skip


class Topics(NamedTuple):
    """The contract's topics, and those of them that exist."""

    contract: tuple[Topic, ...]
    found: dict[str, TopicDescription]

    @property
    def changelog(self) -> str:
        return next(topic.name for topic in self.contract if topic.role == "changelog")


async def look_at_topics(admin: Any, settings: Settings, contract: Sequence[Topic]) -> Topics:
    """The contract takes the input topic's partition count, as a worker does."""
    found = await describe_topics(admin, [topic.name for topic in contract])
    source = found.get(settings.input_topic)
    if source is not None:
        counted = [replace(one, partitions=source.partitions) if one.role in COUNTED else one for one in contract]
        return Topics(tuple(counted), found)
    return Topics(tuple(contract), found)


async def look_at_cluster(client: Any) -> ClusterFeatures:
    features: dict[str, Feature] = {}
    brokers = []
    request = _versions.ApiVersionsRequest(client_software_name="portfolio-stream", client_software_version="1")
    for reply, node in await _answers(client, request):
        for one in reply.finalized_features:
            features[one.name] = Feature(name=one.name, level=one.max_version_level)
        highest = next((one.max_version for one in reply.supported_features if one.name == METADATA_VERSION), 0)
        brokers.append(BrokerVersion(node=node, metadata_version=highest))
    return ClusterFeatures(features=tuple(features.values()), brokers=tuple(brokers))


async def look_at_clock(client: Any) -> Clock:
    """The clock of the active controller, without a write: it answers DescribeQuorum with its time.

    Other brokers do not tell their time to a client that writes nothing.
    """
    asked = _quorum.TopicData(topic_name=QUORUM_TOPIC, partitions=(_quorum.PartitionData(partition_index=0),))
    request = _quorum.DescribeQuorumRequest(topics=(asked,))
    sent = time.time()
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)
    came = time.time()
    _check(reply.error_code)
    quorum = reply.topics[0].partitions[0]
    _check(quorum.error_code)
    told = next(
        (one.last_caught_up_timestamp for one in quorum.current_voters if one.replica_id == quorum.leader_id), -1
    )
    if told < 0:
        raise Unseen(say("the controller does not tell its time"))
    seconds = told / 1000
    return Clock(quorum.leader_id, seconds - came, seconds - sent)


async def look_at_group(client: Any, coordinators: Coordinators, settings: Settings) -> GroupEvidence:
    """Raises NotThere for a group that nobody has ever joined."""
    coordinator = await coordinators.group()
    try:
        reply = await call(client, coordinator, Lane.RECOVERY, _describe(_group_v1, settings.group))
    except BrokerTooOld:
        reply = await call(client, coordinator, Lane.RECOVERY, _describe(_group_v0, settings.group))
    group = reply.groups[0]
    if group.error_code is ErrorCode.group_id_not_found:
        return await _classic_group(client, coordinator, settings)
    _check(group.error_code)
    classic = [member.member_id for member in group.members if getattr(member, "member_type", -1) == CLASSIC_MEMBER]
    return GroupEvidence(members=members_in(group, settings.input_topic), classic=frozenset(classic))


async def _classic_group(client: Any, coordinator: Node, settings: Settings) -> GroupEvidence:
    request = _classic.DescribeGroupsRequest(groups=(settings.group,), include_authorized_operations=False)
    group = (await call(client, coordinator, Lane.RECOVERY, request)).groups[0]
    if group.error_code is ErrorCode.group_id_not_found or not group.members:
        raise NotThere(say("no worker has joined the group {group}", group=settings.group))
    _check(group.error_code)
    members = tuple(
        GroupMember(one.member_id, one.client_id, one.client_host, worker_of(one.client_id, one.member_id), ())
        for one in group.members
    )
    return GroupEvidence(members=members, classic=frozenset(one.member_id for one in members), is_classic=True)


async def look_at_offsets(client: Any, coordinators: Coordinators, settings: Settings) -> dict[int, Offsets]:
    partitions = await _partitions(client, settings.input_topic)
    group = GroupClient(client, coordinators, group=settings.group, topic=settings.input_topic)
    return await group.offsets(range(partitions))


async def look_at_source(client: Any, topics: Topics, offsets: Mapping[int, Offsets], settings: Settings) -> SourceAges:
    """What was deleted of input topic and outputs, and how retention will trim the input topic."""
    starts = {settings.input_topic: {partition: one.log_start for partition, one in offsets.items()}}
    for topic in topics.contract:
        if topic.role == "output" and topic.name in topics.found:
            partitions = range(topics.found[topic.name].partitions)
            starts[topic.name] = await log_offsets(client, topic.name, partitions, EARLIEST)
    described = topics.found[settings.input_topic].configuration
    retention_ms = _bound(described.get("retention.ms"))
    old_until: dict[int, int] = {}
    if retention_ms is not None:
        half = int(time.time() * 1000) - retention_ms // 2
        first_young = await log_offsets(client, settings.input_topic, offsets.keys(), half)
        old_until = {p: offsets[p].high_watermark if at == NO_OFFSET else at for p, at in first_young.items()}
    return SourceAges(
        topic_id=await _topic_id(client, settings.input_topic),
        starts=starts,
        retention_ms=retention_ms,
        retention_bytes=_bound(described.get("retention.bytes")),
        old_until=old_until,
    )


def _bound(value: str | None) -> int | None:
    return int(value) if value is not None and value.isdecimal() else None


async def _topic_id(client: Client, topic: str) -> str:
    request = _metadata.MetadataRequest(
        topics=(_metadata.MetadataRequestTopic(topic_id=None, name=topic),),
        allow_auto_topic_creation=False,
        include_topic_authorized_operations=False,
    )
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)
    return str(reply.topics[0].topic_id.hex)


async def look_at_disks(client: Any, topics: Iterable[str]) -> KafkaDisks:
    """Room and partition sizes of every broker that answers."""
    wanted = frozenset(topics)
    folders: list[LogDir] = []
    sizes: dict[tuple[str, int], int] = {}
    for reply, node in await _answers(client, _log_dirs.DescribeLogDirsRequest(topics=None)):
        _check(reply.error_code)
        for one in reply.results:
            room = Room(one.total_bytes, one.usable_bytes) if one.total_bytes > 0 else None
            is_offline = one.error_code is not ErrorCode.none
            folders.append(LogDir(node=node, path=one.log_dir, room=room, is_offline=is_offline))
            for topic in one.topics:
                if topic.name in wanted:
                    for part in topic.partitions:
                        place = (topic.name, part.partition_index)
                        sizes[place] = max(part.partition_size, sizes.get(place, 0))
    if not folders:
        raise Unseen(say("the user of this command may not describe the brokers' folders"))
    return KafkaDisks(folders=tuple(folders), sizes=sizes)


async def look_at_rights(client: Any, coordinators: Coordinators, settings: Settings, names: Sequence[str]) -> Rights:
    """Asks Kafka for the operations that it allows us. Kafka tells nothing of transactional ids."""
    node = Node(client.get_random_node())
    asked_topics = tuple(_metadata.MetadataRequestTopic(topic_id=None, name=name) for name in names)
    request = _metadata.MetadataRequest(
        topics=asked_topics, allow_auto_topic_creation=False, include_topic_authorized_operations=True
    )
    described = await call(client, node, Lane.RECOVERY, request)
    topics = {}
    for topic in described.topics:
        if topic.error_code is ErrorCode.topic_authorization_failed:
            topics[topic.name] = frozenset[str]()
        elif (
            topic.error_code is ErrorCode.none
            and (allowed := _operations(topic.topic_authorized_operations)) is not None
        ):
            topics[topic.name] = allowed
    asked = _cluster.DescribeClusterRequest(include_cluster_authorized_operations=True)
    cluster = await call(client, node, Lane.RECOVERY, asked)
    reply = await call(
        client, await coordinators.group(), Lane.RECOVERY, _describe(_group_v0, settings.group, is_asking=True)
    )
    group = reply.groups[0]
    if group.error_code is ErrorCode.group_authorization_failed:
        allowed_group: frozenset[str] | None = frozenset()
    else:
        allowed_group = _operations(group.authorized_operations)
    return Rights(topics=topics, group=allowed_group, cluster=_operations(cluster.cluster_authorized_operations))


def _operations(bits: int) -> frozenset[str] | None:
    if bits == NOT_ASKED:
        return None
    return frozenset(name for bit, name in OPERATIONS.items() if bits >> bit & 1)


def _describe(api: Any, group: str, *, is_asking: bool = False) -> Any:
    return api.ConsumerGroupDescribeRequest(group_ids=(group,), include_authorized_operations=is_asking)


async def _partitions(client: Any, topic: str) -> int:
    found = await leaders_of(client, (topic,))
    if topic not in found:
        raise NotThere(say("topic {topic} does not exist", topic=topic))
    return len(found[topic])


async def leaders_of(client: Client, topics: Collection[str]) -> dict[str, dict[int, int]]:
    """The leader of each partition, by topic; -1 for none. A missing topic is left out."""
    names = tuple(_metadata.MetadataRequestTopic(topic_id=None, name=name) for name in topics)
    request = _metadata.MetadataRequest(
        topics=names, allow_auto_topic_creation=False, include_topic_authorized_operations=False
    )
    reply = await call(client, Node(client.get_random_node()), Lane.RECOVERY, request)
    return {
        topic.name: {one.partition_index: one.leader_id for one in topic.partitions}
        for topic in reply.topics
        if topic.error_code is ErrorCode.none
    }


async def _answers(client: Any, request: Any) -> list[tuple[Any, Node]]:
    """The answers of the brokers that answer, and the brokers. Raises the last one's error if none answers."""
    found: list[tuple[Any, Node]] = []
    failure: BaseException | None = None
    for node in nodes_of(client):
        try:
            found.append((await call(client, node, Lane.RECOVERY, request), node))
        except LOST as error:
            failure = error
    if not found and failure is not None:
        raise failure
    return found


def nodes_of(client: Any) -> list[Node]:
    return sorted(Node(broker.nodeId) for broker in client.cluster.brokers())


def check_all(codes: Iterable[ErrorCode]) -> None:
    """Raises the first error."""
    for code in codes:
        if code is not ErrorCode.none:
            raise kafka_errors.for_code(code.value)


def _check(code: ErrorCode) -> None:
    check_all((code,))

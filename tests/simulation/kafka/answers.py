"""Answers of brokers, as kio's messages."""

from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from kio.schema.errors import ErrorCode as E

from portfolio_stream.kafka.wire import schema
from tests.simulation.kafka.groups import Committed, Group, Member
from tests.simulation.kafka.transactions import Pair, Place

NOW = timedelta(0)
BEAT_INTERVAL = timedelta(seconds=5)
NO_OFFSET = Committed(-1)
_init = schema("init_producer_id", 5, "response")
_end = schema("end_txn", 5, "response")
_offsets = schema("txn_offset_commit", 5, "response")
_produce = schema("produce", 12, "response")
_heartbeat = schema("consumer_group_heartbeat", 1, "response")
_fetch = schema("offset_fetch", 9, "response")
_list = schema("list_offsets", 8, "response")
_metadata = schema("metadata", 12, "response")
_versions = schema("api_versions", 4, "response")
_describe = schema("consumer_group_describe", 0, "response")


def init_producer_id(error: E, pair: Pair) -> Any:
    return _init.InitProducerIdResponse(
        throttle_time=NOW, error_code=error, producer_id=pair.producer_id, producer_epoch=pair.epoch
    )


def end_txn(error: E, pair: Pair) -> Any:
    return _end.EndTxnResponse(
        throttle_time=NOW, error_code=error, producer_id=pair.producer_id, producer_epoch=pair.epoch
    )


def txn_offset_commit(request: Any, error: E) -> Any:
    """One error for all of it."""
    return _offsets.TxnOffsetCommitResponse(
        throttle_time=NOW,
        topics=tuple(
            _offsets.TxnOffsetCommitResponseTopic(
                name=topic.name,
                partitions=tuple(
                    _offsets.TxnOffsetCommitResponsePartition(partition_index=p.partition_index, error_code=error)
                    for p in topic.partitions
                ),
            )
            for topic in request.topics
        ),
    )


def produce(request: Any, found: Mapping[Place, tuple[E, int]]) -> Any:
    return _produce.ProduceResponse(
        responses=tuple(
            _produce.TopicProduceResponse(
                name=topic.name,
                partition_responses=tuple(
                    _produce.PartitionProduceResponse(
                        index=part.index,
                        error_code=found[topic.name, part.index][0],
                        base_offset=found[topic.name, part.index][1],
                        log_append_time=None,
                        record_errors=(),
                    )
                    for part in topic.partition_data
                ),
            )
            for topic in request.topic_data
        )
    )


def heartbeat(
    error: E,
    member_id: str | None = None,
    epoch: int = 0,
    topic_id: UUID | None = None,
    assigned: Collection[int] | None = None,
) -> Any:
    assignment = None
    if assigned is not None:
        held = (_heartbeat.TopicPartitions(topic_id=topic_id, partitions=tuple(sorted(assigned))),) if assigned else ()
        assignment = _heartbeat.Assignment(topic_partitions=held)
    return _heartbeat.ConsumerGroupHeartbeatResponse(
        throttle_time=NOW,
        error_code=error,
        member_id=member_id,
        member_epoch=epoch,
        heartbeat_interval=BEAT_INTERVAL,
        assignment=assignment,
    )


def describe_group(name: str, error: E, topic: str = "", group: Group | None = None) -> Any:
    members = () if group is None else tuple(_described(topic, member) for member in group.members.values())
    described = _describe.DescribedGroup(
        error_code=error,
        group_id=name,
        group_state="",
        group_epoch=0 if group is None else group.epoch,
        assignment_epoch=0,
        assignor_name="uniform",
        members=members,
    )
    return _describe.ConsumerGroupDescribeResponse(throttle_time=NOW, groups=(described,))


def _described(topic: str, member: Member) -> Any:
    def assignment(partitions: Collection[int]) -> Any:
        held = _describe.TopicPartitions(topic_id=None, topic_name=topic, partitions=tuple(sorted(partitions)))
        return _describe.Assignment(topic_partitions=(held,) if partitions else ())

    return _describe.Member(
        member_id=member.id,
        member_epoch=member.epoch,
        client_id=member.id,
        client_host="/127.0.0.1",
        assignment=assignment(member.assigned),
        target_assignment=assignment(member.target),
    )


def offset_fetch_failed(asked: Any, error: E) -> Any:
    group = _fetch.OffsetFetchResponseGroup(group_id=asked.group_id, topics=(), error_code=error)
    return _fetch.OffsetFetchResponse(throttle_time=NOW, groups=(group,))


def offset_fetch(asked: Any, group: Group, *, is_stable: bool) -> Any:
    topics = []
    for topic in asked.topics:
        partitions = []
        for partition in topic.partition_indexes:
            is_pending = is_stable and group.is_unstable(partition)
            known = NO_OFFSET if is_pending else group.offsets.get(partition, NO_OFFSET)
            partitions.append(
                _fetch.OffsetFetchResponsePartitions(
                    partition_index=partition,
                    committed_offset=known.offset,
                    metadata=known.metadata,
                    error_code=E.unstable_offset_commit if is_pending else E.none,
                )
            )
        topics.append(_fetch.OffsetFetchResponseTopics(name=topic.name, partitions=tuple(partitions)))
    found = _fetch.OffsetFetchResponseGroup(group_id=asked.group_id, topics=tuple(topics), error_code=E.none)
    return _fetch.OffsetFetchResponse(throttle_time=NOW, groups=(found,))


def list_offsets(topic: str, found: Mapping[int, tuple[E, int]]) -> Any:
    partitions = tuple(
        _list.ListOffsetsPartitionResponse(partition_index=partition, error_code=error, offset=offset)
        for partition, (error, offset) in found.items()
    )
    answer = _list.ListOffsetsTopicResponse(name=topic, partitions=partitions)
    return _list.ListOffsetsResponse(throttle_time=NOW, topics=(answer,))


@lru_cache(maxsize=1024)
def _partition(number: int, leader: int | None, nodes: tuple[int, ...]) -> Any:
    return _metadata.MetadataResponsePartition(
        error_code=E.none,
        partition_index=number,
        leader_id=-1 if leader is None else leader,
        replica_nodes=nodes,
        isr_nodes=nodes,
        offline_replicas=(),
    )


def metadata(
    nodes: Sequence[int],
    names: Sequence[str],
    ids: Mapping[str, UUID],
    counts: Mapping[str, int],
    leaders: Mapping[Place, int | None],
) -> Any:
    topics = tuple(
        _metadata.MetadataResponseTopic(
            error_code=E.none if name in ids else E.unknown_topic_or_partition,
            name=name,
            topic_id=ids.get(name),
            partitions=tuple(_partition(number, leaders[name, number], tuple(nodes)) for number in range(counts[name]))
            if name in ids
            else (),
        )
        for name in names
    )
    brokers = tuple(_metadata.MetadataResponseBroker(node_id=node, host="simulated", port=9092) for node in nodes)
    return _metadata.MetadataResponse(throttle_time=NOW, brokers=brokers, cluster_id="simulated", topics=topics)


def api_versions(levels: Mapping[str, int]) -> Any:
    features = tuple(
        _versions.FinalizedFeatureKey(name=name, max_version_level=level, min_version_level=1)
        for name, level in levels.items()
    )
    return _versions.ApiVersionsResponse(
        error_code=E.none, api_keys=(), throttle_time=NOW, finalized_features=features, finalized_features_epoch=1
    )

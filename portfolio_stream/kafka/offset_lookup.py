"""Asks Kafka for offsets: where logs begin and end, and how far a group has committed."""

import re
from collections.abc import Collection
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition
from kio.schema.errors import ErrorCode as E

from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.wire import Lane, Node, call, schema

_offset_fetch = schema("offset_fetch", 9)
_list_offsets = schema("list_offsets", 8)

EARLIEST, LATEST = -2, -1
READ_UNCOMMITTED, READ_COMMITTED = 0, 1
NO_OFFSET = -1


_GENERATION = re.compile(r"generation=([0-9]{1,9})")


class GroupPosition(NamedTuple):
    """What the group has committed for a partition."""

    #: the next source offset; NO_OFFSET if there is none
    offset: int
    #: the generation of the job that committed the offset; None if the offset names none: a worker of an earlier
    #: version, or somebody else, committed it
    generation: int | None = None


NO_POSITION = GroupPosition(NO_OFFSET)


def metadata_of(generation: int) -> str:
    """The metadata of an offset that a worker of this generation commits."""
    return f"generation={generation}"


def generation_in(metadata: str | None) -> int | None:
    """The generation that an offset's metadata names; None if it names none."""
    found = _GENERATION.fullmatch(metadata or "")
    return None if found is None else int(found[1])


class MemberEpoch(NamedTuple):
    """A member of the group, and its epoch. The coordinator refuses a request with a wrong epoch (KIP-848)."""

    id: str
    epoch: int


async def log_offsets(
    client: Client,
    topic: str,
    partitions: Collection[int],
    which: int,
    isolation_level: int = READ_UNCOMMITTED,
) -> dict[int, int]:
    """Returns log starts (EARLIEST), high watermarks (LATEST), or last stable offsets (LATEST with READ_COMMITTED).

    A partition without a leader is left out. Raises one of LOST or a KafkaError.
    """
    by_leader: dict[int, list[int]] = {}
    for partition in partitions:
        leader = client.cluster.leader_for_partition(TopicPartition(topic, partition))
        by_leader.setdefault(-1 if leader is None else leader, []).append(partition)
    if by_leader.pop(-1, None):
        await client.force_metadata_update()
    found: dict[int, int] = {}
    for leader, share in by_leader.items():
        asked = tuple(_list_offsets.ListOffsetsPartition(partition_index=p, timestamp=which) for p in share)
        request = _list_offsets.ListOffsetsRequest(
            replica_id=-1,
            isolation_level=isolation_level,
            topics=(_list_offsets.ListOffsetsTopic(name=topic, partitions=asked),),
        )
        reply: Any = await call(client, Node(leader), Lane.RECOVERY, request)
        for answer in reply.topics[0].partitions:
            if answer.error_code is not E.none:
                raise kafka_errors.LeaderNotAvailableError(f"{topic}-{answer.partition_index}")
            found[answer.partition_index] = answer.offset
    return found


async def group_offsets(
    client: Client,
    coordinator: Node,
    group: str,
    topic: str,
    partitions: Collection[int],
    *,
    is_stable: bool,
    member: MemberEpoch | None = None,
) -> dict[int, GroupPosition]:
    """Returns the group's next offsets, NO_OFFSET for a partition without one, and the generations that they name.

    With `is_stable`, a partition with an offset in a pending transaction is left out. With `member`, the result is
    empty if the coordinator knows another epoch of the member. Raises one of LOST, or the coordinator's KafkaError.
    """
    asked = _offset_fetch.OffsetFetchRequestTopics(name=topic, partition_indexes=tuple(sorted(partitions)))
    request = _offset_fetch.OffsetFetchRequest(
        groups=(
            _offset_fetch.OffsetFetchRequestGroup(
                group_id=group,
                member_id=None if member is None else member.id,
                member_epoch=-1 if member is None else member.epoch,
                topics=(asked,),
            ),
        ),
        require_stable=is_stable,
    )
    reply = (await call(client, coordinator, Lane.RECOVERY, request)).groups[0]
    if reply.error_code in (E.stale_member_epoch, E.unknown_member_id):
        return {}
    found = {partition.partition_index: partition for topic in reply.topics for partition in topic.partitions}
    for error in {reply.error_code, *(partition.error_code for partition in found.values())}:
        if error not in (E.none, E.unstable_offset_commit):
            raise kafka_errors.for_code(error.value)(group)
    return {
        partition: GroupPosition(answer.committed_offset, generation_in(answer.metadata))
        for partition, answer in found.items()
        if answer.error_code is E.none
    }

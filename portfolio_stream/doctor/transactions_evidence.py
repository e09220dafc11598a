"""Finds the transactions that are open in the partitions of our topics, and whether anybody will end them.

A transaction hangs if a partition has it open and the coordinator has not. To be sure, we look at the partitions
first, then at the coordinators, then at the partitions again. Markers are written to all partitions before the
coordinator calls a transaction complete. So what is still open with the same start in the second look, and was not
under way at the coordinator in between, hangs.

Kafka tells only of transactional ids that this user may describe. So a transaction that no coordinator knows must also
still be open after SETTLE_SECONDS: a worker's transactions end sooner.
"""

import asyncio
import time
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from kio.schema.errors import ErrorCode

from portfolio_stream.doctor.evidence import OpenTransaction, Unseen
from portfolio_stream.doctor.findings import say
from portfolio_stream.doctor.kafka_evidence import check_all, leaders_of, nodes_of
from portfolio_stream.kafka.transaction_states import TransactionStatesRequest
from portfolio_stream.kafka.wire import Lane, Node, call, schema

_producers = schema("describe_producers", 0)
_list = schema("list_transactions", 1)

#: the coordinator still works on these: Ongoing, or it writes the markers
UNDER_WAY = frozenset({"Ongoing", "PrepareCommit", "PrepareAbort", "PrepareEpochFence"})

SETTLE_SECONDS = 3.5  # a worker's transaction times out after 3 s
EXPIRED = (ErrorCode.transactional_id_not_found,)
STATES = "__transaction_state"


class _Opened(NamedTuple):
    topic: str
    partition: int
    start_offset: int
    producer_id: int
    producer_epoch: int
    last_timestamp: int


class _Known(NamedTuple):
    """A producer's transaction, as its coordinator has it."""

    transactional_id: str
    state: str
    epoch: int
    partitions: frozenset[tuple[str, int]]
    #: milliseconds since 1970
    started: int


async def open_transactions(client: Any, topics: Collection[str]) -> tuple[OpenTransaction, ...]:
    opened = await _opened(client, topics)
    if not opened:
        return ()
    known = await _known(client, {one.producer_id for one in opened})
    if any(one.producer_id not in known for one in opened):
        await asyncio.sleep(SETTLE_SECONDS)
    still = await _opened(client, topics)
    starts = {(one.topic, one.partition, one.producer_id, one.start_offset) for one in still}
    return tuple(
        _open(one, known.get(one.producer_id))
        for one in sorted(opened)
        if (one.topic, one.partition, one.producer_id, one.start_offset) in starts
    )


def _open(one: _Opened, known: _Known | None) -> OpenTransaction:
    is_held = known is not None and known.state in UNDER_WAY and (one.topic, one.partition) in known.partitions
    return OpenTransaction(
        topic=one.topic,
        partition=one.partition,
        start_offset=one.start_offset,
        producer_id=one.producer_id,
        producer_epoch=one.producer_epoch,
        last_timestamp=one.last_timestamp,
        transactional_id=None if known is None else known.transactional_id,
        state=None if known is None else known.state,
        coordinator_epoch=None if known is None else known.epoch,
        open_seconds=time.time() - known.started / 1000 if known and is_held else None,
    )


async def _opened(client: Any, topics: Collection[str]) -> list[_Opened]:
    by_leader: dict[int, dict[str, list[int]]] = {}
    for topic, partitions in (await leaders_of(client, topics)).items():
        for partition, leader in partitions.items():
            if leader >= 0:
                by_leader.setdefault(leader, {}).setdefault(topic, []).append(partition)
    found = []
    for leader, share in by_leader.items():
        asked = tuple(_producers.TopicRequest(name=name, partition_indexes=tuple(ps)) for name, ps in share.items())
        reply = await call(client, Node(leader), Lane.RECOVERY, _producers.DescribeProducersRequest(topics=asked))
        check_all(one.error_code for topic in reply.topics for one in topic.partitions)
        found += [
            _Opened(
                topic.name, one.partition_index, producer.current_txn_start_offset, producer.producer_id,
                producer.producer_epoch, producer.last_timestamp,
            )
            for topic in reply.topics
            for one in topic.partitions
            for producer in one.active_producers
            if producer.current_txn_start_offset >= 0
        ]  # fmt: skip
    return found


async def _known(client: Any, producer_ids: Collection[int]) -> Mapping[int, _Known]:
    found: dict[int, _Known] = {}
    leaders = (await leaders_of(client, [STATES])).get(STATES, {})
    if any(leader < 0 for leader in leaders.values()):
        raise Unseen(say("a partition of {topic} has no leader: not all coordinators answer", topic=STATES))
    wanted = _list.ListTransactionsRequest(producer_id_filters=tuple(producer_ids))
    for node in nodes_of(client):
        listed = await call(client, node, Lane.RECOVERY, wanted)
        check_all([listed.error_code])
        names = tuple(one.transactional_id for one in listed.transaction_states)
        if not names:
            continue
        asked = TransactionStatesRequest(transactional_ids=names)
        described = await call(client, node, Lane.RECOVERY, asked)
        check_all(one.error_code for one in described.transaction_states if one.error_code not in EXPIRED)
        for one in described.transaction_states:
            if one.error_code is ErrorCode.none:
                places = frozenset((topic.topic, partition) for topic in one.topics for partition in topic.partitions)
                found[one.producer_id] = _Known(
                    one.transactional_id, one.transaction_state, one.producer_epoch, places, one.transaction_start_ms
                )
    return found

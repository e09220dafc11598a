"""Clients that send one request at a time, over the engine's ports, and return the broker's answer.

Some answers only mean "not yet": markers are pending, or a coordinator loads. Then the client sends the same bytes
again. How often such an answer comes depends on the machine.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple
from uuid import UUID

from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition
from kio.schema.errors import ErrorCode as E

from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.offset_lookup import (
    EARLIEST,
    LATEST,
    READ_COMMITTED,
    READ_UNCOMMITTED,
    log_offsets,
)
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.reader import FetchLimits
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from tests.batches import transactional_batch
from tests.conformance.kafka import Kafka
from tests.integration.workers import until

_init = schema("init_producer_id", 5)
_offsets = schema("txn_offset_commit", 5)
_produce = schema("produce", 12)
_end = schema("end_txn", 5)
_fetch = schema("offset_fetch", 9)
_heartbeat = schema("consumer_group_heartbeat", 1)

NOT_YET = {
    E.concurrent_transactions, E.coordinator_load_in_progress, E.not_coordinator, E.coordinator_not_available,
    E.not_enough_replicas, E.network_exception, E.not_leader_or_follower, E.unknown_topic_or_partition,
}  # fmt: skip
PAUSE_SECONDS = 0.02
PATIENCE_SECONDS = 30.0
LIMITS = FetchLimits(min_bytes=1, max_wait_ms=100, partition_bytes=1 << 20)
STAMP = 1_000


class Pair(NamedTuple):
    producer_id: int
    epoch: int


NO_PAIR = Pair(-1, -1)


class Answer(NamedTuple):
    error: E
    pair: Pair


async def patiently(
    ask: Callable[[], Awaitable[Any]],
    code: Callable[[Any], E],
    client: Client,
    coordinators: Coordinators | None = None,
    seconds: float = PATIENCE_SECONDS,
) -> Any:
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while True:
        try:
            reply = await ask()
            if code(reply) not in NOT_YET or loop.time() >= until:
                return reply
        except (*LOST, kafka_errors.KafkaError):
            if loop.time() >= until:
                raise
        await client.force_metadata_update()
        if coordinators is not None:
            coordinators.forget()
        await asyncio.sleep(PAUSE_SECONDS)


@asynccontextmanager
async def connected(kafka: Kafka, *topics: str) -> AsyncIterator[Client]:
    client = kafka.connections.client()
    await client.bootstrap()
    await client.set_topics(topics)
    try:
        yield client
    finally:
        await client.close()


class Producer:
    """A producer with one transactional id. It keeps the pair of the last answer, and counts epochs from its first."""

    def __init__(self, kafka: Kafka, client: Client, topic: str, *, name: str = "", timeout: float = 60.0) -> None:
        self.kafka, self.client, self.topic = kafka, client, topic
        self.name = name or kafka.unique("transactional")
        self.group = f"group-of-{self.name}"
        self.timeout = timeout
        #: for how long the client repeats a request that is answered "not yet"
        self.patience = PATIENCE_SECONDS
        self.pair = NO_PAIR
        self.first = NO_PAIR
        self._coordinators = Coordinators(client, self.group, self.name)
        #: the bytes of the last Produce
        self.bytes = b""

    # -- observations

    def since_first(self, pair: Pair) -> str:
        if pair == NO_PAIR:
            return "-"
        return (
            f"+{pair.epoch - self.first.epoch}" if pair.producer_id == self.first.producer_id else f"new {pair.epoch}"
        )

    def told(self, answer: Answer) -> str:
        return f"{answer.error.name} {self.since_first(answer.pair)}"

    # -- requests

    async def start(self) -> str:
        answer = await self.init()
        self.pair = answer.pair
        if self.first.epoch < 0:
            self.first = self.pair
        return self.told(answer)

    async def init(self, own: Pair = NO_PAIR) -> Answer:
        request = _init.InitProducerIdRequest(
            transactional_id=self.name,
            transaction_timeout=timedelta(seconds=self.timeout),
            producer_id=own.producer_id,
            producer_epoch=own.epoch,
        )
        return await self._ask(request)

    async def end(self, *, committed: bool, pair: Pair | None = None) -> Answer:
        """Send EndTxn and do not take the pair of the answer."""
        asked = self.pair if pair is None else pair
        request = _end.EndTxnRequest(
            transactional_id=self.name, producer_id=asked.producer_id, producer_epoch=asked.epoch, committed=committed
        )
        return await self._ask(request)

    async def commit(self) -> str:
        return await self._take(await self.end(committed=True))

    async def abort(self) -> str:
        return await self._take(await self.end(committed=False))

    async def _take(self, answer: Answer) -> str:
        if answer.error is E.none:
            self.pair = answer.pair
        return self.told(answer)

    async def _ask(self, request: Any) -> Answer:
        async def ask() -> Any:
            return await call(self.client, await self._coordinators.transaction(), Lane.TRANSACTION, request)

        reply = await patiently(ask, lambda reply: reply.error_code, self.client, self._coordinators)
        return Answer(reply.error_code, Pair(reply.producer_id, reply.producer_epoch))

    async def produce(
        self, *values: str, partition: int = 0, sequence: int = 0, pair: Pair | None = None, key: str = "key"
    ) -> str:
        """Returns the error, or the base offset if there is no error."""
        records = [(STAMP, key.encode(), value.encode()) for value in values]
        self.bytes = transactional_batch(records, *(self.pair if pair is None else pair), sequence)
        return await self.resend(partition)

    async def resend(self, partition: int = 0) -> str:
        part = _produce.PartitionProduceData(index=partition, records=self.bytes)
        request = _produce.ProduceRequest(
            transactional_id=self.name,
            acks=-1,
            timeout=timedelta(seconds=10),
            topic_data=(_produce.TopicProduceData(name=self.topic, partition_data=(part,)),),
        )

        async def ask() -> Any:
            leader = self.client.cluster.leader_for_partition(TopicPartition(self.topic, partition))
            if leader is None or leader < 0:
                raise kafka_errors.LeaderNotAvailableError
            reply = await call(self.client, Node(leader), Lane.PRODUCE, request)
            return reply.responses[0].partition_responses[0]

        reply = await patiently(ask, lambda reply: reply.error_code, self.client, seconds=self.patience)
        return f"none at {reply.base_offset}" if reply.error_code is E.none else reply.error_code.name

    async def offsets(
        self,
        offsets: Mapping[int, int],
        *,
        group: str = "",
        member: str = "",
        epoch: int = -1,
        pair: Pair | None = None,
        metadata: str = "",
    ) -> str:
        """Send TxnOffsetCommit for partitions of the topic."""
        asked = self.pair if pair is None else pair
        partitions = tuple(
            _offsets.TxnOffsetCommitRequestPartition(partition_index=p, committed_offset=o, committed_metadata=metadata)
            for p, o in offsets.items()
        )
        request = _offsets.TxnOffsetCommitRequest(
            transactional_id=self.name,
            group_id=group or self.group,
            producer_id=asked.producer_id,
            producer_epoch=asked.epoch,
            generation_id=epoch,
            member_id=member,
            group_instance_id=None,
            topics=(_offsets.TxnOffsetCommitRequestTopic(name=self.topic, partitions=partitions),),
        )
        coordinators = Coordinators(self.client, group or self.group, self.name)

        async def ask() -> Any:
            return await call(self.client, await coordinators.group(), Lane.OFFSETS, request)

        def worst(reply: Any) -> E:
            codes = {p.error_code for topic in reply.topics for p in topic.partitions} - {E.none}
            return next(iter(codes - NOT_YET or codes), E.none)

        return worst(await patiently(ask, worst, self.client, coordinators, self.patience)).name


async def fetched_offsets(
    client: Client,
    group: str,
    topic: str,
    partitions: Collection[int],
    *,
    stable: bool,
    member: str | None = None,
    epoch: int = -1,
) -> Any:
    """Send OffsetFetch. Returns each partition's offset or error; or the error of the whole answer."""
    reply = await _fetched(client, group, topic, partitions, stable=stable, member=member, epoch=epoch)
    if reply.error_code is not E.none:
        return reply.error_code.name
    return {
        p.partition_index: p.committed_offset if p.error_code is E.none else p.error_code.name
        for topic_answer in reply.topics
        for p in topic_answer.partitions
    }


async def fetched_metadata(client: Client, group: str, topic: str, partitions: Collection[int]) -> dict[int, Any]:
    """Each partition's stable offset and its metadata, once no transaction holds one of them."""
    while True:
        reply = await _fetched(client, group, topic, partitions, stable=True)
        found = [p for topic_answer in reply.topics for p in topic_answer.partitions]
        if all(p.error_code is E.none for p in found):
            return {p.partition_index: (p.committed_offset, p.metadata) for p in found}
        await asyncio.sleep(PAUSE_SECONDS)


async def _fetched(
    client: Client,
    group: str,
    topic: str,
    partitions: Collection[int],
    *,
    stable: bool,
    member: str | None = None,
    epoch: int = -1,
) -> Any:
    coordinators = Coordinators(client, group, group)
    asked = _fetch.OffsetFetchRequestTopics(name=topic, partition_indexes=tuple(sorted(partitions)))
    request = _fetch.OffsetFetchRequest(
        groups=(_fetch.OffsetFetchRequestGroup(group_id=group, member_id=member, member_epoch=epoch, topics=(asked,)),),
        require_stable=stable,
    )

    async def ask() -> Any:
        reply = await call(client, await coordinators.group(), Lane.RECOVERY, request)
        return reply.groups[0]

    return await patiently(ask, lambda reply: reply.error_code, client, coordinators)


async def committed_offset(client: Client, group: str, topic: str) -> Any:
    """The offset of partition 0, as soon as no transaction holds it."""
    while True:
        found = (await fetched_offsets(client, group, topic, (0,), stable=True))[0]
        if found != E.unstable_offset_commit.name:
            return found
        await asyncio.sleep(PAUSE_SECONDS)


class Ends(NamedTuple):
    start: int
    last_stable: int
    high: int


async def ends(client: Client, topic: str, partition: int = 0) -> Ends:
    """Log start, last stable offset and high watermark, once the leader tells."""

    async def one(which: int, isolation: int) -> int:
        while True:
            try:
                found = await log_offsets(client, topic, (partition,), which, isolation)
                if partition in found:
                    return found[partition]
            except (*LOST, kafka_errors.KafkaError):
                await client.force_metadata_update()
            await asyncio.sleep(PAUSE_SECONDS)

    return Ends(
        await one(EARLIEST, READ_UNCOMMITTED), await one(LATEST, READ_COMMITTED), await one(LATEST, READ_UNCOMMITTED)
    )


async def written(client: Client, topic: str, high: int, partition: int = 0) -> None:
    """Wait until a partition has so many records and markers."""

    async def is_written() -> bool:
        return (await ends(client, topic, partition)).high >= high

    await until(is_written, PATIENCE_SECONDS, f"{topic} has {high} records")


async def stable_ends(client: Client, topic: str, partition: int = 0) -> Ends:
    """The ends of the logs, as soon as every marker is written."""
    while True:
        found = await ends(client, topic, partition)
        if found.last_stable == found.high:
            return found
        await asyncio.sleep(PAUSE_SECONDS)


async def visible(kafka: Kafka, client: Client, topic: str, partition: int = 0) -> list[str]:
    """The values that the engine's reader shows at read_committed, up to the last stable offset."""
    until = (await ends(client, topic, partition)).last_stable
    async with reading(kafka, topic, partition + 1) as reader:
        reader.resume(partition, 0)
        return [value for _, value in await drained(reader, until, partition)]


@asynccontextmanager
async def reading(kafka: Kafka, topic: str, partitions: int = 1) -> AsyncIterator[Reader]:
    reader = kafka.connections.reader(topic, partitions, LIMITS)
    await reader.start()
    try:
        yield reader
    finally:
        await reader.stop()


async def drained(reader: Reader, until: int, partition: int = 0) -> list[tuple[int, str]]:
    """Offsets and values that come until the reader has reached the position."""
    found: list[tuple[int, str]] = []
    while await reader.position(partition) < until:
        for batch in (await reader.fetch(100)).get(partition, ()):
            found += [(record.offset, record.value.decode()) for record in batch]
    return found


@dataclass(frozen=True)
class Beat:
    """A heartbeat's answer."""

    error: str
    epoch: int
    #: None: the assignment is as before
    assignment: tuple[int, ...] | None


class Member:
    """A group member that does nothing by itself. `owned` holds the partitions that it names as its own."""

    def __init__(self, client: Client, group: str, topic: str, name: str, topic_id: UUID) -> None:
        self.client, self.group, self.topic, self.name = client, group, topic, name
        self.topic_id = topic_id
        self.epoch = 0
        self.owned: tuple[int, ...] = ()
        self._coordinators = Coordinators(client, group, group)

    async def beat(
        self,
        *,
        epoch: int | None = None,
        owned: Sequence[int] | None = None,
        announces: bool = False,
        rebalance_timeout: float = 30.0,
    ) -> Beat:
        """Send one heartbeat and ignore the answer. A request without `owned` names no partitions."""
        held = None
        if owned is not None:
            held = (_heartbeat.TopicPartitions(topic_id=self.topic_id, partitions=tuple(owned)),) if owned else ()
        request = _heartbeat.ConsumerGroupHeartbeatRequest(
            group_id=self.group,
            member_id=self.name,
            member_epoch=self.epoch if epoch is None else epoch,
            rebalance_timeout=timedelta(seconds=rebalance_timeout) if announces else timedelta(milliseconds=-1),
            subscribed_topic_names=(self.topic,) if announces else None,
            server_assignor="uniform" if announces else None,
            topic_partitions=held,
        )

        async def ask() -> Any:
            return await call(self.client, await self._coordinators.group(), Lane.MEMBER, request)

        reply = await patiently(ask, lambda reply: reply.error_code, self.client, self._coordinators)
        assignment = None
        if reply.assignment is not None:
            assignment = tuple(sorted(p for held in reply.assignment.topic_partitions for p in held.partitions))
        return Beat(reply.error_code.name, reply.member_epoch, assignment)

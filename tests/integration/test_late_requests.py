"""KAFKA-17754: a request that arrives during its sender's next transaction must not touch that transaction.

A proxy holds a request until its sender has given up and has opened the next transaction. The engine's transactions
(KIP-890) are immune, because each has an epoch of its own. The same delay harms older transactions, which proves that
these tests can fail.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient
from kio.schema.errors import ErrorCode as E

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.exactly_once import writer as module
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.wire import Coordinators, Lane, call, schema
from tests.batches import transactional_batch
from tests.integration.topics import KEPT, create_readable
from tests.integration.workers import until
from tests.proxy.frames import Api
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Caught, Cut, Match

CLIENT_TIMEOUT_MS = 1_000  # a client gives up a request after this time
DEADLINE_SECONDS = 1.5  # the writer gives up a step of a transaction after this time
COMMIT = Match(Api.END_TXN, when=lambda request: request.body.committed)
PRODUCE = Match(Api.PRODUCE)
FIRST, SECOND = b"first", b"second"


@pytest.fixture
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with Proxy.before(kafka) as made:
        yield made


@pytest.fixture
async def topic(kafka: Cluster) -> str:
    name = f"late-{uuid4().hex[:8]}"
    await create_readable(kafka.bootstrap_servers, NewTopic(name, 1, 1, topic_configs=KEPT))
    return name


@pytest.fixture
async def client(proxy: Proxy, topic: str) -> AsyncIterator[AIOKafkaClient]:
    made = AIOKafkaClient(bootstrap_servers=proxy.bootstrap_servers, request_timeout_ms=CLIENT_TIMEOUT_MS)
    await made.bootstrap()
    await made.set_topics([topic])
    yield made
    await made.close()


@pytest.fixture
async def writer(client: AIOKafkaClient, topic: str) -> Writer:
    """The engine's writer."""
    made = Writer(client, Coordinators(client, topic, topic), group=topic, transactional_id=topic)
    await made.start()
    return made


@pytest.fixture
def impatient(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> Writer:
    """A writer that gives up a step after DEADLINE_SECONDS instead of ten seconds."""
    monkeypatch.setitem(Writer._ask.__kwdefaults__, "deadline", DEADLINE_SECONDS)
    monkeypatch.setattr(module, "STEP_DEADLINE_SECONDS", DEADLINE_SECONDS)
    return writer


async def write(writer: Writer, topic: str, value: bytes) -> None:
    share = Share(0, 1)
    share.position = 1
    share.appender(topic)(1, b"key", value, ())
    await writer.send_offsets(topic, [share], member_id="", member_epoch=-1, generation=1)
    await writer.send_records([share])


async def visible(kafka: Cluster, topic: str) -> list[bytes]:
    """Returns the committed values. No transaction may be open."""
    place = TopicPartition(topic, 0)
    found: list[bytes] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=kafka.bootstrap_servers, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([place])
        async with AIOKafkaConsumer(bootstrap_servers=kafka.bootstrap_servers) as uncommitted:
            end = (await uncommitted.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [record.value for record in records]
    return found


@asynccontextmanager
async def held(proxy: Proxy, match: Match, sending: Any) -> AsyncIterator[tuple[Caught, "asyncio.Task[Any]"]]:
    """Hold the first request that matches. Gives the request and the task that sent it."""
    with proxy.trap(match) as trap:
        task = asyncio.create_task(sending)
        yield await trap.caught(), task


async def test_a_commit_that_was_sent_again_comes_late(
    kafka: Cluster, proxy: Proxy, writer: Writer, topic: str
) -> None:
    """The late commit arrives while the next transaction is open. That one is aborted later, and stays invisible."""
    await write(writer, topic, FIRST)
    async with held(proxy, COMMIT, writer.commit()) as (late, commit):
        await late.client_gone()
        await commit
        await write(writer, topic, SECOND)
        late.forward()
        assert E.producer_fenced is (await late.answer()).error_code
        await writer.settle()
    assert [FIRST] == await visible(kafka, topic)


async def test_a_commit_that_was_given_up_comes_late(
    kafka: Cluster, proxy: Proxy, impatient: Writer, topic: str
) -> None:
    """An abort has settled the transaction of the late commit, and stays valid. The next transaction commits."""
    await write(impatient, topic, FIRST)
    async with held(proxy, COMMIT, impatient.commit()) as (late, commit):
        with proxy.rule(Cut(COMMIT)), pytest.raises(Doubt):
            await commit
        await impatient.settle()
        await write(impatient, topic, SECOND)
        late.forward()
        assert E.producer_fenced is (await late.answer()).error_code
        await impatient.commit()
    assert [SECOND] == await visible(kafka, topic)


async def test_a_produce_that_was_given_up_comes_late(
    kafka: Cluster, proxy: Proxy, impatient: Writer, topic: str
) -> None:
    """The late record's transaction was aborted, so the record belongs to none. The next one commits without it."""
    async with held(proxy, PRODUCE, write(impatient, topic, FIRST)) as (late, first):
        with proxy.rule(Cut(PRODUCE)), pytest.raises(Doubt):
            await first
        await impatient.settle()
        await write(impatient, topic, SECOND)
        late.forward()
        assert E.invalid_producer_epoch is produce_error(await late.answer())
        await impatient.commit()
    assert [SECOND] == await visible(kafka, topic)


def produce_error(reply: Any) -> E:
    found: E = reply.responses[0].partition_responses[0].error_code
    return found


# -- without the guard


async def test_a_late_commit_does_harm_to_a_stock_producer(kafka: Cluster, proxy: Proxy, topic: str) -> None:
    """With the delay of the first test: the late commit commits the second transaction, which is still open."""
    producer = AIOKafkaProducer(
        bootstrap_servers=proxy.bootstrap_servers, transactional_id=topic, request_timeout_ms=CLIENT_TIMEOUT_MS
    )
    async with producer:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, FIRST, partition=0)
        async with held(proxy, COMMIT, producer.commit_transaction()) as (late, commit):
            await commit
            await producer.begin_transaction()
            await producer.send_and_wait(topic, SECOND, partition=0)
            late.forward()
            assert E.none is (await late.answer()).error_code
    assert [FIRST, SECOND] == await visible(kafka, topic)


class OldTransactions:
    """Transactions as clients before KIP-890 send them: one epoch for all transactions."""

    _init, _add = schema("init_producer_id", 4), schema("add_partitions_to_txn", 3)
    _produce, _end = schema("produce", 11), schema("end_txn", 4)

    def __init__(self, client: AIOKafkaClient, topic: str) -> None:
        self._client, self._topic = client, topic
        self._coordinators = Coordinators(client, topic, topic)
        self._producer_id, self._producer_epoch = -1, -1

    async def start(self) -> None:
        request = self._init.InitProducerIdRequest(
            transactional_id=self._topic, transaction_timeout=timedelta(seconds=60)
        )
        found: list[Any] = []

        async def is_known() -> bool:
            found[:] = [await self._ask(request)]
            return found[0].error_code is E.none

        await until(is_known, 20, "the coordinator gives a producer id")
        self._producer_id, self._producer_epoch = found[0].producer_id, found[0].producer_epoch

    async def begin(self) -> None:
        """Begin a transaction. Repeats the request while the last transaction's markers are pending."""
        topic = self._add.AddPartitionsToTxnTopic(name=self._topic, partitions=(0,))
        request = self._add.AddPartitionsToTxnRequest(
            v3_and_below_transactional_id=self._topic,
            v3_and_below_producer_id=self._producer_id,
            v3_and_below_producer_epoch=self._producer_epoch,
            v3_and_below_topics=(topic,),
        )

        async def is_added() -> bool:
            added = (await self._ask(request)).results_by_topic_v3_and_below[0].results_by_partition[0]
            return added.partition_error_code is E.none

        await until(is_added, 5, "the partition is part of the transaction")

    async def send(self, value: bytes, sequence: int) -> Any:
        records = transactional_batch([(1, b"key", value)], self._producer_id, self._producer_epoch, sequence)
        data = self._produce.PartitionProduceData(index=0, records=records)
        request = self._produce.ProduceRequest(
            transactional_id=self._topic,
            acks=-1,
            timeout=timedelta(seconds=5),
            topic_data=(self._produce.TopicProduceData(name=self._topic, partition_data=(data,)),),
        )
        return await call(self._client, await self._coordinators.transaction(), Lane.PRODUCE, request)

    async def end(self, *, committed: bool) -> E:
        request = self._end.EndTxnRequest(
            transactional_id=self._topic,
            producer_id=self._producer_id,
            producer_epoch=self._producer_epoch,
            committed=committed,
        )
        found: E = (await self._ask(request)).error_code
        return found

    async def _ask(self, request: Any) -> Any:
        return await call(self._client, await self._coordinators.transaction(), Lane.TRANSACTION, request)


async def test_a_late_produce_does_harm_to_old_transactions(
    kafka: Cluster, proxy: Proxy, client: AIOKafkaClient, topic: str
) -> None:
    """With the delay of the third test: a record of the aborted transaction is committed with the next one."""
    old = OldTransactions(client, topic)
    await old.start()
    await old.begin()
    async with held(proxy, PRODUCE, old.send(FIRST, 0)) as (late, first):
        await late.client_gone()
        await asyncio.wait((first,))
        assert first.exception() is not None
        assert E.none is await old.end(committed=False)
        await old.begin()
        late.forward()
        assert E.none is produce_error(await late.answer())
        assert E.none is produce_error(await old.send(SECOND, 1))
        assert E.none is await old.end(committed=True)
    assert [FIRST, SECOND] == await visible(kafka, topic)

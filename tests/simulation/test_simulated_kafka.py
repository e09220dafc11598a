"""The simulated Kafka while coordinators and brokers come and go, where no conformance scenario can look."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from random import Random

import pytest
from aiokafka import errors as kafka_errors
from aiokafka.client import CoordinationType
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from kio.schema.errors import ErrorCode as E

from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.reader import FetchLimits
from portfolio_stream.kafka.wire import Lane, Node, call, schema
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.kafka.transactions import Pair, State
from tests.simulation.loop import SimulatedLoop, simulate

_init = schema("init_producer_id", 5)
_produce = schema("produce", 12)
_end = schema("end_txn", 5)
METADATA = schema("metadata", 12).MetadataRequest(
    topics=(), allow_auto_topic_creation=False, include_topic_authorized_operations=False
)

NAME, TOPIC = "transactional", "topic"
TIMEOUT_SECONDS = 5.0
MENDED_SECONDS = 10.0  # longer than an election and the loading that follows

Scenario = Callable[[SimulatedKafka, "Producer"], Awaitable[None]]


class Producer:
    """A producer with one transactional id, which writes to partition 0."""

    def __init__(self, kafka: SimulatedKafka, name: str = NAME) -> None:
        self.kafka = kafka
        self.name = name
        self.client: Client = kafka.connections(name).client()
        self.pair = Pair(-1, -1)

    @property
    def coordinator(self) -> Node:
        node = self.kafka.coordinator(CoordinationType.TRANSACTION, self.name)
        assert node is not None
        return Node(node)

    @property
    def leader(self) -> Node:
        return Node(self.kafka.leaders(0)[TOPIC, 0])

    async def start(self) -> None:
        request = _init.InitProducerIdRequest(
            transactional_id=self.name, transaction_timeout=timedelta(seconds=TIMEOUT_SECONDS)
        )
        reply = await call(self.client, self.coordinator, Lane.TRANSACTION, request)
        assert E.none is reply.error_code
        self.pair = Pair(reply.producer_id, reply.producer_epoch)

    async def produce(self, value: bytes = b"v") -> tuple[E, int]:
        builder = DefaultRecordBatchBuilder(2, 0, 1, self.pair.producer_id, self.pair.epoch, 0, 1 << 20)
        builder.append(0, 1, b"k", value, [])
        data = _produce.PartitionProduceData(index=0, records=bytes(builder.build()))
        request = _produce.ProduceRequest(
            transactional_id=self.name,
            acks=-1,
            timeout=timedelta(seconds=10),
            topic_data=(_produce.TopicProduceData(name=TOPIC, partition_data=(data,)),),
        )
        reply = await call(self.client, self.leader, Lane.PRODUCE, request)
        answer = reply.responses[0].partition_responses[0]
        return answer.error_code, answer.base_offset

    async def end(self, *, committed: bool, pair: Pair | None = None) -> E:
        """The error, with the next pair if there is one."""
        own = pair or self.pair
        request = _end.EndTxnRequest(
            transactional_id=self.name, producer_id=own.producer_id, producer_epoch=own.epoch, committed=committed
        )
        reply = await call(self.client, self.coordinator, Lane.TRANSACTION, request)
        error: E = reply.error_code
        if error is E.none:
            self.pair = Pair(reply.producer_id, reply.producer_epoch)
        return error


def run(scenario: Scenario, brokers: int = 1, seed: int = 1) -> None:
    async def main(loop: SimulatedLoop) -> None:
        kafka = SimulatedKafka(Random(seed), brokers)
        kafka.create_topic(TOPIC, 1)
        producer = Producer(kafka)
        await producer.start()
        await scenario(kafka, producer)

    simulate(main, Random(seed))


def visible(kafka: SimulatedKafka) -> list[bytes | None]:
    return [record.value for record in kafka.read_committed(TOPIC, 0)]


def with_two_brokers(scenario: Scenario) -> None:
    """One broker has the coordinator, the other one leads the partition."""
    ran = []

    async def parted(kafka: SimulatedKafka, producer: Producer) -> None:
        if producer.coordinator != producer.leader:
            ran.append(True)
            await scenario(kafka, producer)

    for seed in range(6):
        run(parted, brokers=3, seed=seed)
    assert ran


# -- the transaction coordinator comes and goes


def test_a_transaction_does_not_begin_while_its_coordinator_loads() -> None:
    """The partition's leader asks the coordinator and answers not_enough_replicas. A known partition goes on."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        kafka.kill_broker(producer.coordinator)
        answers = [await producer.produce()]
        while answers[-1][0] is not E.none:
            await asyncio.sleep(0.01)
            answers.append(await producer.produce())
        assert {(E.not_enough_replicas, -1)} == set(answers[:-1]) and (E.none, 0) == answers[-1]
        assert E.none is await producer.end(committed=True)

    with_two_brokers(scenario)


def test_markers_wait_for_their_coordinator() -> None:
    """An answered outcome stands. Readers wait for the markers, which the next coordinator writes."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        decided: list[str] = []
        kafka.on_committed = lambda owner, batches, offsets: decided.append(owner)
        leader = producer.leader
        await producer.produce()
        kafka.link(NAME).at_replies["EndTxn"] = lambda node: kafka.kill_broker(producer.coordinator)
        with pytest.raises(kafka_errors.KafkaConnectionError):
            await producer.end(committed=True)
        assert ([NAME], []) == (decided, visible(kafka))
        await asyncio.sleep(MENDED_SECONDS)
        assert leader == producer.leader
        assert (E.none, [b"v"]) == (await producer.end(committed=True), visible(kafka))

    with_two_brokers(scenario)


def test_a_transaction_without_a_coordinator_does_not_time_out() -> None:
    """A transactional id without a coordinator gets no answer until it has a coordinator again."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        await producer.produce()
        coordinator = producer.coordinator
        kafka.kill_broker(coordinator)
        await asyncio.sleep(10 * TIMEOUT_SECONDS)
        log, known = kafka.logs[TOPIC, 0], kafka.transactions.get(NAME)
        assert known is not None and State.ONGOING is known.state
        kafka.start_broker(coordinator)
        await asyncio.sleep(MENDED_SECONDS)
        assert (2, 2, []) == (log.end, log.last_stable_offset, visible(kafka))
        assert E.invalid_txn_state is await producer.end(committed=True)

    run(scenario)


# -- a paused broker wakes with old data


def test_a_reader_that_asked_a_broker_in_its_past_reads_on() -> None:
    """The records of the meantime come without a new write: the reader asks again until it finds the successor."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        reader = kafka.connections("r").reader(TOPIC, 1, FetchLimits(1, 20, 1 << 20))
        node = producer.leader
        kafka.append(TOPIC, 0, [(b"k", b"before")])
        reader.resume(0, 0)
        assert [[b"before"]] == [[r.value for r in batch] for batch in (await reader.fetch(1000))[0]]
        kafka.pause_broker(node)
        await asyncio.sleep(MENDED_SECONDS)
        reader.pause([0])  # no fetch from the successor is under way when there is a record to fetch
        kafka.append(TOPIC, 0, [(b"k", b"after")])
        await reader.fetch(1000)
        kafka.wake_broker(node)
        reader.resume(0, 1)
        found = await reader.fetch(10_000)
        assert [[b"after"]] == [[r.value for r in batch] for batch in found[0]]

    for seed in range(10):
        run(scenario, brokers=3, seed=seed)


# -- connections


def test_a_lost_answer_breaks_its_connection() -> None:
    """All callers on a broken connection hear that it broke, even if their request is done. Other lanes go on."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        kafka.link(NAME).lose_reply_of("Produce")
        outcomes = await asyncio.gather(
            producer.produce(),
            call(producer.client, producer.leader, Lane.PRODUCE, METADATA),
            call(producer.client, producer.leader, Lane.RECOVERY, METADATA),
            return_exceptions=True,
        )
        assert [True, True, False] == [isinstance(one, kafka_errors.KafkaConnectionError) for one in outcomes]
        assert 1 == kafka.logs[TOPIC, 0].end
        assert (E.none, 0) == await producer.produce()

    run(scenario)


def test_a_time_out_breaks_its_connection() -> None:
    """A request times out after 10 s and breaks its connection. The paused broker carries both requests out later."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        kafka.pause_broker(0)

        async def later() -> None:
            await asyncio.sleep(1.0)
            await call(producer.client, Node(0), Lane.PRODUCE, METADATA)

        outcomes = await asyncio.gather(producer.produce(), later(), return_exceptions=True)
        expected = [kafka_errors.RequestTimedOutError, kafka_errors.KafkaConnectionError]
        assert (expected, 10.0) == ([type(one) for one in outcomes], round(loop.time() - began, 3))
        assert 0 == kafka.logs[TOPIC, 0].end
        kafka.wake_broker(0)
        assert 1 == kafka.logs[TOPIC, 0].end

    run(scenario)


def test_answers_of_a_connection_come_in_order() -> None:
    """Answers come in the order of the requests, whatever time each one takes."""

    async def scenario(kafka: SimulatedKafka, producer: Producer) -> None:
        heard: list[int] = []

        async def ask(number: int) -> None:
            await call(producer.client, Node(0), Lane.RECOVERY, METADATA)
            heard.append(number)

        await asyncio.gather(*(ask(number) for number in range(30)))
        assert list(range(30)) == heard

    run(scenario)

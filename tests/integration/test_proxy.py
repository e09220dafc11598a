"""The proxy in front of Kafka's brokers: all clients stay on it, and each of its faults does what its name says."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from random import Random
from socket import create_connection, socketpair
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka import errors as kafka_errors
from aiokafka.admin import NewTopic
from aiokafka.client import AIOKafkaClient

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from tests.integration.kafka_tools import tool
from tests.integration.topics import create_readable
from tests.integration.workers import until
from tests.ports import free_port
from tests.proxy.addresses import Address
from tests.proxy.connection import Network, ProxiedConnection, ProxyLink
from tests.proxy.frames import Api
from tests.proxy.proxy import Proxy
from tests.proxy.rules import Exchange, FrameVerdict, Match, ProxySide, Rule

PRODUCE = Match(Api.PRODUCE)
PATIENT_MS = 30_000  # the time-out of a client that must not give up during a test
IMPATIENT_MS = 1_000

_metadata = schema("metadata", 12)


@pytest.fixture
def proxy(kafka: Cluster) -> Iterator[Proxy]:
    with Proxy.before(kafka) as made:
        yield made


@pytest.fixture
async def topic(kafka: Cluster) -> str:
    name = f"proxy-{uuid4().hex[:8]}"
    await create_readable(kafka.bootstrap_servers, NewTopic(name, 1, 1))
    return name


@pytest.fixture
async def producer(proxy: Proxy) -> AsyncIterator[Any]:
    async with AIOKafkaProducer(
        bootstrap_servers=proxy.bootstrap_servers, enable_idempotence=True, request_timeout_ms=PATIENT_MS
    ) as made:
        yield made


async def values(servers: str, topic: str) -> list[bytes]:
    """Read all values of the topic with a new consumer."""
    place = TopicPartition(topic, 0)
    found: list[bytes] = []
    async with AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest") as consumer:
        consumer.assign([place])
        end = (await consumer.end_offsets([place]))[place]
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [record.value for record in records]
    return found


async def ask(client: AIOKafkaClient) -> Any:
    request = _metadata.MetadataRequest(
        topics=(), allow_auto_topic_creation=False, include_topic_authorized_operations=False
    )
    return await call(client, Node(0), Lane.RECOVERY, request)


@pytest.fixture
async def client(proxy: Proxy) -> AsyncIterator[AIOKafkaClient]:
    made = AIOKafkaClient(bootstrap_servers=proxy.bootstrap_servers, client_id="asker", request_timeout_ms=PATIENT_MS)
    await made.bootstrap()
    yield made
    await made.close()


async def test_aiokafka_stays_on_it(proxy: Proxy, client: AIOKafkaClient, topic: str, producer: Any) -> None:
    """aiokafka sees only the proxy's addresses for brokers and coordinators; records pass in both directions."""
    await until(lambda: _has_coordinator(client), 20, "the group has a coordinator")
    port = int(proxy.bootstrap_servers.rpartition(":")[2])
    assert {port} == {broker.port for broker in client.cluster.brokers()}
    await producer.send_and_wait(topic, b"one")
    assert [b"one"] == await values(proxy.bootstrap_servers, topic)


async def _has_coordinator(client: AIOKafkaClient) -> bool:
    """Whether the group has a coordinator; a fresh broker first creates the offsets topic."""
    try:
        await Coordinators(client, "some-group", "some-id").group()
    except kafka_errors.GroupCoordinatorNotAvailableError:
        return False
    return True


async def test_java_clients_stay_on_it(proxy: Proxy, topic: str, producer: Any) -> None:
    """Kafka's own console consumer joins a group through the proxy, reads, and leaves the group."""
    await producer.send_and_wait(topic, b"one")
    read = (
        "org.apache.kafka.tools.consumer.ConsoleConsumer", "--bootstrap-server", proxy.bootstrap_servers,
        "--topic", topic, "--from-beginning", "--max-messages", "1", "--timeout-ms", "20000",
    )  # fmt: skip
    assert "one" == (await asyncio.to_thread(tool, *read)).strip()
    describe = ("org.apache.kafka.tools.ClusterTool", "list-endpoints", "--bootstrap-server", proxy.bootstrap_servers)
    assert proxy.bootstrap_servers.rpartition(":")[2] in await asyncio.to_thread(tool, *describe)


async def test_a_held_request_has_no_effect_until_it_is_let_go(
    kafka: Cluster, proxy: Proxy, topic: str, producer: Any
) -> None:
    with proxy.trap(PRODUCE) as trap:
        sent = await producer.send(topic, b"one")
        caught = await trap.caught()
        assert [] == await values(kafka.bootstrap_servers, topic)
        caught.forward()
        await sent
    assert [b"one"] == await values(kafka.bootstrap_servers, topic)


async def test_a_lost_reply_is_lost_after_its_effect(kafka: Cluster, proxy: Proxy, topic: str, producer: Any) -> None:
    """The request has its effect, and only its reply is lost. The broker recognises the batch that is sent again."""
    with proxy.trap(PRODUCE, ProxySide.REPLY) as trap:
        sent = await producer.send(topic, b"one")
        caught = await trap.caught()
        assert [b"one"] == await values(kafka.bootstrap_servers, topic)
        assert not sent.done()
        caught.cut()
        await sent
    assert [b"one"] == await values(kafka.bootstrap_servers, topic)


async def test_a_request_arrives_after_its_client_gave_up(kafka: Cluster, proxy: Proxy, topic: str) -> None:
    """A request can arrive after its sender has reported a failure, as in a real network: the record is there."""
    async with AIOKafkaProducer(bootstrap_servers=proxy.bootstrap_servers, request_timeout_ms=IMPATIENT_MS) as producer:
        with proxy.trap(PRODUCE) as trap:
            sent = await producer.send(topic, b"one")
            caught = await trap.caught()
            await caught.client_gone()
            with pytest.raises(kafka_errors.RequestTimedOutError):
                await sent
            assert [] == await values(kafka.bootstrap_servers, topic)
            caught.forward()
            partition = (await caught.answer()).responses[0].partition_responses[0]
            assert (0, 0) == (partition.error_code.value, partition.base_offset)
    assert [b"one"] == await values(kafka.bootstrap_servers, topic)


async def test_a_request_that_is_cut_never_arrives(kafka: Cluster, proxy: Proxy, topic: str, producer: Any) -> None:
    with proxy.trap(Match(Api.PRODUCE, node=0)) as trap:
        sent = await producer.send(topic, b"one")
        (await trap.caught()).cut()
        await sent
    assert [b"one"] == await values(kafka.bootstrap_servers, topic)


async def test_only_the_nth_that_fits_is_caught(proxy: Proxy, client: AIOKafkaClient) -> None:
    """A match can name a client, a body and a count; the trap catches exactly that request."""
    match = Match(Api.METADATA, client="ask", when=lambda request: request.body.topics == ())
    with proxy.trap(match, occurrence=3) as third, proxy.trap(Match(Api.METADATA, client="other")) as other:
        await ask(client)
        await ask(client)
        assert not third.has_caught
        asking = asyncio.create_task(ask(client))
        (await third.caught()).forward()
        await asking
        assert not other.has_caught


async def test_all_is_cut_and_refused_until_it_is_healed(proxy: Proxy, client: AIOKafkaClient) -> None:
    await ask(client)
    await proxy.cut()
    for _ in range(2):
        with pytest.raises(LOST):
            await ask(client)
    await proxy.heal()
    await until(lambda: _answers(client), 10, "the client is answered again")


async def _answers(client: AIOKafkaClient) -> bool:
    try:
        await ask(client)
    except LOST:
        return False
    return True


async def test_a_frozen_network_gives_no_answer_and_no_error(proxy: Proxy, client: AIOKafkaClient) -> None:
    await ask(client)
    await proxy.freeze()
    asking = asyncio.create_task(ask(client))
    done, _ = await asyncio.wait((asking,), timeout=0.5)
    assert set() == done
    await proxy.heal()
    await asking


@pytest.mark.parametrize("direction", ["requests", "replies"])
async def test_a_slow_network_delays_a_direction(proxy: Proxy, client: AIOKafkaClient, direction: str) -> None:
    await ask(client)
    for link in (ProxyLink(latency_seconds=0.2), ProxyLink(bytes_per_second=100)):
        await proxy.slow(**{direction: link})
        begun = time.monotonic()
        await ask(client)
        assert time.monotonic() - begun > 0.19
    await proxy.slow()


async def test_a_rule_decides_by_itself(kafka: Cluster, proxy: Proxy, topic: str, producer: Any) -> None:
    """A rule that loses every other reply: an idempotent producer's records are there once, in order."""

    class Lossy(Rule):
        random = Random(1)
        lost = 0

        def fits(self, request: Any) -> bool:
            return bool(request.api_key == Api.PRODUCE)

        async def on_reply(self, exchange: Exchange) -> FrameVerdict:
            if self.random.random() < 0.5:
                self.lost += 1
                return FrameVerdict.CUT
            return FrameVerdict.PASS

    rule = Lossy()
    expected = [b"%d" % number for number in range(10)]
    with proxy.rule(rule):
        for value in expected:
            await producer.send_and_wait(topic, value)
    assert rule.lost > 0
    assert expected == await values(kafka.bootstrap_servers, topic)


async def test_a_caught_request_is_let_go_when_the_test_is_done_with_it(
    proxy: Proxy, topic: str, producer: Any
) -> None:
    """A caught request is let go when the trap ends, so that a failed test leaves no client waiting."""
    with pytest.raises(kafka_errors.KafkaError), proxy.trap(PRODUCE) as trap:
        sent = await producer.send(topic, b"one")
        await trap.caught()
        raise kafka_errors.KafkaError
    await sent


async def test_a_rule_that_fails_fails_the_test(kafka: Cluster, topic: str) -> None:
    """If a rule raises, its connection ends and the proxy's end raises the rule's error."""

    def fails(_: Any) -> bool:
        raise LookupError("no such field")

    with pytest.raises(LookupError), Proxy.before(kafka) as proxy:
        async with AIOKafkaProducer(bootstrap_servers=proxy.bootstrap_servers) as producer:
            with proxy.trap(Match(Api.PRODUCE, when=fails)):
                sent = await producer.send(topic, b"one")
                await asyncio.wait((sent,), timeout=1.0)
            await sent


async def test_a_connection_that_is_ended_twice_leaves_none_open() -> None:
    """A connection that is cancelled again while it cleans up still closes both its sides."""
    (client, client_end), (broker, broker_end) = socketpair(), socketpair()
    streams = [await asyncio.open_connection(sock=sock) for sock in (client, broker)]
    flowing = asyncio.Event()
    with client_end, broker_end:
        running = asyncio.create_task(ProxiedConnection(Network({}), 0, flowing, *streams).run())
        await asyncio.sleep(0)
        for _ in range(2):
            running.cancel()
            await asyncio.sleep(0)
        await asyncio.wait([running])
    assert [True, True] == [writer.transport.is_closing() for _, writer in streams]


def test_it_leaves_nothing_open_when_clients_come_at_its_end() -> None:
    """Clients that connect while the proxy ends leave no socket open. An open one would fail some later test."""
    nobody = Address("127.0.0.1", free_port())

    def come(address: tuple[str, int], is_over: threading.Event) -> None:
        while not is_over.is_set():
            with suppress(OSError), create_connection(address, 0.2):
                pass

    for _ in range(10):
        is_over = threading.Event()
        with Proxy([nobody]) as proxy:
            host, _, port = proxy.bootstrap_servers.rpartition(":")
            clients = [threading.Thread(target=come, args=((host, int(port)), is_over)) for _ in range(3)]
            for client in clients:
                client.start()
        is_over.set()
        for client in clients:
            client.join()
    gc.collect()

"""A client whose brokers have moved, without any broker."""

import asyncio
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaConnectionError, NodeNotReadyError

from portfolio_stream.errors import OtherCluster
from portfolio_stream.kafka import rebootstrap
from portfolio_stream.kafka.rebootstrap import recovering

SERVERS = "first.test:1,second.test:2"


def metadata(port: int, cluster_id: str = "ours") -> Any:
    return SimpleNamespace(
        API_VERSION=5, cluster_id=cluster_id, controller_id=1, topics=(), brokers=[(1, "broker.test", port, None)]
    )


class FakeNetwork:
    """What answers where; a name that is not there refuses connections."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, int], Any] = {}
        self.asked: list[tuple[str, int]] = []

    async def create_conn(self, host: str, port: int, **_: Any) -> Any:
        self.asked.append((host, port))
        if (host, port) not in self.answers:
            raise KafkaConnectionError(f"{host}:{port}")
        return FakeConnection(host, port, self.answers[host, port])


class FakeConnection:
    def __init__(self, host: str, port: int, answer: Any) -> None:
        self.host, self.port = host, port
        self.is_open = True
        self._answer = answer

    def connected(self) -> bool:
        return self.is_open

    async def send(self, request: Any, **_: Any) -> Any:
        return self._answer

    def close(self, **_: Any) -> Any:
        self.is_open = False
        closed = asyncio.get_running_loop().create_future()
        closed.set_result(None)
        return closed


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> FakeNetwork:
    made = FakeNetwork()
    monkeypatch.setattr(rebootstrap, "create_conn", made.create_conn)
    monkeypatch.setattr("aiokafka.client.create_conn", made.create_conn)
    monkeypatch.setattr(rebootstrap, "PAUSE_SECONDS", 0.0)
    return made


@pytest.fixture
async def client(network: FakeNetwork) -> AsyncIterator[Any]:
    """It knows one broker, at port 1000."""
    made = recovering(AIOKafkaClient(bootstrap_servers=SERVERS))
    made.cluster.update_metadata(metadata(1000))
    network.answers["broker.test", 1000] = metadata(1000)
    yield made
    await made.close()


def known(client: Any) -> set[int]:
    return {broker.port for broker in client.cluster.brokers()}


async def test_known_brokers_are_asked_first(client: Any, network: FakeNetwork) -> None:
    """While one of them answers, the bootstrap addresses are left alone."""
    assert await client._metadata_update(client.cluster, ["in"])
    assert [("broker.test", 1000)] == network.asked


async def test_the_bootstrap_addresses_tell_where_the_brokers_are_now(client: Any, network: FakeNetwork) -> None:
    """In any order; the same node at another address is asked there at once, and its old connection closed."""
    await client._metadata_update(client.cluster, ["in"])
    (old,) = client._conns.values()
    old.is_open = False
    del network.answers["broker.test", 1000]
    network.answers |= {("second.test", 2): metadata(2000), ("broker.test", 2000): metadata(2000)}
    network.asked.clear()
    assert await client._metadata_update(client.cluster, ["in"])
    assert {2000} == known(client)
    assert ("broker.test", 1000) == network.asked[0] and ("broker.test", 2000) == network.asked[-1]
    assert ("second.test", 2) == network.asked[-2]


async def test_a_connection_to_a_former_address_is_closed(client: Any, network: FakeNetwork) -> None:
    """One of several brokers has moved: another one says where it is, and its requests need not time out."""
    moved = FakeConnection("broker.test", 999, None)
    client._conns[1, "member"] = moved
    assert await client._metadata_update(client.cluster, ["in"])
    assert not moved.is_open and (1, "member") not in client._conns


async def test_another_cluster_is_refused_and_the_own_one_awaited(
    client: Any, network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    """From a bootstrap address as from a known broker's; no client of this process begins with it either."""
    network.answers = {("broker.test", 1000): metadata(1000, "theirs"), ("first.test", 1): metadata(3000, "theirs")}
    with caplog.at_level(logging.ERROR):
        assert not await client._metadata_update(client.cluster, ["in"])
    assert {1000} == known(client)
    with pytest.raises(NodeNotReadyError):
        await client.send(1, None)
    assert "theirs, ours is ours. Operator action:" in caplog.text
    other = recovering(AIOKafkaClient(bootstrap_servers=SERVERS))
    with pytest.raises(OtherCluster):
        await other.bootstrap()
    await other.close()
    network.answers |= {("second.test", 2): metadata(2000), ("broker.test", 2000): metadata(2000)}
    assert await client._metadata_update(client.cluster, ["in"])
    assert {2000} == known(client)


async def test_a_process_may_begin_with_another_cluster_when_all_clients_are_closed(network: FakeNetwork) -> None:
    """A cluster that was made anew is another one, and nothing of the former is known any more."""
    for cluster_id in ("ours", "theirs"):
        network.answers = {("first.test", 1): metadata(1000, cluster_id)}
        made = recovering(AIOKafkaClient(bootstrap_servers=SERVERS))
        await made.bootstrap()
        await made.close()


async def test_the_log_tells_once_for_all_clients(
    client: Any, network: FakeNetwork, caplog: pytest.LogCaptureFixture
) -> None:
    """When the first one has no broker left, and when the last one has found one."""
    second = recovering(AIOKafkaClient(bootstrap_servers=SERVERS))
    second.cluster.update_metadata(metadata(1000))
    network.answers.clear()
    with caplog.at_level(logging.WARNING, logger=rebootstrap.__name__):
        for _ in range(3):
            for one in (client, second):
                assert not await one._metadata_update(one.cluster, ["in"])
        network.answers["broker.test", 1000] = metadata(1000)
        for one in (client, second):
            assert await one._metadata_update(one.cluster, ["in"])
    told = [record.message for record in caplog.records if record.name == rebootstrap.__name__]
    assert ["no known", "brokers f"] == [message[:9].strip() for message in told]
    await second.close()


async def test_every_kind_of_client_is_made_to_recover() -> None:
    """aiokafka makes their clients itself, before anybody can choose one."""
    consumer, producer = AIOKafkaConsumer(bootstrap_servers=SERVERS), AIOKafkaProducer(bootstrap_servers=SERVERS)
    for inner in (recovering(consumer)._client, recovering(producer).client):
        assert isinstance(inner, rebootstrap._RecoveringClient)
        assert inner.cluster.behind is inner._behind
    await consumer.stop()
    await producer.stop()

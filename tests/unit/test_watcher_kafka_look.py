"""What a look at Kafka says: which brokers live, with and without a controller, and while nobody answers."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError
from msgspec.structs import replace

from portfolio_stream.errors import BrokerUnreachable, LoginRefused, PortfolioStreamError
from portfolio_stream.kafka import health
from portfolio_stream.kafka.health import BrokerHealth, KafkaHealth, PartitionHealth, examine
from portfolio_stream.watcher import kafka_look
from portfolio_stream.watcher.kafka_look import NOTHING_YET, DiskPlace, DiskRoom, KafkaWatch

Answers = dict[int, KafkaHealth | Exception]


class FakeCluster:
    """Three brokers, as a link, as its client, and as what each broker answers."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.refusal: PortfolioStreamError | None = None
        self.asked: list[int] = []
        self.cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=node) for node in (0, 1, 2)])

    async def client(self) -> Any:
        if self.refusal is not None:
            raise self.refusal
        return self

    async def examine_by(self, client: Any, node: int) -> KafkaHealth:
        self.asked.append(node)
        answer = self.answers[node]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def disks_of(self, client: Any, nodes: Any) -> Mapping[DiskPlace, DiskRoom]:
        return {DiskPlace(node, "/kafka"): DiskRoom(100, 25) for node in nodes}


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    for module in (kafka_look, health):
        monkeypatch.setattr(module, "examine_by", fake.examine_by)
    monkeypatch.setattr(kafka_look, "disks_of", fake.disks_of)
    return fake


def seen(*fenced: int, controller: int | None = 1) -> KafkaHealth:
    """One of three partitions has no leader, and one lacks a copy."""
    return KafkaHealth(
        cluster_id="c",
        controller=controller,
        brokers=tuple(
            BrokerHealth(node=node, address="h:1", is_live=node not in fenced, leaders=0, replicas=0)
            for node in (0, 1, 2)
        ),
        partitions=(
            partition(0, leader=0, in_sync=(0, 1, 2)),
            partition(1, leader=0, in_sync=(0, 1)),
            partition(2, leader=None, in_sync=(2,)),
        ),
    )


def partition(number: int, leader: int | None, in_sync: tuple[int, ...]) -> PartitionHealth:
    return PartitionHealth(topic="t", partition=number, leader=leader, replicas=(0, 1, 2), in_sync=in_sync, needed=2)


def watch(kafka: FakeCluster) -> KafkaWatch:
    link: Any = kafka
    return KafkaWatch(link)


AWAY = KafkaConnectionError("away")


async def test_with_a_controller_one_broker_says_who_lives(kafka: FakeCluster) -> None:
    """All are asked at the first look; afterwards the one that has answered."""
    kafka.answers = {0: AWAY, 1: seen(0), 2: seen(0)}
    look = await (looking := watch(kafka)).look()
    assert look.figures is not None
    assert (3, 2, True) == (look.figures.brokers, look.figures.live, look.figures.has_controller)
    assert (1, 2, 1) == (
        look.figures.offline_partitions,
        look.figures.under_replicated_partitions,
        look.figures.under_min_isr_partitions,
    )
    assert {1, 2} == {place.broker for place in look.disks}
    kafka.asked.clear()
    await looking.look()
    assert [1] == kafka.asked


async def test_without_a_controller_those_live_that_answer(kafka: FakeCluster) -> None:
    """Nobody is fenced then, however dead: two of three brokers have died at once."""
    kafka.answers = {0: AWAY, 1: AWAY, 2: seen(controller=None)}
    figures = (await watch(kafka).look()).figures
    assert figures is not None
    assert (3, 1, False) == (figures.brokers, figures.live, figures.has_controller)


async def test_while_nobody_answers_the_rest_is_of_the_last_look(kafka: FakeCluster) -> None:
    """And when one answers again, all of it is new."""
    looking = watch(kafka)
    kafka.answers = {0: seen(), 1: seen(), 2: seen()}
    before = (await looking.look()).figures
    kafka.answers = {0: AWAY, 1: AWAY, 2: AWAY}
    look = await looking.look()
    assert before is not None
    assert (replace(before, live=0, has_controller=False), {}) == (look.figures, look.disks)
    kafka.answers = {0: AWAY, 1: AWAY, 2: seen(0, 1, controller=2)}
    after = (await looking.look()).figures
    assert after is not None and 1 == after.live


async def test_a_wrong_setting_ends_it_at_the_start_alone(kafka: FakeCluster) -> None:
    """A broker that is away does not, and no refusal ends a watcher that has seen Kafka."""
    looking = watch(kafka)
    kafka.refusal = BrokerUnreachable("h:1")
    assert NOTHING_YET == (await looking.look()).figures
    kafka.refusal = LoginRefused("h:1", "wrong password")
    with pytest.raises(LoginRefused):
        await looking.look()
    kafka.refusal, kafka.answers = None, {0: seen(), 1: seen(), 2: seen()}
    await looking.look()
    kafka.refusal = LoginRefused("h:1", "wrong password")
    figures = (await looking.look()).figures
    assert figures is not None and 0 == figures.live


async def test_a_command_asks_on_for_the_controller(kafka: FakeCluster) -> None:
    """The first broker has lost its connection to the controller; no broker knows one; nobody answers."""
    client: Any = kafka
    kafka.answers = {0: seen(controller=None), 1: AWAY, 2: seen(controller=2)}
    assert 2 == (await examine(client)).controller
    kafka.answers = {0: AWAY, 1: seen(controller=None), 2: AWAY}
    assert None is (await examine(client)).controller
    kafka.answers = {0: AWAY, 1: AWAY, 2: AWAY}
    with pytest.raises(KafkaConnectionError):
        await examine(client)

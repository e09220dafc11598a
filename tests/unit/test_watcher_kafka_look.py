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
from portfolio_stream.watch.alerts import BY_NAME
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watcher import kafka_look
from portfolio_stream.watcher.kafka_look import NOTHING_YET, DiskPlace, DiskRoom, KafkaLook, KafkaWatch, disks_after
from portfolio_stream.watcher.system import disk_shares

Answers = dict[int, KafkaHealth | Exception]


class FakeCluster:
    """Three brokers, as a link, as its client, and as what each broker answers."""

    def __init__(self) -> None:
        self.answers: Answers = {}
        self.refusal: PortfolioStreamError | None = None
        self.asked: list[int] = []
        #: usable bytes of 100, by broker; None: the broker cannot read its log dir
        self.room: dict[int, int | None] = {0: 25, 1: 25, 2: 25}
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

    async def disks_of(self, client: Any, nodes: Any) -> Mapping[DiskPlace, DiskRoom | None]:
        told = {DiskPlace(node, "/kafka"): self.room[node] for node in nodes if node in self.room}
        return {place: None if room is None else DiskRoom(100, room) for place, room in told.items()}


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> FakeCluster:
    fake = FakeCluster()
    for module in (kafka_look, health):
        monkeypatch.setattr(module, "examine_by", fake.examine_by)
    monkeypatch.setattr(kafka_look, "disks_of", fake.disks_of)
    return fake


def seen(*fenced: int, controller: int | None = 1, registered: tuple[int, ...] = (0, 1, 2)) -> KafkaHealth:
    """One of three partitions has no leader, and one lacks a copy."""
    return KafkaHealth(
        cluster_id="c",
        controller=controller,
        brokers=tuple(
            BrokerHealth(node=node, address="h:1", is_live=node not in fenced, leaders=0, replicas=0)
            for node in registered
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
    assert replace(before, live=0, has_controller=False) == look.figures
    assert {0, 1, 2} == {place.broker for place in look.disks}
    kafka.answers = {0: AWAY, 1: AWAY, 2: seen(0, 1, controller=2)}
    after = (await looking.look()).figures
    assert after is not None and 1 == after.live


async def test_a_full_disk_that_ends_its_broker_stays_full(kafka: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the broker tells its room anew, or is unregistered; whether it is away, silent, or cannot read its disk."""
    monkeypatch.setattr(kafka_look, "DISKS_SECONDS", 0.0)
    looking = watch(kafka)

    async def full(*fenced: int, registered: tuple[int, ...] = (0, 1, 2)) -> bool:
        kafka.answers = {node: AWAY if node in fenced else seen(*fenced, registered=registered) for node in (0, 1, 2)}
        figures, disks = await looking.look()
        now = SystemFigures(at=0.0, kafka=figures, disks=disk_shares(KafkaLook(figures, disks), {}))
        return bool(BY_NAME["DiskFilling"].holds(now))

    assert not await full()
    kafka.room[2] = 1
    assert await full()
    assert await full(2)
    assert await full(0, 1, 2)
    kafka.room[2] = None
    assert await full()
    del kafka.room[2]
    assert await full()
    kafka.room[2] = 50
    assert not await full()
    kafka.room[2] = 1
    assert await full()
    assert not await full(2, registered=(0, 1))


async def test_a_log_dir_that_the_broker_does_not_name_is_gone() -> None:
    """Its operator has moved it."""
    old, new, room = DiskPlace(0, "/old"), DiskPlace(0, "/new"), DiskRoom(100, 1)
    assert {new: room} == disks_after({old: room}, {new: room}, {0})


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

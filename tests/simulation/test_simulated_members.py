"""Members whose heartbeats or answers are lost at the worst moment."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka.errors import KafkaConnectionError

from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.exactly_once.membership import FRESH_SECONDS, Membership
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, OUTPUT, SOURCE
from tests.simulation.disk import Disk
from tests.simulation.kafka.cluster import SESSION_SECONDS, SimulatedKafka
from tests.simulation.kafka.groups import Group
from tests.simulation.ledger import GROUP
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.worker import SimulatedWorker, Surroundings

PARTITIONS = 4
SEEDS = range(5)
SETTLED_SECONDS = 30.0
TOPIC_ID = UUID(int=5)
BEAT = "ConsumerGroupHeartbeat"


class Stage:
    """Two workers. The second one joins when the first one has all partitions."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.kafka = SimulatedKafka(Random(f"kafka {seed}"))
        for topic in (SOURCE, OUTPUT, DEAD, CHANGELOG):
            self.kafka.create_topic(topic, PARTITIONS)
        self.kafka.create_topic(CONTROL, 1)
        self.first, self.second = (self.worker(name, loop) for name in ("first", "second"))
        #: how many requests or answers were lost
        self.strays = 0

    def worker(self, name: str, loop: SimulatedLoop) -> SimulatedWorker:
        disk = Disk(lambda items: None)
        surroundings = Surroundings(connect=self.kafka.connections, objects=MemoryObjects(), partitions=PARTITIONS)
        return SimulatedWorker(name, loop, Random(name), disk, surroundings, starts=_nothing, ended=lambda worker: None)

    def told(self, worker: SimulatedWorker) -> frozenset[int]:
        """The worker's assignment at the coordinator, even if its answer was lost."""
        member = self.kafka.group(GROUP).members.get(worker.member_id)
        return frozenset() if member is None else frozenset(member.assigned)

    def lost_to_twin(self, worker: SimulatedWorker) -> set[int]:
        return self.kafka.given_up_by_twin(worker.name, worker.member_id, FRESH_SECONDS)

    @staticmethod
    def served(worker: SimulatedWorker) -> frozenset[int]:
        """The partitions for which the worker would answer over HTTP."""
        assert worker.engine is not None and worker.engine.started is not None
        membership = worker.engine.started.membership
        return membership.owned & worker.engine.served if membership.is_fresh else frozenset()

    def at_each_beat(self, act: Callable[[], None]) -> None:
        """A heartbeat of the second worker was answered, and the worker has not heard the answer."""
        link = self.kafka.link(self.second.name)

        def acted(node: int) -> None:
            link.at_replies[BEAT] = acted
            act()

        link.at_replies[BEAT] = acted

    def assert_all_is_shared(self) -> None:
        for worker in (self.first, self.second):
            assert worker.engine is not None and worker.is_running
            assert self.told(worker) == worker.engine.served and PARTITIONS // 2 == len(worker.engine.served)


def _nothing() -> None:
    """Nobody watches starts."""


async def until(is_true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10.0):
        while not is_true():  # noqa: ASYNC110  virtual time
            await asyncio.sleep(0.01)


def with_two(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    for seed in SEEDS:

        async def main(loop: SimulatedLoop, seed: int = seed) -> None:
            stage = Stage(loop, seed)
            stage.first.start()
            await asyncio.sleep(2.0)
            await scenario(stage)
            stage.second.start()
            await asyncio.sleep(SETTLED_SECONDS)
            assert stage.strays
            stage.assert_all_is_shared()

        simulate(main, Random(seed))


def test_an_assignment_whose_answer_was_lost_is_learned() -> None:
    """A coordinator repeats an assignment only to a heartbeat with all fields, which follows each failure."""

    async def scenario(stage: Stage) -> None:
        before: frozenset[int] = frozenset()

        def lose_news() -> None:
            nonlocal before
            told = stage.told(stage.second)
            if told - before:
                stage.strays += 1
                stage.kafka.link(stage.second.name).lose_reply_of(BEAT)
            before = told

        stage.at_each_beat(lose_news)

    with_two(scenario)


TWIN_STEPS = {
    "join": ("second", "twin"),
    "heartbeat": ("twin", "second"),
    "goodbye": ("twin", "goodbye"),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("steps", TWIN_STEPS.values(), ids=TWIN_STEPS)
def test_what_a_twin_gives_up_is_served_for_two_seconds_at_most(steps: tuple[str, str], seed: int) -> None:
    """Two processes have one identity. The coordinator takes what one of them sends as the word of both.

    The first worker is in a slow fold, so it gives nothing up. It hears from no broker when the twin has given up
    partitions, so only its last answer limits how long it serves them. The judge must excuse this, and nothing else.
    """

    async def main(loop: SimulatedLoop) -> None:
        stage = Stage(loop, seed)
        first, twin = stage.first, stage.worker("twin", loop)
        first.start()
        await asyncio.sleep(2.0)
        first.fold_seconds = 60.0
        for partition in range(PARTITIONS):
            stage.kafka.append(SOURCE, partition, [(b"a", b"1 1")])
        acts: dict[str, Callable[[], None]] = {"second": stage.second.start, "twin": twin.start, "goodbye": twin.stop}
        twin.take_identity(first)
        for step in steps:
            await asyncio.sleep(2.0)
            assert not stage.lost_to_twin(first)
            acts[step]()
        await until(lambda: bool(stage.lost_to_twin(first)))
        given_up, at = stage.lost_to_twin(first), loop.time()
        stage.kafka.link(first.name).cut()
        assert given_up <= stage.served(first) and not stage.lost_to_twin(twin)
        await until(lambda: not given_up & stage.served(first))
        assert loop.time() - at <= FRESH_SECONDS
        await asyncio.sleep(FRESH_SECONDS)
        assert not stage.lost_to_twin(first)

    simulate(main, Random(seed))


class Beats:
    """A group coordinator behind a client: each heartbeat waits at a gate, and some get no answer."""

    def __init__(self, group: Group) -> None:
        self.group = group
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_losing = False

    async def send(self, node: int, request: Any, *, group: Any) -> Any:
        if self.is_losing:
            self.is_losing = False
            raise KafkaConnectionError
        entity = request.entity
        topics = entity.topic_partitions
        owned = None if topics is None else [p for topic in topics for p in topic.partitions]
        timeout = entity.rebalance_timeout.total_seconds()
        await self.gate.wait()
        answer = self.group.beat(entity.member_id, entity.member_epoch, owned, timeout if timeout > 0 else None)
        assignment = None
        if answer.assignment is not None:
            topic = SimpleNamespace(topic_id=TOPIC_ID, partitions=tuple(answer.assignment))
            assignment = SimpleNamespace(topic_partitions=[topic])
        return SimpleNamespace(
            error_code=answer.error, error_message=None, member_epoch=answer.epoch, assignment=assignment
        )


async def test_what_is_taken_while_a_beat_is_under_way_is_not_given_away() -> None:
    """A heartbeat names the partitions that were owned when it was sent. Another member has joined meanwhile."""
    now = 100.0
    group = Group(lambda: now, 3, SESSION_SECONDS)
    beats = Beats(group)

    async def node() -> int:
        return 0

    client: Any = beats
    coordinators: Any = SimpleNamespace(group=node, forget=_nothing)
    first = Membership(
        client,
        coordinators,
        group=GROUP,
        topic=SOURCE,
        topic_id=TOPIC_ID,
        name=MemberName("first", Naming(), lambda naming: None),
        progress=lambda: 0.0,
        wake_engine=_nothing,
    )
    await first.beat()
    assert {0, 1, 2} == first.target
    now += 2
    group.beat("second", 0, (), 30.0)
    beats.is_losing = True
    with pytest.raises(KafkaConnectionError):
        await first.beat()  # so the next request carries all fields
    beats.gate.clear()
    under_way = asyncio.create_task(first.beat())
    await asyncio.sleep(0)
    first.acknowledge(frozenset({0, 1, 2}))  # the engine begins with all three
    now += 1
    beats.gate.set()
    await under_way
    (given,) = {0, 1, 2} - first.target
    group.beat("second", group.members["second"].epoch, None, None)
    assert not group.members["second"].assigned
    first.acknowledge(first.target)
    await first.beat()
    group.beat("second", group.members["second"].epoch, None, None)
    assert {given} == group.members["second"].assigned.keys()


class Late(Beats):
    """Holds the next request, whose answer nobody gets, until `arrive` delivers the request."""

    def __init__(self, group: Group) -> None:
        super().__init__(group)
        self.late: list[Any] = []

    async def send(self, node: int, request: Any, *, group: Any) -> Any:
        if self.is_losing:
            self.late.append(request)
        return await super().send(node, request, group=group)

    async def arrive(self) -> None:
        for request in self.late:
            await super().send(0, request, group=None)


@pytest.mark.parametrize("is_goodbye", [True, False], ids=["goodbye", "join"])
async def test_a_late_join_or_goodbye_does_nothing_to_the_worker(is_goodbye: bool) -> None:
    """A late request arrives when the worker is a member again and must give a partition to another one."""
    now = 100.0
    group = Group(lambda: now, 3, SESSION_SECONDS)
    late = Late(group)
    naming = Naming()

    async def node() -> int:
        return 0

    def keep(kept: Naming) -> None:
        nonlocal naming
        naming = kept

    def process() -> Membership:
        client: Any = late
        coordinators: Any = SimpleNamespace(group=node, forget=_nothing)
        return Membership(
            client,
            coordinators,
            group=GROUP,
            topic=SOURCE,
            topic_id=TOPIC_ID,
            name=MemberName("first", naming, keep),
            progress=lambda: 0.0,
            wake_engine=_nothing,
        )

    worker = process()
    if is_goodbye:
        await worker.beat()
    late.is_losing = True
    with pytest.raises(KafkaConnectionError):
        await (worker.leave() if is_goodbye else worker.beat())
    worker = process() if is_goodbye else worker
    now += 2
    while worker.epoch <= 0:
        await worker.beat()
    worker.acknowledge(worker.target)
    now += 2
    await worker.beat()
    group.beat("second", 0, (), 30.0)
    await late.arrive()
    group.beat("second", group.members["second"].epoch, None, None)
    assert {0, 1, 2} == worker.owned and not group.members["second"].assigned
    await worker.beat()
    assert 2 == len(worker.target)

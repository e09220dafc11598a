"""Members whose heartbeats, or their answers, go astray at the one moment at which it matters."""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

from tests.simulation.disk import Disk
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.ledger import CHANGELOG, DEAD, GROUP, OUTPUT, SOURCE
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.worker import SimulatedWorker

PARTITIONS = 4
SEEDS = range(5)
SETTLED_SECONDS = 30.0
BEAT = "ConsumerGroupHeartbeat"


class Stage:
    """Two workers, the second of which joins when the first has everything."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.kafka = SimulatedKafka(Random(f"kafka {seed}"))
        for topic in (SOURCE, OUTPUT, DEAD, CHANGELOG):
            self.kafka.create_topic(topic, PARTITIONS)
        self.first, self.second = (self._worker(name, loop) for name in ("first", "second"))
        #: how often something went astray
        self.strays = 0

    def _worker(self, name: str, loop: SimulatedLoop) -> SimulatedWorker:
        disk = Disk(lambda items: None)
        return SimulatedWorker(
            name, loop, Random(name), disk, self.kafka.connections, starts=_nothing, ended=lambda worker: None
        )

    def told(self, worker: SimulatedWorker) -> frozenset[int]:
        """What the coordinator has told it that it owns, be it lost."""
        member = self.kafka.group(GROUP).members.get(worker.member_id)
        return frozenset() if member is None else frozenset(member.assigned)

    def at_each_beat(self, act: Callable[[], None]) -> None:
        """When a beat of the second worker has been answered, and before it hears of it."""
        link = self.kafka.link(self.second.name)

        def acted(node: int) -> None:
            link.at_replies[BEAT] = acted
            act()

        link.at_replies[BEAT] = acted

    def assert_all_is_shared(self) -> None:
        for worker in (self.first, self.second):
            assert worker.engine is not None and worker.is_running
            assert self.told(worker) == worker.engine.running and PARTITIONS // 2 == len(worker.engine.running)


def _nothing() -> None:
    """Nobody watches starts."""


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
    """A coordinator tells what has not changed only to a member that sends all its fields, as after any failure."""

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

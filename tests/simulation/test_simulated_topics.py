"""What a worker does when its topics are not what they were (deleted, made again, trimmed), the cluster is too old,
or has forgotten the worker.

Each at moments of a run that nobody chose: what is committed by then, under way or being recovered differs by seed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest

from portfolio_stream.errors import BrokerTooOld, Superseded, TopicMissing, TopicReplaced
from portfolio_stream.exactly_once import main_loop
from portfolio_stream.kafka.topic_watch import GONE_SECONDS, WATCH_SECONDS
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, OUTPUT, SOURCE
from tests.simulation.disk import Disk
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.worker import SimulatedWorker, Surroundings

TOPICS = (SOURCE, OUTPUT, DEAD, CHANGELOG)
PARTITIONS = 2
SEEDS = range(4)
SETTLED_SECONDS = 60.0  # waits for agreement last 15 s, elections and time-outs less


class Stage:
    """One worker on one broker."""

    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.random = Random(f"stage {seed}")
        self.kafka = SimulatedKafka(Random(f"kafka {seed}"))
        for topic in TOPICS:
            self.kafka.create_topic(topic, PARTITIONS)
        self.kafka.create_topic(CONTROL, 1)
        self.endings: list[BaseException | None] = []
        self.worker = SimulatedWorker(
            "w",
            loop,
            Random(f"worker {seed}"),
            Disk(lambda items: None),
            Surroundings(connect=self.kafka.connections, objects=MemoryObjects(), partitions=PARTITIONS),
            lambda: None,
            self._ended,
        )
        self._number = 0

    def _ended(self, worker: SimulatedWorker) -> None:
        self.endings.append(worker.ending)

    async def load(self, seconds: float) -> None:
        """Send events to all partitions while the topic exists."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while loop.time() < until:
            for partition in range(PARTITIONS):
                if (SOURCE, partition) in self.kafka.logs:
                    self._number += 1
                    self.kafka.append(SOURCE, partition, [(b"k%d" % partition, b"%d 1" % self._number)])
            await asyncio.sleep(self.random.uniform(0.0, 0.3))

    async def begin(self) -> None:
        """Return a worker that works."""
        self.worker.start()
        await self.load(self.random.uniform(1.0, 2.0))

    async def ended(self, seconds: float) -> type[BaseException] | type[None]:
        """Return the error with which the worker ends by itself within so many seconds."""
        await self.load(seconds)
        assert 1 == len(self.endings) and not self.worker.is_running
        return type(self.endings.pop())

    def replace(self, topic: str) -> None:
        self.kafka.delete_topic(topic)
        self.kafka.create_topic(topic, PARTITIONS)

    def reasons(self) -> list[str]:
        """Return the reason of each halted partition."""
        assert self.worker.engine is not None and not self.worker.engine.served and self.worker.is_running
        return [halted.reason for _, halted in sorted(self.worker.engine.halted.items())]

    def is_all_committed(self) -> bool:
        return all(
            self.kafka.committed_offset(SOURCE, partition) == self.kafka.logs[SOURCE, partition].end
            for partition in range(PARTITIONS)
        )


def at_any_moment(scenario: Callable[[Stage], Awaitable[None]]) -> None:
    for seed in SEEDS:

        async def main(loop: SimulatedLoop, seed: int = seed) -> None:
            await scenario(Stage(loop, seed))

        simulate(main, Random(seed))


@pytest.mark.parametrize("topic", TOPICS)
def test_a_worker_ends_when_a_topic_is_made_again(topic: str) -> None:
    """The worker ends soon: its writes go to another topic than the topic of its start."""

    async def scenario(stage: Stage) -> None:
        await stage.begin()
        stage.replace(topic)
        assert TopicReplaced is await stage.ended(2 * WATCH_SECONDS)

    at_any_moment(scenario)


@pytest.mark.parametrize("topic", TOPICS)
def test_a_worker_waits_for_a_topic_that_is_gone(topic: str) -> None:
    """A worker waits for a topic that is gone. It ends if the topic stays away, or comes back as another topic."""

    async def scenario(stage: Stage) -> None:
        await stage.begin()
        stage.kafka.delete_topic(topic)
        if stage.random.random() < 0.5:
            assert TopicMissing is await stage.ended(2 * GONE_SECONDS)
        else:
            await stage.load(stage.random.uniform(0.0, GONE_SECONDS / 2))
            stage.kafka.create_topic(topic, PARTITIONS)
            assert TopicReplaced is await stage.ended(2 * WATCH_SECONDS)

    at_any_moment(scenario)


@pytest.mark.parametrize(("topic", "reason"), [(SOURCE, "source topic"), (CHANGELOG, "changelog")])
def test_a_state_of_another_topic_is_no_state(topic: str, reason: str) -> None:
    """The next process halts each partition with that reason, and commits nothing."""

    async def scenario(stage: Stage) -> None:
        await stage.begin()
        stage.replace(topic)
        await stage.ended(2 * WATCH_SECONDS)
        committed: list[str] = []
        stage.kafka.on_committed = lambda owner, batches, offsets: committed.append(owner)
        stage.worker.start()
        await stage.load(SETTLED_SECONDS)
        assert PARTITIONS == len([why for why in stage.reasons() if reason in why])
        assert [] == committed

    at_any_moment(scenario)


def test_a_source_that_lost_what_nobody_has_read_halts_its_partition() -> None:
    """The trimmed partition halts, and no record is skipped in silence. The other partition goes on."""

    async def scenario(stage: Stage) -> None:
        await stage.begin()
        stage.worker.kill()
        await stage.load(1.0)
        stage.kafka.trim(SOURCE, 0, stage.kafka.logs[SOURCE, 0].end)
        stage.worker.start()
        await stage.load(SETTLED_SECONDS)
        engine = stage.worker.engine
        assert engine is not None and {1} == engine.served
        assert "outside the source log" in engine.halted[0].reason

    at_any_moment(scenario)


def test_a_source_may_lose_what_is_committed() -> None:
    """Retention trims the log while the worker runs, and takes all records while the worker is away."""

    async def scenario(stage: Stage) -> None:
        await stage.begin()
        for _ in range(2):
            for partition in range(PARTITIONS):
                stage.kafka.trim(SOURCE, partition, max(0, stage.kafka.committed_offset(SOURCE, partition)))
            await stage.load(1.0)
            stage.worker.kill()
            await asyncio.sleep(SETTLED_SECONDS)
            stage.worker.start()
            await stage.load(1.0)
        await asyncio.sleep(SETTLED_SECONDS)
        assert [] == stage.endings and stage.is_all_committed()

    at_any_moment(scenario)


@pytest.mark.parametrize("feature", ["transaction.version", "group.version"])
def test_a_worker_does_not_start_on_a_cluster_that_is_too_old(feature: str) -> None:
    async def scenario(stage: Stage) -> None:
        del stage.kafka.features[feature]
        stage.worker.start()
        assert BrokerTooOld is await stage.ended(5.0)

    at_any_moment(scenario)


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "not kept"])
def test_a_worker_that_stands_by_keeps_its_transactional_id(is_kept: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise the coordinator forgets the id, and the worker ends as superseded when it is needed."""
    monkeypatch.setattr(main_loop, "KEEP_ID_SECONDS", 60.0 if is_kept else 1e9)

    async def scenario(stage: Stage) -> None:
        stage.kafka.transactions.expiration_seconds = 120.0
        await stage.begin()
        await asyncio.sleep(1_000)
        await stage.load(1.0)
        if is_kept:
            await asyncio.sleep(SETTLED_SECONDS)
            assert [] == stage.endings and stage.is_all_committed()
        else:
            assert Superseded is await stage.ended(SETTLED_SECONDS)

    at_any_moment(scenario)

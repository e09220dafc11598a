"""A state that begins before its outputs, on a simulated Kafka: workers are killed, leaders move, disks are wiped.

A stranger makes the changelog anew, with a META at offset 0 that names the outputs that stand. Afterwards the outputs
must be those of one fold of the whole source: each once, and the old ones where they stood.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any
from unittest.mock import patch

import pytest

from portfolio_stream.exactly_once.operations import SetAside
from portfolio_stream.exactly_once.repeats import Repeats
from portfolio_stream.exactly_once.store import META_KEY, SKIP_KEY, Meta, encode_meta, read_meta
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, OUTPUT, POISON, SOURCE
from tests.simulation.disk import Disk
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.loop import SimulatedLoop, simulate
from tests.simulation.worker import SimulatedWorker, Surroundings

PARTITIONS = 3
POLL_SECONDS = 0.05
PATIENCE_SECONDS = 300.0  # sessions and transactions time out, and beliefs last 15 s
MARKERS_SECONDS = 30.0  # then every log has the markers of all transactions
SEEDS = 6

#: offset, timestamp, key, value
Found = tuple[int, int, bytes | None, bytes | None]


class RewoundWorld:
    def __init__(self, loop: SimulatedLoop, seed: int) -> None:
        self.random = Random(f"repeat {seed}")
        self.kafka = SimulatedKafka(Random(f"kafka {seed}"), brokers=3)
        for topic in (SOURCE, OUTPUT, DEAD, CHANGELOG):
            self.kafka.create_topic(topic, PARTITIONS)
        self.kafka.create_topic(CONTROL, 1)
        surroundings = Surroundings(connect=self.kafka.connections, objects=MemoryObjects(), partitions=PARTITIONS)
        self.workers = [
            SimulatedWorker(
                name,
                loop,
                Random(f"{name} {seed}"),
                Disk(lambda _: None),
                surroundings,
                lambda: None,
                lambda _: None,
            )
            for name in ("w0", "w1")
        ]

    def send(self, count: int) -> None:
        for partition in range(PARTITIONS):
            values = [
                b"none" if self.random.random() < 0.1 else b"%d %d" % (self.random.randrange(count), number)
                for number in range(count)
            ]
            keys = [b"account %d" % self.random.randrange(6) for _ in values]
            self.kafka.append(SOURCE, partition, zip(keys, values, strict=True))

    def poison(self) -> None:
        for partition in range(PARTITIONS):
            self.kafka.append(SOURCE, partition, [(b"account 1", POISON)])

    def outputs(self) -> dict[tuple[str, int], list[Found]]:
        return {
            (topic, partition): [
                (record.offset, record.timestamp, record.key, record.value)
                for record in self.kafka.read_committed(topic, partition)
            ]
            for topic in (OUTPUT, DEAD)
            for partition in range(PARTITIONS)
        }

    def committed(self) -> int:
        return sum(max(0, self.kafka.committed_offset(SOURCE, partition)) for partition in range(PARTITIONS))

    def is_folded(self) -> bool:
        return self.committed() == sum(self.kafka.logs[SOURCE, partition].end for partition in range(PARTITIONS))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Start the workers again that have ended by themselves, and move poison to the dead letters."""
        deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while not condition():
            for worker in self.workers:
                if not worker.is_running:
                    worker.start()
                engine = worker.engine
                for partition, halt in {} if engine is None else dict(engine.halted).items():
                    assert halt.record is not None and halt.record.value == POISON, halt.reason
                    await engine.ask(SetAside(partition, halt.record.offset))  # type: ignore[union-attr]
            assert asyncio.get_running_loop().time() < deadline, "the workers do not come to the end"
            await asyncio.sleep(POLL_SECONDS)

    def kill(self) -> None:
        for worker in self.workers:
            worker.kill()

    def rewind(self) -> None:
        """Make the changelog anew. It has META at offset 0, and operators' decisions, which are ahead now."""
        rows: dict[int, dict[bytes, bytes | None]] = {}
        for partition in range(PARTITIONS):
            rows[partition] = {record.key: record.value for record in self.kafka.read_committed(CHANGELOG, partition)}  # type: ignore[misc]
        self.kafka.delete_topic(CHANGELOG)
        self.kafka.create_topic(CHANGELOG, PARTITIONS)
        for partition, known in rows.items():
            meta = read_meta(known[META_KEY])
            assert meta is not None
            new = Meta(
                topic_id=meta.topic_id,
                offset=0,
                partitions=meta.partitions,
                changelog=self.kafka.logs[CHANGELOG, partition].topic_id.hex,
                fold=meta.fold,
                repeat={topic: (0, self.kafka.logs[topic, partition].end) for topic in (OUTPUT, DEAD)},
            )
            decisions = [(key, value or b"") for key, value in known.items() if key.startswith(SKIP_KEY)]
            assert decisions
            self.kafka.append(CHANGELOG, partition, [*decisions, (META_KEY, encode_meta(new))])
            assert self.kafka.move_group_offset(partition, -(1 << 40))
        for worker in self.workers:
            worker.disk.wipe()

    async def run(self) -> None:
        self.send(150)
        self.poison()
        self.send(150)
        await self.until(self.is_folded)
        await asyncio.sleep(MARKERS_SECONDS)
        self.kill()
        before = self.outputs()
        self.rewind()
        self.send(20)
        for _ in range(4):
            least = self.committed()
            await self.until(lambda least=least: self.committed() > least or self.is_folded())  # type: ignore[misc]
            self.kill()
            if self.random.random() < 0.5:
                self.random.choice(self.workers).disk.wipe()
            self.kafka.move_leaders()
        self.send(20)
        await self.until(self.is_folded)
        await asyncio.sleep(MARKERS_SECONDS)
        after = self.outputs()
        for place, found in before.items():
            assert found == after[place][: len(found)], f"{place} has other outputs"
        for partition in range(PARTITIONS):
            sources = [int((value or b"").split()[0]) for _, _, _, value in after[OUTPUT, partition]]
            assert sources == sorted(set(sources)), f"partition {partition} has outputs twice"
            source = self.kafka.read_committed(SOURCE, partition)
            refused = [record.value for record in source if record.value in (b"none", POISON)]
            assert refused == [value for _, _, _, value in after[DEAD, partition]]


def run(seed: int) -> None:
    async def main(loop: SimulatedLoop) -> Any:
        return await RewoundWorld(loop, seed).run()

    simulate(main, Random(f"loop {seed}"))


@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")  # of killed workers
@pytest.mark.parametrize("seed", range(SEEDS))
def test_outputs_stand_once(seed: int) -> None:
    """Whatever is killed and wiped amid the repeat. Operators' decisions about records that are folded again count."""
    run(seed)


@pytest.mark.filterwarnings("ignore:coroutine '.*' was never awaited:RuntimeWarning")  # of killed workers
def test_outputs_that_are_written_again_are_found() -> None:
    """The test above can fail: here a share gathers nothing, so the fold's outputs are written."""
    with patch.object(Repeats, "gathered", lambda *_: {}), pytest.raises(AssertionError, match=r"twice|halt|not given"):
        run(0)

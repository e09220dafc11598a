"""The simulation's own parts: time, processes, disks, the judge, plans and how they are cut down."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import pytest

from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.store import META_KEY, SKIP_KEY, Meta
from tests.simulation.disk import Disk, DiskFull
from tests.simulation.judge import Anomaly, Judge
from tests.simulation.ledger import CHANGELOG, DEAD, OUTPUT, Replay
from tests.simulation.loop import Deadlock, Process, SimulatedLoop, simulate
from tests.simulation.plan import PROFILES, Plan, make
from tests.simulation.shrink import shrink

# -- time and processes


def test_time_passes_only_while_nobody_works() -> None:
    """A day takes no time, and every clock of the process says so."""

    async def main(loop: SimulatedLoop) -> float:
        before = time.monotonic(), time.time()
        await asyncio.sleep(86_400)
        assert (86_400, 86_400) == (round(time.monotonic() - before[0]), round(time.time() - before[1]))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(5):
                await asyncio.Event().wait()
        return loop.time()

    began = time.monotonic()
    assert 86_405 == simulate(main, Random(1))
    assert time.monotonic() - began < 60


def test_a_killed_process_takes_no_further_step() -> None:
    """Not even a `finally`; one that is paused goes on where it stood, when it is woken."""
    steps: list[tuple[str, float]] = []

    async def work(name: str) -> None:
        try:
            while True:
                await asyncio.sleep(1)
                steps.append((name, time.monotonic()))
        finally:
            steps.append((name, -1))

    async def main(loop: SimulatedLoop) -> None:
        killed, paused = Process("killed"), Process("paused")
        killed.run(loop.create_task, work("killed"))
        paused.run(loop.create_task, work("paused"))
        await asyncio.sleep(1.5)
        killed.kill()
        paused.pause()
        await asyncio.sleep(2)
        paused.wake(loop)
        await asyncio.sleep(1.2)

    simulate(main, Random(1))
    assert [("killed", 1), ("paused", 1), ("paused", 3.5), ("paused", 4.5)] == steps[:4]


def test_a_process_dies_before_the_step_of_that_number() -> None:
    """A step is what stands between two awaits."""
    steps: list[int] = []

    async def work() -> None:
        for number in range(10):
            steps.append(number)
            await asyncio.sleep(0)

    async def main(loop: SimulatedLoop) -> None:
        process = Process("p")
        process.dies_at = 4
        process.run(loop.create_task, work())
        await asyncio.sleep(1)
        assert not process.is_alive and process.died.is_set()

    simulate(main, Random(1))
    assert [0, 1, 2] == steps


def test_a_world_without_anything_to_do_fails() -> None:
    """Instead of waiting for ever."""

    async def main(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(Deadlock):
        simulate(main, Random(1))


# -- disks


def test_a_crash_of_the_machine_takes_the_newest_writes_alone() -> None:
    """What is left was there before; deletions come back as well."""
    disk = Disk(lambda items: None)
    database = disk.open(Path("d"))
    database.write([(b"a", b"1"), (b"b", b"1")])
    database.write([(b"a", b"2"), (b"b", None)])
    database.write([(b"c", b"3")])
    disk.tear(2)
    assert [(b"a", b"1"), (b"b", b"1")] == list(disk.scan())


def test_a_full_disk_takes_nothing() -> None:
    """And keeps what it has."""
    disk = Disk(lambda items: None)
    database = disk.open(Path("d"))
    database.write([(b"a", b"1")])
    disk.is_full = True
    with pytest.raises(DiskFull):
        database.write([(b"a", b"2")])
    assert b"1" == database.get(b"a")


# -- the judge: each way in which a transaction can be wrong is caught

SOURCE_RECORDS = [
    MemoryRecord(0, 1, b"k", b"1 5"),
    MemoryRecord(1, 2, b"k", b"none none"),
    MemoryRecord(2, 3, b"k", b"2 -1"),
]


def right() -> dict[tuple[str, int], list[MemoryRecord]]:
    """What a transaction of all three must carry."""
    replay = Replay()
    replay.add(SOURCE_RECORDS)
    outputs = [MemoryRecord(n, *output) for n, output in enumerate(replay.outputs)]
    dead = [MemoryRecord(n, *letter) for n, letter in enumerate(replay.dead)]
    tables = [MemoryRecord(n, 3, key, value) for n, (key, value) in enumerate(replay.tables().items())]
    meta = MemoryRecord(9, 3, META_KEY, msgspec.msgpack.encode(meta_of(3)))
    return {(OUTPUT, 0): outputs, (DEAD, 0): dead, (CHANGELOG, 0): [*tables, meta]}


def meta_of(offset: int) -> Meta:
    return Meta(topic_id="t", offset=offset, partitions=1, changelog="c", fold="f")


def judge() -> Judge:
    return Judge(
        lambda partition, start, end: [r for r in SOURCE_RECORDS if start <= r.offset < end], lambda text: None
    )


def test_the_judge_takes_what_is_right() -> None:
    """Or everything else would prove nothing."""
    judge().decided("w", right(), {0: 3})


def without_last(place: tuple[str, int]) -> Callable[[dict[Any, list[MemoryRecord]]], None]:
    def change(found: dict[Any, list[MemoryRecord]]) -> None:
        found[place].pop(-2 if place[0] == CHANGELOG else -1)

    return change


def repeated(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0].append(found[OUTPUT, 0][-1])


def swapped(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0].reverse()


def changed(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 0][0].value = b"0 1 6 1"


def foreign(found: dict[Any, list[MemoryRecord]]) -> None:
    found[OUTPUT, 1] = found.pop((OUTPUT, 0))


def other_meta(found: dict[Any, list[MemoryRecord]]) -> None:
    found[CHANGELOG, 0][-1].value = msgspec.msgpack.encode(meta_of(2))


@pytest.mark.parametrize(
    "change",
    [
        without_last((OUTPUT, 0)), without_last((DEAD, 0)), without_last((CHANGELOG, 0)), repeated, swapped, changed,
        foreign, other_meta,
    ],
)  # fmt: skip
def test_the_judge_sees_what_is_wrong(change: Callable[[Mapping[Any, Sequence[MemoryRecord]]], None]) -> None:
    """Missing, repeated, out of order, changed, of another partition; a state or META that differs."""
    found = right()
    change(found)
    with pytest.raises(Anomaly):
        judge().decided("w", found, {0: 3})


@pytest.mark.parametrize("offset", [2, 3])
def test_the_judge_sees_offsets_that_do_not_grow(offset: int) -> None:
    """Two workers that both write for one partition."""
    made = judge()
    made.decided("w", right(), {0: 3})
    with pytest.raises(Anomaly):
        made.decided("w2", {}, {0: offset})


def test_the_judge_sees_a_store_ahead_of_the_commit() -> None:
    """And a worker that serves what another has superseded."""
    made = judge()
    with pytest.raises(Anomaly, match="stored"):
        made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    made.decided("w2", right(), {0: 3})
    made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    with pytest.raises(Anomaly, match="serves"):
        made.served("w", "w", 0, 2)


def test_the_judge_sees_a_store_with_what_is_not_committed() -> None:
    """A value that no transaction has, and a state that is older than it was; a wiped store may begin again."""
    made = judge()
    made.decided("w", right(), {0: 3})
    committed = right()[CHANGELOG, 0][0]
    made.stored("w", [(b"\0\0" + (committed.key or b""), committed.value)])
    with pytest.raises(Anomaly, match="as no committed transaction has it"):
        made.stored("w", [(b"\0\0" + (committed.key or b""), b"7 7")])
    made.stored("w", [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(3)))])
    older: list[Item] = [(b"\0\0" + META_KEY, msgspec.msgpack.encode(meta_of(2)))]
    with pytest.raises(Anomaly, match="went back"):
        made.stored("w", older)
    made.stored("w", None)
    made.stored("w", older)


def test_the_judge_sees_a_record_that_was_given_up_needlessly() -> None:
    """An operator's decision is for what no fold takes."""
    found = right()
    found[CHANGELOG, 0].insert(0, MemoryRecord(8, 3, SKIP_KEY + (0).to_bytes(8, "big"), b""))
    with pytest.raises(Anomaly, match="given up"):
        judge().decided("w", found, {0: 3})


# -- plans


def test_a_plan_is_a_function_of_its_seed() -> None:
    """Another seed is another plan."""
    storm = PROFILES["storm"]
    assert make(1, storm) == make(1, storm) != make(2, storm)


@pytest.mark.parametrize("needed", [(3,), (0, 7), (2, 11, 30)])
def test_a_plan_is_cut_down_to_what_it_takes(needed: tuple[int, ...]) -> None:
    """All that is left is needed."""
    plan = make(4, PROFILES["storm"])
    cause = {plan.faults[index] for index in needed}

    def fails(smaller: Plan) -> bool:
        return cause <= set(smaller.faults)

    assert cause == set(shrink(plan, fails).faults)

"""The parts of the simulation: time, processes, disks, plans and the shrinking of plans."""

import asyncio
import gc
import time
from pathlib import Path
from random import Random

import pytest

from portfolio_stream.exactly_once.state_memory import DEFAULT
from tests.simulation.disk import Disk, DiskFull
from tests.simulation.loop import Deadlock, Process, SimulatedLoop, simulate
from tests.simulation.plan import PROFILES, Plan, make
from tests.simulation.shrink import shrink

# -- time and processes


def test_time_passes_only_while_nobody_works() -> None:
    """A virtual day takes no real time, and every clock of the process shows the virtual time."""

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
    """A killed process runs no `finally`. A paused process goes on where it stood when it is woken."""
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


def test_a_killed_process_that_would_wait_in_its_finally_is_taken_apart_in_silence() -> None:
    """After the end of the loop nothing can wait. Python would report that as an error of the test that runs next."""
    begun: list[str] = []

    async def work() -> None:
        other = asyncio.create_task(asyncio.sleep(3600))
        try:
            begun.append("work")
            await asyncio.sleep(3600)
        finally:
            await asyncio.wait((other,))

    async def main(loop: SimulatedLoop) -> None:
        process = Process("killed")
        process.run(loop.create_task, work())
        await asyncio.sleep(1)
        process.kill()

    simulate(main, Random(1))
    gc.collect()
    assert ["work"] == begun


def test_a_process_dies_before_the_step_of_that_number() -> None:
    """A step is the code between two awaits."""
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
    """A simulation in which everybody waits ends with an error."""

    async def main(loop: SimulatedLoop) -> None:
        await loop.create_future()

    with pytest.raises(Deadlock):
        simulate(main, Random(1))


# -- disks


def test_a_crash_of_the_machine_takes_the_newest_writes_alone() -> None:
    """The older values are left, and deleted values are back."""
    disk = Disk(lambda items: None)
    database = disk.open(Path("d"), DEFAULT)
    database.write([(b"a", b"1"), (b"b", b"1")])
    database.write([(b"a", b"2"), (b"b", None)])
    database.write([(b"c", b"3")])
    disk.tear(2)
    assert [(b"a", b"1"), (b"b", b"1")] == list(disk.scan())


def test_a_full_disk_takes_nothing() -> None:
    """A full disk refuses writes and keeps its values."""
    disk = Disk(lambda items: None)
    database = disk.open(Path("d"), DEFAULT)
    database.write([(b"a", b"1")])
    disk.is_full = True
    with pytest.raises(DiskFull):
        database.write([(b"a", b"2")])
    assert b"1" == database.get(b"a")


def test_a_copy_of_a_disk_stays_what_it_was() -> None:
    """Later writes and a wipe do not change the copy. A full disk makes none."""
    disk = Disk(lambda items: None)
    database = disk.open(Path("d"), DEFAULT)
    database.write([(b"a", b"1"), (b"b", b"1")])
    database.copy(Path("copy"))
    database.write([(b"a", b"2"), (b"b", None)])
    disk.wipe()
    cursor, found = disk.copies[Path("copy")].cursor(), []
    cursor.seek(b"")
    while cursor.valid():
        found.append((cursor.key(), cursor.value()))
        cursor.next()
    assert [(b"a", b"1"), (b"b", b"1")] == found
    disk.is_full = True
    with pytest.raises(DiskFull):
        database.copy(Path("other"))
    assert [Path("copy")] == list(disk.copies)


# -- plans


def test_a_plan_is_a_function_of_its_seed() -> None:
    """Equal seeds give equal plans, and another seed gives another plan."""
    storm = PROFILES["storm"]
    assert make(1, storm) == make(1, storm) != make(2, storm)


@pytest.mark.parametrize("needed", [(3,), (0, 7), (2, 11, 30)])
def test_a_plan_is_cut_down_to_what_it_takes(needed: tuple[int, ...]) -> None:
    """Each fault that is left is needed."""
    plan = make(4, PROFILES["storm"])
    cause = {plan.faults[index] for index in needed}

    def fails(smaller: Plan) -> bool:
        return cause <= set(smaller.faults)

    assert cause == set(shrink(plan, fails).faults)

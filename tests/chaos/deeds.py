"""Each kind of deed, by name. A deed ends when its damage is mended, or was meant to stay."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.chaos.chaos import (
    BROKERS,
    LEAST_WORKERS,
    MOST_WORKERS,
    STOP_SECONDS,
    STORE_ENDING,
    Chaos,
    NothingToDo,
)
from tests.chaos.plan import Deed
from tests.integration.workers import until
from tests.proxy.connection import ProxyLink

Act = Callable[[Chaos, Deed], Awaitable[None]]
FAKETIMES = tuple(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))  # Debian's package faketime
SMALL_DISK = "2m"  # a store's log alone outgrows it within seconds
ENOUGH_DISK = "1g"
FULL_SECONDS = 120.0  # until a small disk is full
SLOW_BYTES_A_SECOND = 500_000.0  # for each connection: a worker at full load needs more
FLIPPED_BYTES = 16
SKEWS = ("+2h", "-3h", "+3d", "-2d")

# -- workers


async def kill(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        worker.kill()
        await asyncio.sleep(deed.seconds * (deed.amount < 0.5))
        worker.start()


async def kill_two(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as one, chaos.a_worker(deed) as other:
        one.kill()
        other.kill()
        await asyncio.sleep(deed.seconds)
        one.start()
        other.start()


async def stop(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        await chaos.serving(worker)  # a process that has not installed its signal handlers yet just dies
        await chaos.stop(worker)
        await asyncio.sleep(deed.seconds)
        worker.start()


async def pause(chaos: Chaos, deed: Deed) -> None:
    """A worker stands still for longer than the session time-out, and wakes as a zombie."""
    async with chaos.a_worker(deed) as worker:
        await chaos.paused(worker, 3.5 + deed.seconds)


async def nap(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        await chaos.paused(worker, min(2.5, deed.seconds))


async def replace(chaos: Chaos, deed: Deed) -> None:
    """A worker dies for good and another one comes. The open transaction of the dead worker must time out."""
    async with chaos.a_worker(deed) as worker, chaos.a_new_worker() as other:
        worker.kill()
        chaos.workers.remove(worker)
        other.start()
        chaos.workers.append(other)
        await chaos.serving(other)


async def add(chaos: Chaos, deed: Deed) -> None:
    if len(chaos.workers) >= MOST_WORKERS:
        raise NothingToDo("there are enough workers")
    async with chaos.a_new_worker() as worker:
        worker.start()
        chaos.workers.append(worker)
        await chaos.serving(worker)


async def remove(chaos: Chaos, deed: Deed) -> None:
    if len(chaos.workers) <= LEAST_WORKERS:
        raise NothingToDo("there are too few workers")
    async with chaos.a_worker(deed) as worker:
        chaos.workers.remove(worker)
        await chaos.serving(worker)
        await chaos.stop(worker)


async def savage_rebalances(chaos: Chaos, deed: Deed) -> None:
    """A worker joins and leaves, several times."""
    async with chaos.a_new_worker() as worker:
        for _ in range(3):
            worker.start()
            await until(lambda: bool(worker.events("engine started")), 30, "it has joined", worker)
            await asyncio.sleep(deed.amount)
            if deed.target % 2:
                worker.kill()
            else:
                await chaos.stop(worker)


# -- networks


async def cut_off(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        network = chaos.stage.networks[worker.name]
        await network.cut()
        await asyncio.sleep(deed.seconds)
        await network.heal()


async def cut_one_broker(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        network = chaos.stage.networks[worker.name]
        await network.cut(deed.target % BROKERS)
        await asyncio.sleep(deed.seconds)
        await network.heal()


async def freeze(chaos: Chaos, deed: Deed) -> None:
    """No connection breaks, and no frame comes through. Then all frames come late."""
    async with chaos.a_worker(deed) as worker:
        network = chaos.stage.networks[worker.name]
        await network.freeze()
        await asyncio.sleep(deed.seconds)
        await network.heal()


async def slow_network(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        network = chaos.stage.networks[worker.name]
        link = ProxyLink(0.02 + 0.2 * deed.amount, SLOW_BYTES_A_SECOND if deed.target % 2 else float("inf"))
        await network.slow(link, link)
        await asyncio.sleep(deed.seconds)
        await network.slow()


# -- brokers


async def _away(chaos: Chaos, deed: Deed, node: int, lose: Callable[[int], None]) -> None:
    await asyncio.to_thread(lose, node)
    await asyncio.sleep(deed.seconds)
    await asyncio.to_thread(chaos.stage.cluster.start_broker, node)


async def kill_broker(chaos: Chaos, deed: Deed) -> None:
    async with chaos.the_broker():
        await _away(chaos, deed, deed.target % BROKERS, chaos.stage.cluster.kill)


async def kill_group_coordinator(chaos: Chaos, deed: Deed) -> None:
    async with chaos.the_broker():
        node, _ = await chaos.coordinators()
        await _away(chaos, deed, node, chaos.stage.cluster.kill)


async def kill_transaction_coordinator(chaos: Chaos, deed: Deed) -> None:
    async with chaos.the_broker():
        _, node = await chaos.coordinators()
        await _away(chaos, deed, node, chaos.stage.cluster.kill)


async def kill_controller(chaos: Chaos, deed: Deed) -> None:
    async with chaos.the_broker():
        await _away(chaos, deed, await chaos.controller(), chaos.stage.cluster.kill)


async def stop_broker(chaos: Chaos, deed: Deed) -> None:
    async with chaos.the_broker():
        await _away(chaos, deed, deed.target % BROKERS, chaos.stage.cluster.stop_broker)


async def pause_broker(chaos: Chaos, deed: Deed) -> None:
    """A broker stands still and wakes with old data: it may take itself for the leader of any partition."""
    async with chaos.the_broker():
        process = chaos.stage.cluster.status().brokers[deed.target % BROKERS]
        assert process.pid is not None
        os.kill(process.pid, signal.SIGSTOP)
        await asyncio.sleep(deed.seconds)
        os.kill(process.pid, signal.SIGCONT)


# -- machines


async def small_disk(chaos: Chaos, deed: Deed) -> None:
    """The disk fills up: the worker ends and names the disk. With more room the worker starts again."""
    if os.geteuid() != 0:
        raise NothingToDo("only root can mount")
    async with chaos.a_new_worker() as worker:
        folder = chaos.stage.data(worker.name)
        folder.mkdir(parents=True)
        await _run("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(folder))
        try:
            worker.start()
            await until(lambda: chaos.has_ended(worker), FULL_SECONDS, "its disk is full", worker)
            assert str(folder) in worker.text, worker.text[-4000:]
            chaos.note_ending(worker, STORE_ENDING)
            await _run("mount", "-o", f"remount,size={ENOUGH_DISK}", str(folder))
            worker.start()
            await chaos.serving(worker)
            await chaos.stop(worker)
        finally:
            worker.end()
            await _run("umount", str(folder))


async def wrong_clock(chaos: Chaos, deed: Deed) -> None:
    """A worker's wall clock is hours or days off. Its monotonic clock is right, as on a real machine."""
    if not FAKETIMES:
        raise NothingToDo("Debian's faketime is not installed")
    environment = {
        "LD_PRELOAD": str(FAKETIMES[0]),
        "FAKETIME": SKEWS[deed.target % len(SKEWS)],
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",  # the variable's name since 0.9.10
    }
    async with chaos.a_new_worker(**environment) as worker:
        worker.start()
        await chaos.serving(worker)
        await asyncio.sleep(deed.seconds)
        if deed.amount < 0.5:
            await chaos.stop(worker)
        else:
            worker.kill()


async def torn_store(chaos: Chaos, deed: Deed) -> None:
    """The machine crashed: the newest part of the store's log was never written."""
    async with chaos.a_worker(deed) as worker:
        worker.kill()
        logs = sorted((chaos.stage.data(worker.name) / "store").glob("*.log"))
        if logs:
            os.truncate(logs[-1], int(logs[-1].stat().st_size * deed.amount))
        worker.start()
        await chaos.serving(worker)


async def damaged_store(chaos: Chaos, deed: Deed) -> None:
    """A table of the store is gone, cut or changed. The worker fails when it opens the store or reads that block.

    Until then the worker may go on: a damaged block that nobody reads does no harm.
    """
    async with chaos.a_worker(deed) as worker:
        worker.kill()
        tables = sorted((chaos.stage.data(worker.name) / "store").glob("*.sst"))
        if tables:
            chaos.damaged.add(worker.name)
            (_lose, _cut, _flip, _flip)[deed.target % 4](tables[deed.target % len(tables)], deed.amount)
        worker.start()
        await chaos.serving(worker)


def _lose(table: Path, amount: float) -> None:
    table.unlink()


def _cut(table: Path, amount: float) -> None:
    os.truncate(table, int(table.stat().st_size * amount))


def _flip(table: Path, amount: float) -> None:
    with table.open("r+b") as file:
        file.seek(int(table.stat().st_size * amount))
        there = file.read(FLIPPED_BYTES)
        file.seek(-len(there), os.SEEK_CUR)
        file.write(bytes(byte ^ 0xFF for byte in there))


async def lost_folder(chaos: Chaos, deed: Deed) -> None:
    async with chaos.a_worker(deed) as worker:
        worker.kill()
        await asyncio.to_thread(shutil.rmtree, chaos.stage.data(worker.name))
        chaos.damaged.discard(worker.name)
        worker.start()
        await chaos.serving(worker)


async def _run(*command: str) -> None:
    await asyncio.to_thread(subprocess.run, command, check=True, timeout=STOP_SECONDS)


DEEDS: dict[str, Act] = {
    act.__name__.replace("_", "-"): act
    for act in (
        kill, kill_two, stop, pause, nap, replace, add, remove, savage_rebalances, cut_off, cut_one_broker, freeze,
        slow_network, kill_broker, kill_group_coordinator, kill_transaction_coordinator, kill_controller, stop_broker,
        pause_broker, small_disk, wrong_clock, torn_store, damaged_store, lost_folder,
    )
}  # fmt: skip

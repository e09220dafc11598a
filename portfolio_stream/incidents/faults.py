"""The faults of game days: each begins with the block and is undone at its end, also after Ctrl-C."""

import asyncio
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from portfolio_stream.errors import GameDayRefused
from portfolio_stream.incidents.host import OURS, GameHost
from portfolio_stream.kafka.client import client_options

CausedFault = Callable[[GameHost], AbstractAsyncContextManager[None]]

BURST_EVENTS = 15_000  # half as many again as the alert's limit
AWAY_BROKER = 2
SMALL_DISK_MEBIBYTES = 400
FILLED_SHARE = 0.88
SHORT_STOP_SECONDS, BETWEEN_STOPS_SECONDS = 0.9, 1.2  # far below the sessions of brokers and workers
DEAD_SECONDS = 5.0  # its partitions have no owner until its session ends: checkpoints fail
ALIVE_SECONDS = 8.0  # it has partitions again by then
MORE_EVENTS = 1_400  # a second: some 300 wait for a commit
LONG_INTERVAL_MILLISECONDS = 400  # a record waits 0.2 s on average: no event takes half a second


@asynccontextmanager
async def all_brokers_killed(host: GameHost) -> AsyncIterator[None]:
    for node in range(host.cluster.brokers):
        await asyncio.to_thread(host.cluster.kill, node)
    yield
    await asyncio.to_thread(host.cluster.start)


@asynccontextmanager
async def one_broker_killed(host: GameHost) -> AsyncIterator[None]:
    await asyncio.to_thread(host.cluster.kill, AWAY_BROKER)
    yield
    await asyncio.to_thread(host.cluster.start_broker, AWAY_BROKER)


@asynccontextmanager
async def all_workers_killed(host: GameHost) -> AsyncIterator[None]:
    for name in host.workers:
        await host.kill_worker(name)
    yield
    for name in host.workers:
        await host.start_worker(name)


@asynccontextmanager
async def an_output_doubled(host: GameHost) -> AsyncIterator[None]:
    """Write an output a second time, by a plain producer. Nobody can take it back: the log keeps it.

    It is undone as an operator does it, who has decided what the readers of the outputs do about the record: a new
    auditor begins with a savepoint that was made after the record. It judges nothing before that savepoint any more.
    """
    options = client_options(host.settings)
    at = TopicPartition(host.settings.output_topic, 0)
    consumer = AIOKafkaConsumer(
        **options, auto_offset_reset="earliest", enable_auto_commit=False, isolation_level="read_committed"
    )
    async with consumer:
        consumer.assign([at])
        await consumer.seek_to_beginning(at)
        output = await asyncio.wait_for(consumer.getone(at), 60)
    async with AIOKafkaProducer(**options) as producer:
        await producer.send_and_wait(
            at.topic, output.value, key=output.key, partition=at.partition, headers=output.headers
        )
    yield
    await host.type("savepoint", "create")
    await host.auditor.stop(lambda _: None)
    await host.start_auditor("--from=latest")


@asynccontextmanager
async def a_burst_while_paused(host: GameHost) -> AsyncIterator[None]:
    await host.type("job", "pause")
    burst = await host.start("burst", *OURS, "produce", f"--events={BURST_EVENTS}", "--rate=0", "--seed=1")
    await burst.wait()
    yield
    await host.type("job", "resume")


@asynccontextmanager
async def a_worker_dies_again_and_again(host: GameHost) -> AsyncIterator[None]:
    name = next(iter(host.workers))
    is_over = asyncio.Event()

    async def die() -> None:
        while not is_over.is_set():
            await host.kill_worker(name)
            await asyncio.sleep(DEAD_SECONDS)
            await host.start_worker(name)
            with suppress(TimeoutError):
                await asyncio.wait_for(is_over.wait(), ALIVE_SECONDS)

    dying = asyncio.create_task(die())
    try:
        yield
    finally:
        is_over.set()
        await dying


@asynccontextmanager
async def brokers_stand_still_now_and_then(host: GameHost) -> AsyncIterator[None]:
    pids = [broker.pid for broker in host.cluster.status().brokers if broker.pid is not None]

    async def stop_and_go() -> None:
        while True:
            with _standing_still(pids):
                await asyncio.sleep(SHORT_STOP_SECONDS)
            await asyncio.sleep(BETWEEN_STOPS_SECONDS)

    stopping = asyncio.create_task(stop_and_go())
    try:
        yield
    finally:
        stopping.cancel()
        await asyncio.wait({stopping})


@contextmanager
def _standing_still(pids: list[int]) -> Iterator[None]:
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


@asynccontextmanager
async def a_full_disk(host: GameHost) -> AsyncIterator[None]:
    """The system's folder is a small file system (`on_a_small_disk`). A file of another program fills it."""
    room = shutil.disk_usage(host.disk)
    file = host.disk / "filling"
    await asyncio.to_thread(_fill, file, int(room.total * FILLED_SHARE) - room.used)
    try:
        yield
    finally:
        file.unlink(missing_ok=True)


def _fill(file: Path, size: int) -> None:
    with file.open("wb") as content:
        os.posix_fallocate(content.fileno(), 0, size)


@asynccontextmanager
async def a_long_commit_interval(host: GameHost) -> AsyncIterator[None]:
    """More events come, to workers that commit seldom. Little load before it: a slow machine has a lag of its own."""
    await host.restart_workers(PORTFOLIO_COMMIT_INTERVAL_MS=str(LONG_INTERVAL_MILLISECONDS))
    more = await host.start("more", *OURS, "produce", f"--rate={MORE_EVENTS}", "--seed=2")
    yield
    await more.stop(lambda _: None)
    await host.restart_workers()


@contextmanager
def on_a_small_disk(name: str, folder: Path) -> Iterator[None]:
    """Make the folder a file system of its own, in memory. Raises GameDayRefused."""
    if os.geteuid() != 0:
        raise GameDayRefused(
            name,
            "it needs a small file system, and only root can mount one",
            "Run it as root, or in a container with CAP_SYS_ADMIN.",
        )
    folder.mkdir(parents=True, exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK_MEBIBYTES}m", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        raise GameDayRefused(name, f"mount says {mounted.stderr.strip()}", "Run it where root may mount a tmpfs.")
    try:
        yield
    finally:
        subprocess.run(["umount", str(folder)], capture_output=True, check=False)

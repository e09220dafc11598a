"""The watcher on a real broker that dies: what it sees, counts and keeps, and how it goes on."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.kafka.topics import describe_topics
from portfolio_stream.settings import Settings
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.watching import Watcher
from tests.integration.auditor import COMMAND
from tests.integration.workers import Worker, until
from tests.ports import free_port

pytestmark = pytest.mark.kafka
SECONDS = 60.0  # a busy machine; every condition is awaited
PARTITIONS = 2


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A broker that these tests stop for a while, kill and move: the last of them ends it."""
    with Cluster(tmp_path_factory.mktemp("watched") / "broker", free_port()) as running:
        yield running


@pytest.fixture
def moved() -> int:
    """The port at which the broker comes back."""
    return free_port()


@pytest.fixture
def settings(cluster: Cluster, moved: int, tmp_path: Path) -> Settings:
    return Settings(
        bootstrap_servers=f"{cluster.bootstrap_servers},127.0.0.1:{moved}",
        data_dir=tmp_path,
        partitions=PARTITIONS,
        auditor=f"127.0.0.1:{free_port()}",  # nobody audits
    )


@pytest.fixture
def elsewhere(cluster: Cluster, moved: int) -> Iterator[Cluster]:
    """The same broker at another port, once it is started. It ends with the test."""
    yield (other := Cluster(cluster.data_dir, moved))
    other.stop()


@asynccontextmanager
async def watching(settings: Settings) -> AsyncIterator[Watcher]:
    """A watcher that looks until the block ends."""
    folder = WatchFolder(settings)
    with folder.locked():
        watcher = Watcher(settings, folder)
        task = asyncio.create_task(watcher.run())
        try:
            yield watcher
        finally:
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None, task.exception()


@pytest.fixture
def worker(settings: Settings, tmp_path: Path) -> Iterator[Worker]:
    environment = {
        "PORTFOLIO_BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "PORTFOLIO_DATA_DIR": str(tmp_path / "worker"),
        "PORTFOLIO_INSTANCE_ID": "w1",
        "PORTFOLIO_WEB_PORT": str(free_port()),
        "PORTFOLIO_PARTITIONS": str(PARTITIONS),
    }
    started = Worker("w1", environment, tmp_path / "worker.log")
    yield started
    started.end()


def is_live(watcher: Watcher, count: int) -> Callable[[], bool]:
    return lambda: watcher.figures.kafka is not None and watcher.figures.kafka.live == count


def completes(watcher: Watcher) -> Callable[[], bool]:
    """More round trips complete than have until now."""
    before = watcher.probe.trips.outcomes["completed"]
    return lambda: watcher.probe.trips.outcomes["completed"] > before + 1


def fails(watcher: Watcher) -> Callable[[], bool]:
    before = watcher.probe.trips.outcomes["failed"]
    return lambda: watcher.probe.trips.outcomes["failed"] > before + 1


async def test_a_broker_that_stands_still_stops_no_look(cluster: Cluster, settings: Settings) -> None:
    """It counts as dead, and comes back when it goes on."""
    pid = cluster.status().brokers[0].pid
    assert pid is not None
    async with watching(settings) as watcher:
        await until(is_live(watcher, 1), SECONDS, "the broker is seen")
        await until(completes(watcher), SECONDS, "round trips complete")
        os.kill(pid, signal.SIGSTOP)
        try:
            await until(is_live(watcher, 0), SECONDS, "nobody answers")
            await until(fails(watcher), SECONDS, "round trips fail")
            looked = watcher.figures.at
            await until(lambda: watcher.figures.at > looked, 10, "it looks on")
        finally:
            os.kill(pid, signal.SIGCONT)
        await until(is_live(watcher, 1), SECONDS, "the broker is seen again")
        await until(completes(watcher), SECONDS, "round trips complete again")


async def test_it_sees_a_broker_die_and_come_back_elsewhere(
    cluster: Cluster, elsewhere: Cluster, settings: Settings, worker: Worker
) -> None:
    """Meanwhile round trips fail, the worker stays in sight, and the job's wish is known; afterwards all is as before.

    The broker comes back at another address. The topic of the probe is that of the contract.
    """
    async with admin_client(settings) as admin:
        await create_all(admin, settings)
    worker.start()
    async with watching(settings) as watcher:
        await until(is_live(watcher, 1), SECONDS, "the broker is seen")
        await until(completes(watcher), SECONDS, "round trips complete")
        await until(lambda: watcher.figures.missing_partitions == 0, SECONDS, "the job runs", worker)
        assert ("running", 0) == (watcher.figures.job_state, watcher.figures.lag)
        assert ["w1"] == [one.worker for one in watcher.figures.workers]
        assert any(name.startswith("broker 0 ") for name in watcher.figures.disks)
        async with admin_client(settings) as admin:
            probe = (await describe_topics(admin, [settings.probe_topic]))[settings.probe_topic]
        assert (1, "delete") == (probe.partitions, probe.configuration["cleanup.policy"])

        await asyncio.to_thread(cluster.kill, 0)
        await until(is_live(watcher, 0), SECONDS, "nobody answers")
        await until(fails(watcher), SECONDS, "round trips fail")
        await until(lambda: watcher.figures.lag is None, SECONDS, "the lag is unknown")
        kafka = watcher.figures.kafka
        assert kafka is not None and (1, False) == (kafka.brokers, kafka.has_controller)
        assert "running" == watcher.figures.job_state
        assert ["w1"] == [one.worker for one in watcher.figures.workers]
        assert any(name.startswith("broker 0 ") for name in watcher.figures.disks)

        await asyncio.to_thread(elsewhere.start)
        await until(is_live(watcher, 1), SECONDS, "the broker is seen again")
        await until(completes(watcher), SECONDS, "round trips complete again")
        await until(lambda: watcher.figures.missing_partitions == 0, SECONDS, "the job runs again", worker)
        await until(lambda: watcher.figures.lag == 0, SECONDS, "the lag is known again", worker)
        trips = watcher.probe.trips
        assert 0 == trips.outcomes["lost"]
        seen = watcher.watched()
    availability = next(one for one in seen.objectives if one.name == "kafka-availability")
    assert availability.figure is not None and 0 < availability.figure < 100
    kept = WatchFolder(settings).read(time.time())
    assert trips.bad == sum(one.failed_round_trips for one in kept)
    assert trips.total - sum(one.round_trips for one in kept) in (0, 1, 2)  # since the last look


async def test_the_command_starts_without_kafka_and_ends_at_once(tmp_path: Path) -> None:
    """It serves and prints what it sees; SIGTERM ends it within a second."""
    port, log = free_port(), tmp_path / "watch.log"
    environment = os.environ | {
        "PORTFOLIO_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}",
        "PORTFOLIO_DATA_DIR": str(tmp_path),
    }
    process = started(log, environment, port)
    try:
        await until(lambda: "Kafka 0 of 0 brokers" in log.read_text(), SECONDS, "it prints")
        watched = await asyncio.to_thread(lambda: json.load(urlopen(f"http://127.0.0.1:{port}/watch")))
        assert 0 == watched["figures"]["kafka"]["live"]
        second = started(tmp_path / "second.log", environment, free_port())
        assert 1 == await asyncio.to_thread(second.wait)
        assert "A watcher runs already" in (tmp_path / "second.log").read_text()
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None, 10, "it ends")
        assert (0, "Ended.") == (process.returncode, log.read_text().splitlines()[-1])
        assert time.monotonic() - began < 3  # a second, and a busy machine
    finally:
        process.kill()
        process.wait()


def started(log: Path, environment: Mapping[str, str], port: int) -> subprocess.Popen[bytes]:
    """The command as a process."""
    command = [str(COMMAND), "watch", "--web-port", str(port)]
    with log.open("wb") as output:
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment)

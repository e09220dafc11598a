"""Real workers as child processes on a cluster of their own, for tests that kill them.

Here the group and the changelog always have the same names, so each history needs a cluster of its own. A
`WorkersStage` is one cluster with its topics and workers. All of it ends with the test.
"""

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.kafka.tools.jars import LOCK
from portfolio_stream.settings import Settings
from tests.ports import free_port

POLL_SECONDS = 0.02  # a condition in another process can only be polled
ANSWER_SECONDS = 2.0  # a process that is stopped does not answer
START_SECONDS = 60.0  # the start of three workers took 25 s on two busy cores
APP = "portfolio_stream"
FAUST = Path(sys.executable).with_name("faust")


async def until(
    condition: Callable[[], bool | Awaitable[bool]], seconds: float, what: str, worker: "Worker | None" = None
) -> float:
    """Wait until the condition holds, and return the seconds that took.

    After `seconds`, fail with `what` and the end of the worker's log. Time in which the machine had too few cores is
    not counted, but the wait takes at most twice as long.
    """
    started, stalled_before = time.monotonic(), stalled_seconds()
    while True:
        held = condition()
        if held if isinstance(held, bool) else await held:
            return time.monotonic() - started
        taken = time.monotonic() - started
        if taken > seconds and taken - min(stalled_seconds() - stalled_before, seconds) > seconds:
            log = "" if worker is None else f"\n{worker.text[-4000:]}"
            raise AssertionError(f"not within {seconds:g} s: {what}{log}")
        await asyncio.sleep(POLL_SECONDS)


def stalled_seconds() -> float:
    """Returns how long some process of this machine was ready to run without a core; 0 if the system does not tell."""
    try:
        found = re.match(r"some .*total=(\d+)", Path("/proc/pressure/cpu").read_text())
    except OSError:
        return 0.0
    return int(found[1]) / 1e6 if found else 0.0


def starved_seconds(pid: int) -> float:
    """Returns how long the process's main thread was ready to run without a core; 0 if the system does not tell."""
    try:
        _, waited, _ = Path(f"/proc/{pid}/schedstat").read_text().split()
    except OSError:
        return 0.0
    return int(waited) / 1e9


def logged_events(text: str, action: str) -> list[dict[str, str]]:
    """Returns the fields of every log event of this name."""
    lines = re.findall(rf"\b{action} ((?:[a-z_]+=\S+ ?)+)", text)
    return [dict(part.split("=", 1) for part in line.split()) for line in lines]


@dataclass
class Worker:
    """One worker's identity. Its process may die and be started again."""

    name: str
    environment: dict[str, str]
    log: Path
    app: str = APP
    process: subprocess.Popen[bytes] | None = None
    #: the log's length when the present process was started
    since: int = 0

    def start(self) -> None:
        assert self.process is None or self.process.poll() is not None, f"{self.name} runs"
        self.since = self.log.stat().st_size if self.log.exists() else 0
        command = [str(FAUST), "-A", self.app, "worker", "-l", "info"]
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=os.environ | self.environment
            )

    @property
    def text(self) -> str:
        """The log of the present process."""
        with self.log.open("rb") as file:
            file.seek(self.since)
            return file.read().decode(errors="replace")

    def events(self, action: str) -> list[dict[str, Any]]:
        """The fields of each of the present process's events with that action, e.g. events("recovered").

        Asks the process itself (GET /events): a process that does not answer has no events.
        """
        if self.process is None or self.process.poll() is not None:
            return []
        token = self.environment.get("PORTFOLIO_WEB_TOKEN")
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        connection = HTTPConnection("127.0.0.1", int(self.environment["PORTFOLIO_WEB_PORT"]), timeout=ANSWER_SECONDS)
        try:
            connection.request("GET", "/events?after=0&limit=1000", headers=headers)
            answer = connection.getresponse()
            body = answer.read()
        except (OSError, HTTPException):
            return []
        finally:
            connection.close()
        assert 200 == answer.status, body
        return [event["fields"] for event in json.loads(body)["events"] if event["action"] == action]

    def logged(self, action: str) -> list[dict[str, str]]:
        """The same from the present process's log, where every field is text.

        For a process that has ended, and for an app without a web server.
        """
        return logged_events(self.text, action)

    def has_recovered(self) -> bool:
        """A partition, at least."""
        return bool(self.events("recovered") if self.app == APP else self.logged("recovered"))

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill the process with SIGKILL. Returns when the process is gone."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        self.process.wait(5)

    async def ended(self, seconds: float) -> int:
        """Wait for the process's end, and return the exit code.

        Fails after `seconds`, not counting the time in which other processes had all the cores.
        """
        process = self.process
        assert process is not None
        started, starved_before = time.monotonic(), starved_seconds(process.pid)
        while process.poll() is None:
            taken = time.monotonic() - started
            if taken > seconds and taken - (starved_seconds(process.pid) - starved_before) > seconds:
                raise AssertionError(f"not within {seconds:g} s: the end of {self.name}\n{self.text[-4000:]}")
            await asyncio.sleep(POLL_SECONDS)
        return process.returncode

    def end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.kill()


@dataclass
class WorkersStage:
    cluster: Cluster
    settings: Settings
    folder: Path
    workers: dict[str, Worker] = field(default_factory=dict)

    def worker(self, name: str, *, app: str = APP, **environment: str) -> Worker:
        """Returns a worker that is not started yet. Its data folder is folder/data/name."""
        own = {
            "PORTFOLIO_BOOTSTRAP_SERVERS": self.settings.bootstrap_servers,
            "PORTFOLIO_PARTITIONS": str(self.settings.partitions),
            "PORTFOLIO_REPLICATION_FACTOR": str(self.settings.replication_factor),
            "PORTFOLIO_DATA_DIR": str(self.folder / "data"),
            "PORTFOLIO_INSTANCE_ID": name,
            "PORTFOLIO_WEB_PORT": str(free_port()),
        }
        log = self.folder / f"{name}-{len(self.workers)}.log"
        worker = self.workers[log.stem] = Worker(name, own | environment, log, app)
        return worker

    async def started(self, *names: str, **environment: str) -> list[Worker]:
        """Start workers, and return them when they have recovered partitions."""
        workers = [self.worker(name, **environment) for name in names]
        for worker in workers:
            worker.start()
        await self.serving(*workers)
        return workers

    async def serving(self, *workers: Worker, seconds: float = START_SECONDS) -> None:
        """Return when each of the workers has recovered a partition."""
        for worker in workers:
            await until(
                lambda worker=worker: worker.has_recovered(),
                seconds,
                f"{worker.name} recovers a partition",
                worker,
            )

    def end(self) -> None:
        for worker in self.workers.values():
            worker.end()


async def make_topics(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        await create_all(admin, settings)


@contextmanager
def new_stage(folder: Path, brokers: int = 1, lock: Path = LOCK) -> Iterator[WorkersStage]:
    """Start a fresh cluster with the contract's topics on all of its brokers. No worker is started."""
    with Cluster(folder / "broker", free_port(brokers), brokers, lock=lock) as cluster:
        made = WorkersStage(
            cluster, Settings(bootstrap_servers=cluster.bootstrap_servers, replication_factor=brokers), folder
        )
        asyncio.run(make_topics(made.settings))
        try:
            yield made
        finally:
            made.end()


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[WorkersStage]:
    with new_stage(tmp_path) as made:
        yield made


async def group_offsets(admin: Any) -> dict[tuple[str, int], int]:
    """Returns the committed offsets of the workers' group, by topic and partition."""
    found = await admin.list_consumer_group_offsets(Settings().group)
    return {(at.topic, at.partition): meta.offset for at, meta in found.items()}

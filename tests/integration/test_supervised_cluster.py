"""A supervisor and its workers as processes, driven by the commands that an operator types."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from portfolio_stream import cli
from portfolio_stream.cluster import control
from portfolio_stream.cluster.folder import ClusterFolder, SupervisorStatus, WorkerShown
from portfolio_stream.processes import is_alive
from portfolio_stream.settings import Settings
from tests.integration.workers import WorkersStage, until
from tests.ports import free_port

INTERVAL = "PORTFOLIO_CHECKPOINT_INTERVAL"
SECONDS = 60.0  # for a start, on two busy cores
STOP_SECONDS = 8.0  # a worker has 5 s


class Host:
    """The cluster of one data folder, seen from the command line."""

    def __init__(self, folder: Path, bootstrap_servers: str, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in tuple(os.environ):
            if name.startswith("PORTFOLIO_"):
                monkeypatch.delenv(name)
        for name, value in {
            "BOOTSTRAP_SERVERS": bootstrap_servers,
            "DATA_DIR": str(folder / "data"),
            "LOG_DIR": str(folder / "logs"),
            "WEB_PORT": str(free_port(3)),
            "FLINK_PORT": str(free_port()),
        }.items():
            monkeypatch.setenv(f"PORTFOLIO_{name}", value)
        self.settings = Settings.from_environment(os.environ)

    def type(self, *arguments: str) -> int:
        return cli.run(arguments)

    def start(self, *arguments: str) -> tuple[int, str]:
        """Returns the exit code of `cluster start`, and what it tells. A process, whose end leaves the supervisor."""
        command = [sys.executable, "-m", "portfolio_stream", "cluster", "start", *arguments]
        ended = subprocess.run(command, check=False, capture_output=True, text=True)
        return ended.returncode, ended.stderr

    @property
    def status(self) -> SupervisorStatus | None:
        return control.status(self.settings)[0]

    @property
    def workers(self) -> dict[int, WorkerShown]:
        return {} if self.status is None else {worker.number: worker for worker in self.status.workers}

    @property
    def pids(self) -> dict[int, int | None]:
        return {number: worker.pid for number, worker in self.workers.items()}

    def overview(self) -> dict[str, Any]:
        """What Flink's REST interface says, at the address that the status shows."""
        assert self.status is not None
        with urlopen(f"{self.status.rest}/overview", timeout=10) as answer:
            found: dict[str, Any] = json.load(answer)
        return found

    def await_that(self, condition: Callable[[], bool], what: str) -> None:
        asyncio.run(until(condition, SECONDS, f"{what}: {self.status}"))

    def await_serving(self, workers: int) -> None:
        self.await_that(
            lambda: (now := self.status) is not None and now.is_serving and now.wanted == workers,
            f"{workers} workers serve",
        )

    def kill_supervisor(self) -> None:
        supervisor = ClusterFolder(self.settings).supervisor()
        assert supervisor is not None
        os.kill(supervisor.pid, signal.SIGKILL)
        self.await_that(lambda: self.status is None, "the supervisor is gone")

    def end(self) -> None:
        control.stop(self.settings, print)


@pytest.fixture
def host(stage: WorkersStage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    made = Host(tmp_path, stage.cluster.bootstrap_servers, monkeypatch)
    yield made
    made.end()


@pytest.fixture
def lonely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """A host whose Kafka is not there."""
    made = Host(tmp_path, f"127.0.0.1:{free_port()}", monkeypatch)
    yield made
    made.end()


def test_a_supervisor_follows_the_job(host: Host, capsys: Any) -> None:
    """It grows by the control topic, survives its own kill -9 and a worker's, and changes settings worker by worker.

    No worker is stopped, and none is started twice, but for what was asked.
    """
    assert 0 == host.start("--workers", "1")[0]
    assert {1} == host.pids.keys()

    first = host.pids
    assert 0 == host.type("job", "scale", "2", "--yes")
    host.await_serving(2)
    both = host.pids
    assert first[1] == both[1]
    host.await_that(lambda: host.overview()["taskmanagers"] == 2, "Flink's clients see both")

    host.kill_supervisor()
    orphans = control.status(host.settings)[1]
    assert set(both.values()) == {process.pid for process in orphans.values()} and all(map(is_alive, orphans.values()))
    assert 1 == host.type("cluster", "status")
    assert 0 == host.start()[0]
    assert both == host.pids
    supervisor = host.status
    assert 0 == host.start()[0]  # a second one is not started
    assert supervisor is not None and host.status is not None and supervisor.pid == host.status.pid

    assert both[2] is not None
    os.kill(both[2], signal.SIGKILL)
    host.await_that(lambda: host.pids[2] not in (None, both[2]) and host.status.is_serving, "worker 2 serves again")  # type: ignore[union-attr]
    after = host.workers
    assert (both[1], host.workers[2].address) == (after[1].pid, after[2].address)

    away: set[int] = set()

    def has_settings() -> bool:
        now = host.workers
        not_serving = [worker.number for worker in now.values() if worker.state != "serving"]
        assert len(not_serving) <= 1, f"both are away: {now}"
        away.update(not_serving)
        return not not_serving and all(worker.settings == {INTERVAL: "5s"} for worker in now.values())

    before = host.pids
    assert 0 == host.type("job", "scale", "--set", f"{INTERVAL}=5s", "--yes")
    host.await_that(has_settings, "both have the settings")
    assert {1, 2} == away and not set(before.values()) & set(host.pids.values())
    environment = Path(f"/proc/{host.pids[1]}/environ")
    assert not environment.exists() or f"{INTERVAL}=5s".encode() in environment.read_bytes().split(b"\0")

    capsys.readouterr()
    started = time.monotonic()
    assert 0 == host.type("cluster", "stop", "-o", "json")
    assert STOP_SECONDS > time.monotonic() - started
    assert {"stopped": True} == json.loads(capsys.readouterr().out)
    assert (None, {}) == control.status(host.settings)
    assert {"jobmanager-0", "taskmanager-1", "taskmanager-2"} == {
        "-".join(log.name.split("-")[2:4]) for log in (host.settings.log_dir or Path()).glob("flink/flink-*.log")
    }


def test_a_worker_that_refuses_its_settings_is_not_started_again(lonely: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command says why, the supervisor stays up and shows the cause, and it stops when it is told."""
    monkeypatch.setenv("PORTFOLIO_WEB_HOST", "0.0.0.0")  # without a token
    code, told = lonely.start("--workers", "1")
    assert 1 == code and "only with a token" in told and "Set PORTFOLIO_WEB_TOKEN" in told
    shown = lonely.workers[1]
    assert ("refused", None, 0) == (shown.state, shown.pid, shown.restarts)
    assert 0 == lonely.type("cluster", "stop")
    assert None is lonely.status


def test_a_supervisor_needs_no_kafka(lonely: Host, capsys: Any) -> None:
    """It starts, says what is missing, and goes on. `cluster stop` also ends the workers of one that was killed."""
    code, told = lonely.start("--workers", "1", "--timeout", "4")
    assert 1 == code and "The supervisor goes on" in told
    lonely.await_that(lambda: lonely.status is not None and lonely.status.problem is not None, "the outage is shown")
    assert 0 == lonely.overview()["jobs-running"]
    before = control.status(lonely.settings)[1]  # it ends by itself soon: without Kafka no worker starts
    lonely.await_that(lambda: control.status(lonely.settings)[1] not in ({}, before), "a worker's process begins")
    lonely.kill_supervisor()
    orphans = control.status(lonely.settings)[1]
    assert 0 == lonely.type("cluster", "stop")
    assert "Stopped." in capsys.readouterr().out
    assert orphans and not any(map(is_alive, orphans.values()))
    assert 0 == lonely.type("cluster", "stop")
    assert "No cluster was running." in capsys.readouterr().out

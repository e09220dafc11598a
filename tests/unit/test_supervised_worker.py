"""One worker of a supervisor: what the end of its process means for the next start. The processes are fakes."""

import asyncio
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from portfolio_stream.cluster import worker as module
from portfolio_stream.cluster.child import SETTLED_SECONDS, UNKNOWN
from portfolio_stream.cluster.folder import ClusterFolder, WorkerStart
from portfolio_stream.cluster.plan import WorkerPhase
from portfolio_stream.cluster.serving import Serving
from portfolio_stream.cluster.worker import SupervisedWorker
from portfolio_stream.processes import OwnProcess
from portfolio_stream.settings import Settings

SETTINGS = {"PORTFOLIO_STANDBYS": "1"}


class FakeChild:
    """Stands in for a Child. It runs until the test ends it."""

    made: ClassVar[list["FakeChild"]] = []
    #: raised by the next start
    refusal: OSError | None = None

    def __init__(self, name: str, command: Any, environment: Any, log: Path) -> None:
        self.environment = environment
        self.pid = 100 + len(FakeChild.made)
        self.age, self.begun = 0.0, time.monotonic()
        self.signals: list[signal.Signals] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        FakeChild.made.append(self)

    @property
    def started(self) -> float:
        return self.begun - self.age

    async def start(self) -> None:
        if FakeChild.refusal is not None:
            raise FakeChild.refusal

    def adopt(self, process: OwnProcess) -> None:
        self.pid, self.age = process.pid, SETTLED_SECONDS

    async def wait(self) -> int:
        return await self.ended

    async def stop(self, say: Any, number: signal.Signals) -> None:
        self.signals.append(number)
        self.ended.set_result(0)

    def why(self) -> tuple[str, str]:
        return "It broke.", "Mend it."


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SupervisedWorker]:
    folder = ClusterFolder(replace(Settings(), data_dir=tmp_path))
    folder.make()
    monkeypatch.setattr(module, "Child", FakeChild)
    monkeypatch.setattr(FakeChild, "made", [])
    monkeypatch.setattr(FakeChild, "refusal", None)
    yield SupervisedWorker(1, folder, "127.0.0.1", lambda: None, lambda line: None)


async def ended(worker: SupervisedWorker, code: int, age: float = 0.0) -> None:
    await worker.start({}, SETTINGS, 6066)
    FakeChild.made[-1].age = age
    FakeChild.made[-1].ended.set_result(code)
    await worker.ended()


@pytest.mark.parametrize(
    ("code", "age", "phase", "failures", "cause"),
    [
        (1, 0.0, WorkerPhase.ENDED, 1, "It broke."),
        (1, SETTLED_SECONDS, WorkerPhase.ENDED, 0, "It broke."),
        (2, 0.0, WorkerPhase.REFUSED, 1, "It broke."),
        (0, SETTLED_SECONDS, WorkerPhase.ENDED, 0, "it ended by itself with exit code 0"),
        (-9, SETTLED_SECONDS, WorkerPhase.ENDED, 0, "it was killed by SIGKILL"),
        (-9, 0.0, WorkerPhase.ENDED, 1, "it was killed by SIGKILL"),
        (UNKNOWN, SETTLED_SECONDS, WorkerPhase.ENDED, 0, "It broke."),
    ],
)
async def test_an_end_that_nobody_asked_for(
    worker: SupervisedWorker, code: int, age: float, phase: WorkerPhase, failures: int, cause: str
) -> None:
    """Its cause is shown. A start that failed within moments counts, also where the kernel killed the process."""
    await ended(worker, code, age)
    shown = worker.shown()
    assert (phase.value, None, failures, cause) == (shown.state, shown.pid, shown.failures, shown.cause)
    assert (failures == 0) is (worker.seen().wait == 0.0)


async def test_starts_that_fail_in_a_row_are_counted_until_the_settings_change(worker: SupervisedWorker) -> None:
    for _ in range(4):
        await ended(worker, 1)
    assert (4, 3) == (worker.shown().failures, worker.shown().restarts)
    await worker.start({}, {}, 6066)
    assert 0 == worker.shown().failures


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
async def test_an_end_that_was_asked_for(worker: SupervisedWorker, number: signal.Signals) -> None:
    """It is no failure and no restart, and the next start comes at once."""
    await worker.start({}, SETTINGS, 6066)
    worker.stop(number)
    await worker.ended()
    assert ([number], SETTINGS, 0.0) == (FakeChild.made[-1].signals, worker.seen().settings, worker.seen().wait)
    await worker.start({}, {}, 6066)
    assert (0, 0, None) == (worker.shown().failures, worker.shown().restarts, worker.shown().cause)


async def test_the_jobs_settings_win_over_the_environment(worker: SupervisedWorker) -> None:
    """And its own name and port over both."""
    await worker.start({"PORTFOLIO_STANDBYS": "0", "PORTFOLIO_WEB_PORT": "1", "PATH": "/bin"}, SETTINGS, 6067)
    own = {"PORTFOLIO_INSTANCE_ID": worker.name, "PORTFOLIO_WEB_PORT": "6067"}
    assert {"PATH": "/bin", **SETTINGS, **own} == FakeChild.made[-1].environment
    assert "http://127.0.0.1:6067" == worker.address


async def test_a_process_that_cannot_be_started_is_tried_again(worker: SupervisedWorker) -> None:
    FakeChild.refusal = OSError("no room")
    await worker.start({}, SETTINGS, 6066)
    shown = worker.shown()
    assert ("ended", 1, "it cannot be started: no room") == (shown.state, shown.failures, shown.cause)


async def test_an_adopted_worker_is_as_it_was_started(worker: SupervisedWorker) -> None:
    worker.adopt(OwnProcess(7, "then"), WorkerStart(port=6070, settings=SETTINGS))
    shown = worker.shown()
    assert (7, "http://127.0.0.1:6070", SETTINGS, 0) == (shown.pid, shown.address, shown.settings, shown.restarts)
    worker.stop(signal.SIGTERM)
    await worker.ended()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (Serving(True), ("serving", None)),
        (Serving(False, "recovering"), ("starting", "recovering")),
    ],
)
async def test_what_a_worker_says_is_shown(
    worker: SupervisedWorker, found: Serving, expected: tuple[str, str | None]
) -> None:
    await worker.start({}, SETTINGS, 6066)
    worker.look(found)
    assert expected == (worker.shown().state, worker.shown().cause)
    worker.stop(signal.SIGTERM)
    worker.look(Serving(True))
    assert "stopping" == worker.shown().state
    await worker.ended()


async def test_a_silent_start_shows_why_the_last_one_failed(worker: SupervisedWorker) -> None:
    """What the process said at its end is worth more than that the next one does not answer yet."""
    await ended(worker, 1)
    await worker.start({}, SETTINGS, 6066)
    worker.look(Serving(False, module.SILENT))
    assert ("It broke.", "Mend it.") == (worker.shown().cause, worker.shown().action)
    worker.look(Serving(False, "recovering"))
    assert ("recovering", None) == (worker.shown().cause, worker.shown().action)
    worker.stop(signal.SIGTERM)
    await worker.ended()

"""What a supervisor follows: the job as the control topic has it, or the last that it knew."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from portfolio_stream.cluster import wishes as module
from portfolio_stream.cluster.folder import ClusterFolder
from portfolio_stream.cluster.plan import JobWish
from portfolio_stream.cluster.wishes import Wishes
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY
from portfolio_stream.errors import ControlUnavailable, JobNotBegun
from portfolio_stream.settings import Settings
from tests.unit.control_stage import MemoryControl, begun

STANDBYS = {"PORTFOLIO_STANDBYS": "1"}


class Following:
    """Wishes that follow a control topic in memory. Each try to open the job takes the next of `answers`."""

    def __init__(self, folder: Path, answers: list[Any], environment: dict[str, str] | None = None) -> None:
        self.settings = replace(Settings(), data_dir=folder)
        self.folder = ClusterFolder(self.settings)
        self.folder.make()
        self.answers = answers
        self.told: list[str] = []
        self.changed = asyncio.Event()
        self.wishes = Wishes(self.settings, environment or {}, self.folder, 2, self.changed.set, self.told.append)

    @asynccontextmanager
    async def open_job(self, _: Settings) -> AsyncIterator[Any]:
        answer = self.answers.pop(0) if self.answers else JobNotBegun("g")
        if isinstance(answer, Exception):
            raise answer
        yield answer

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class FollowedControl(MemoryControl):
    """The job's control topic, which is followed until its connection is lost."""

    def __init__(self) -> None:
        super().__init__()
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.state = begun().state

    @property
    def following(self) -> Any:
        return self.lost

    async def follow(self) -> None:
        pass

    def become(self, **fields: Any) -> None:
        self.put({JOB_KEY: structs.replace(self.job, **fields)})


@pytest.fixture
def follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    @asynccontextmanager
    async def started(answers: list[Any], environment: dict[str, str] | None = None) -> AsyncIterator[Following]:
        following = Following(tmp_path, answers, environment)
        monkeypatch.setattr(module, "PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(module, "open_job", following.open_job)
        task = asyncio.create_task(following.wishes.follow())
        yield following
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    return started


async def test_the_job_is_followed(follow: Any) -> None:
    """Until it names a number, the command line's counts."""
    control = FollowedControl()
    async with follow([JobNotBegun("g"), control]) as seen:
        await seen.wishes.first()
        await seen.until(lambda: bool(control.listeners))
        assert JobWish(2) == seen.wishes.wish
        control.become(parallelism=5, settings=STANDBYS)
        assert JobWish(5, STANDBYS) == seen.wishes.wish
        control.become(state=JobState.STOPPED)
        assert JobWish(5, STANDBYS, is_joined=False) == seen.wishes.wish


async def test_the_last_known_wish_counts_while_kafka_is_away(follow: Any) -> None:
    """Also after a restart of the supervisor. The outage is shown and told once, until Kafka answers."""
    control = FollowedControl()
    async with follow([control]) as seen:
        await seen.until(lambda: bool(control.listeners))
        control.become(parallelism=5, settings=STANDBYS)
    away = [ControlUnavailable("g-control", "no broker answers") for _ in range(3)]
    control = FollowedControl()
    control.become(parallelism=6)
    async with follow([*away, control]) as seen:
        await seen.wishes.first()
        assert JobWish(5, STANDBYS) == seen.wishes.wish
        await seen.until(lambda: seen.wishes.problem is not None)
        assert "no broker answers" in (seen.wishes.problem or "")
        await seen.until(lambda: seen.wishes.wish == JobWish(6))
        assert None is seen.wishes.problem
        assert 1 == sum("no broker answers" in line for line in seen.told)


async def test_settings_that_workers_would_refuse_are_not_followed(follow: Any) -> None:
    """They fit by themselves, but not with this supervisor's environment. The number is followed all the same."""
    control = FollowedControl()
    control.become(settings=STANDBYS)
    async with follow(
        [control], {"PORTFOLIO_CHECKPOINT_TIMEOUT": "1h", "PORTFOLIO_CHECKPOINT_INTERVAL": "10m"}
    ) as seen:
        await seen.until(lambda: bool(control.listeners))
        control.become(parallelism=3, settings={"PORTFOLIO_CHECKPOINT_INTERVAL": "1s"})
        assert JobWish(3, STANDBYS) == seen.wishes.wish
        assert "PORTFOLIO_CHECKPOINT_TIMEOUT" in (seen.wishes.problem or "")
        control.become(settings={})
        assert (JobWish(3), None) == (seen.wishes.wish, seen.wishes.problem)


async def test_the_first_answer_is_awaited(follow: Any) -> None:
    """A supervisor that knows nothing yet begins with what the job wants."""
    control = FollowedControl()
    control.become(parallelism=7)
    async with follow([control]) as seen:
        await seen.wishes.first()
        assert JobWish(7) == seen.wishes.wish

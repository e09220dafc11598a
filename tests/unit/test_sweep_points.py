"""The sweep's table of points, and the orders by which a worker strikes itself."""

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.settings import Settings
from tests.sweep.points import POINTS, TOPICS, Variant
from tests.sweep.steps import STEPS, Obedience, Order, Step, obeyed, wrapped

Kills = list[int]


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> Kills:
    found: Kills = []
    monkeypatch.setattr(os, "kill", lambda pid, number: found.append(number))
    return found


@pytest.fixture
def obedience(tmp_path: Path) -> Obedience:
    return Obedience(tmp_path / "w1.order")


class FailingDisk:
    writes = 0

    def write(self, value: int) -> int:
        self.writes += 1
        return value

    async def write_soon(self, value: int) -> int:
        return self.write(value)


STEP = Step("write", FailingDisk, "write", when=lambda _, value: value > 0, error=lambda _, value: OSError(value))


def test_every_local_point_is_a_step_and_every_step_a_point() -> None:
    assert {step.name for step in STEPS} == {point.name for point in POINTS if point.match is None}


def test_what_can_fail_has_an_error_to_fail_with() -> None:
    can_fail = {point.name for point in POINTS if point.match is None and Variant.LOST in point.variants}
    assert can_fail == {step.name for step in STEPS if step.error is not None}


def test_the_points_name_the_topics_of_a_stage() -> None:
    assert Settings() == TOPICS


@pytest.mark.parametrize("variant", [Variant.BEFORE, Variant.AFTER])
def test_an_order_kills_at_its_call_alone(obedience: Obedience, kills: Kills, variant: Variant) -> None:
    """The third that fits, not one that does not, nor before the order came."""
    disk, write = FailingDisk(), wrapped(STEP, FailingDisk.write, obedience)
    assert 1 == write(disk, 1)
    Order(step="write", variant=variant, occurrence=3).give(obedience.path)
    for value in (1, 0, 2, 0):
        write(disk, value)
        assert [] == kills
    write(disk, 3)
    assert [signal.SIGKILL] == kills
    assert obeyed(obedience.path).exists()
    write(disk, 4)
    assert [signal.SIGKILL] == kills


def test_an_order_kills_before_or_after(obedience: Obedience, monkeypatch: pytest.MonkeyPatch) -> None:
    disk, write = FailingDisk(), wrapped(STEP, FailingDisk.write, obedience)
    seen: list[int] = []
    monkeypatch.setattr(os, "kill", lambda *_: seen.append(disk.writes))
    for variant in (Variant.BEFORE, Variant.AFTER):
        Order(step="write", variant=variant, occurrence=1).give(obedience.path)
        write(disk, 1)
    assert [0, 2] == seen


def test_an_order_makes_a_call_fail_once(obedience: Obedience, kills: Kills) -> None:
    disk, write = FailingDisk(), wrapped(STEP, FailingDisk.write, obedience)
    Order(step="write", variant=Variant.LOST, occurrence=1).give(obedience.path)
    with pytest.raises(OSError, match="5"):
        write(disk, 5)
    assert 6 == write(disk, 6)
    assert (1, []) == (disk.writes, kills)


def test_an_order_for_another_step_is_not_obeyed(obedience: Obedience, kills: Kills) -> None:
    write = wrapped(STEP, FailingDisk.write, obedience)
    Order(step="read", variant=Variant.BEFORE, occurrence=1).give(obedience.path)
    write(FailingDisk(), 1)
    assert obedience.path.exists()


def test_a_coroutine_is_over_when_it_has_returned(obedience: Obedience, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = FailingDisk()
    write: Any = wrapped(STEP, FailingDisk.write_soon, obedience)
    seen: list[int] = []
    monkeypatch.setattr(os, "kill", lambda *_: seen.append(disk.writes))
    Order(step="write", variant=Variant.AFTER, occurrence=1).give(obedience.path)
    asyncio.run(write(disk, 1))
    assert [1] == seen

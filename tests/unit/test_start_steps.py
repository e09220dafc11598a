"""What the steps of a worker's start take."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.observe import start_steps
from portfolio_stream.observe.events import StartEnded
from portfolio_stream.observe.start_steps import STEPS, StartSteps, process_age
from tests.unit.engine_stage import RecoversAt, Stage, staged


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    store = Store(tmp_path / "store")
    yield staged(store)
    store.close()


def test_steps_follow_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is ended again, as by a second rebalance, keeps its time."""
    now = 10.0
    monkeypatch.setattr(start_steps.time, "perf_counter", lambda: now)
    steps = StartSteps()
    now = 11.5
    steps.end("join")
    now = 14.0
    steps.end("join")
    assert not steps.are_over
    steps.end("recovery")
    assert ({"join": 1.5, "recovery": 2.5}, True) == (steps.seconds, steps.are_over)


def test_a_start_counts_from_the_execution_of_the_process() -> None:
    """Python and its imports take most of a start."""
    steps = StartSteps.of_this_process()
    assert 0.0 < steps.seconds["process"] <= process_age()


async def test_the_start_is_told_once(engine: Stage) -> None:
    """When the first recovery has decided all its partitions. A later recovery is no start."""
    engine.recovery.finds = RecoversAt(10)
    for _ in range(2):
        engine.partitions.happened(PartitionEvent.OUT_OF_RANGE, (0,))
        engine.recovery_task.recover((0,))
        await engine.recovery_task.decided()
    told = [told.event for told in engine.events.latest(20)]
    (ended,) = [event for event in told if isinstance(event, StartEnded)]
    assert {f"{step}_milliseconds" for step in STEPS} == ended.fields().keys()

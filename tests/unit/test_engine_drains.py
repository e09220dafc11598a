"""An operator's StopAt, when what can't be folded stands at the offset or behind it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.exactly_once.operations import Operation, SetAside, StopAt
from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.kafka.record_batches import UnreadableBatch
from tests.unit.engine_stage import Stage, staged


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    """Owns and runs partition 0, at the offset 10; without a broker."""
    store = Store(tmp_path / "store")
    yield staged(store, {0: 10})
    store.close()


def unreadable(first: int, last: int) -> UnreadableBatch:
    return UnreadableBatch(
        topic="in", partition=0, offset=first, last_offset=last, timestamp=1, reason="old_format", value=b"x"
    )


async def carried_out(engine: Stage, operation: Operation[Any]) -> None:
    asking = asyncio.create_task(engine.interpreter.ask(operation))
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    await asking


async def turn(engine: Stage) -> None:
    async def deliver(piece: Slice) -> None:
        raise AssertionError("nothing is handed out")

    await engine.main_loop.turn(deliver)


async def test_no_stop_moves_a_position_back(engine: Stage) -> None:
    """A batch that reaches beyond the stop is set aside whole: its offsets are committed once, in order."""
    engine.write_dead_letter = lambda piece: None
    await carried_out(engine, StopAt(0, 15))
    engine.boundary.unreadable(unreadable(10, 29))
    await carried_out(engine, SetAside(0, 10))
    assert (PartitionState.PAUSED, 30) == (engine.partitions[0].state, engine.committed(0))
    await turn(engine)
    assert {0: 30} == engine.sent.committed


async def test_a_batch_behind_the_stop_halts_nothing(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader had it in hand when the operator named the offset."""

    async def fetch(timeout_ms: int) -> Any:
        raise BatchUnreadable(unreadable(15, 29))

    engine.reader.positions[0] = 15
    monkeypatch.setattr(engine.reader, "fetch", fetch)
    await carried_out(engine, StopAt(0, 15))
    await turn(engine)
    assert (PartitionState.PAUSED, {0: 15}) == (engine.partitions[0].state, engine.sent.committed)

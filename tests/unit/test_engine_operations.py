"""What operators ask for: pause, resume, stop at an offset; carried out between two transactions."""

import asyncio
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from portfolio_stream.errors import OffsetBehind, PartitionNotHalted, PartitionNotPaused, PartitionNotReady
from portfolio_stream.exactly_once import doubts
from portfolio_stream.exactly_once.operations import CopyState, Pause, Resume, SetAside, StopAt
from portfolio_stream.exactly_once.partition_life import OperatorWish, PartitionState
from portfolio_stream.exactly_once.protocol import MembershipBroken
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.record_batches import UnreadableBatch
from tests.unit.engine_stage import NUMBERS, RecoversCommitted, Stage, records, staged

R = TypeVar("R")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    store = Store(tmp_path / "store")
    made = staged(store)
    made.sent.committed = {0: 10, 1: 20}
    made.recovery.finds = RecoversCommitted(made.sent.committed)
    yield made
    store.close()


async def answer(engine: Stage, asked: Coroutine[Any, Any, R]) -> R:
    """What an operator gets, once the loop has carried it out."""
    waiting = asyncio.create_task(asked)
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    return await waiting


async def turn(engine: Stage, partition: int, first: int, count: int) -> None:
    """The reader brings records of a partition, and each slice writes the offset of its last one."""

    async def fold(piece: Slice) -> None:
        piece.view(NUMBERS).put(b"last", piece.records[-1].offset)
        engine.folding.acknowledged(piece)

    engine.reader.fetched = {partition: [records(first, count)]}
    engine.signals.take_wake()
    await engine.main_loop.turn(fold)


async def dropped(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doubts, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    await engine.doubts.drop_everything(MembershipBroken(None, "a beat was lost"))
    await engine.recovery_task.decided()


async def test_a_pause_commits_what_is_open_and_reads_nothing_more(engine: Stage) -> None:
    """The tables stay served; what was folded before the pause is committed; the other partition goes on."""
    await turn(engine, 0, 10, 5)
    standing = await answer(engine, engine.interpreter.ask(Pause(0)))
    assert (PartitionState.PAUSED, 15) == (standing.state, standing.committed)
    assert ({0: 15, 1: 20}, {1: 20}) == (engine.sent.committed, engine.reader.reading)
    assert {0, 1} == engine.partitions.served
    await turn(engine, 0, 15, 5)  # what a fetch brought late
    await engine.boundary.commit()
    assert 15 == engine.sent.committed[0]


async def test_a_resumed_partition_goes_on_from_its_committed_offset(engine: Stage) -> None:
    await answer(engine, engine.interpreter.ask(Pause(0)))
    assert PartitionState.RUNNING is (await answer(engine, engine.interpreter.ask(Resume(0)))).state
    assert [(0, 10)] == engine.reader.resumed


async def test_a_pause_outlives_a_drop_and_no_revocation(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another owner does not know of it, and neither does this worker when the partition comes back."""
    await answer(engine, engine.interpreter.ask(Pause(0)))
    await dropped(engine, monkeypatch)
    assert (PartitionState.PAUSED, 10) == (engine.partitions[0].state, engine.committed(0))
    for target in ({1}, {0, 1}):
        engine.member.target = frozenset(target)
        await engine.ownership.follow()
    await engine.recovery_task.decided()
    assert PartitionState.RUNNING is engine.partitions[0].state


async def test_a_partition_stops_exactly_at_the_offset(engine: Stage) -> None:
    """Records from there on are not folded, though they were fetched; then it is paused, and can go on."""
    standing = await answer(engine, engine.interpreter.ask(StopAt(0, 13)))
    assert PartitionState.DRAINING is standing.state
    await turn(engine, 0, 10, 8)
    assert (PartitionState.PAUSED, 13) == (engine.partitions[0].state, engine.sent.committed[0])
    assert b"12" == engine.store.rows(0).get(b"numbers\x00last")
    await answer(engine, engine.interpreter.ask(Resume(0)))
    assert 13 == engine.reader.reading[0]
    await turn(engine, 0, 13, 5)
    await engine.boundary.commit()
    assert 18 == engine.sent.committed[0]


async def test_an_offset_without_a_record_before_it_is_reached(engine: Stage) -> None:
    """Markers and aborted records may stand before it: the offset is committed all the same."""
    await answer(engine, engine.interpreter.ask(StopAt(0, 13)))
    await turn(engine, 0, 10, 1)
    engine.reader.positions[0] = 17
    await turn(engine, 1, 20, 1)
    assert (PartitionState.PAUSED, 13) == (engine.partitions[0].state, engine.sent.committed[0])


async def test_an_order_to_stop_outlives_a_drop(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    await answer(engine, engine.interpreter.ask(StopAt(0, 13)))
    await dropped(engine, monkeypatch)
    assert PartitionState.DRAINING is engine.partitions[0].state
    await turn(engine, 0, 10, 8)
    assert (PartitionState.PAUSED, 13) == (engine.partitions[0].state, engine.sent.committed[0])


async def test_a_stop_at_the_committed_offset_pauses_at_once(engine: Stage) -> None:
    assert PartitionState.PAUSED is (await answer(engine, engine.interpreter.ask(StopAt(0, 10)))).state


async def test_what_cannot_be_done_is_refused_and_changes_nothing(engine: Stage) -> None:
    """An offset that is passed, a partition that is not paused, not served, not this worker's, or not there."""
    engine.member.target = frozenset({0})
    await engine.ownership.follow()
    for operation, error in (
        (StopAt(0, 9), OffsetBehind),
        (Resume(0), PartitionNotPaused),
        (Resume(1), PartitionNotPaused),
        (Pause(1), PartitionNotReady),
        (StopAt(1, 30), PartitionNotReady),
        (Pause(2), PartitionNotReady),
        (CopyState(frozenset({0, 2}), Path("copy")), PartitionNotReady),
    ):
        with pytest.raises(error):
            await answer(engine, engine.interpreter.ask(operation))
    assert (PartitionState.RUNNING, {0: 10}) == (engine.partitions[0].state, engine.reader.reading)


async def test_an_order_whose_asker_has_gone_is_not_carried_out(engine: Stage) -> None:
    """Nobody would learn of the pause."""
    asked = asyncio.create_task(engine.interpreter.ask(Pause(0)))
    await asyncio.sleep(0)
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    await engine.interpreter.carry_out()
    assert PartitionState.RUNNING is engine.partitions[0].state


async def test_a_partition_that_is_assigned_gets_the_wish_of_the_job(engine: Stage) -> None:
    """While the whole job is paused, a partition that comes is recovered and served, and never read."""
    engine.partitions.wish_when_assigned = OperatorWish.PAUSE
    for target in ({0}, {0, 1}):
        engine.member.target = frozenset(target)
        await engine.ownership.follow()
    await engine.recovery_task.decided()
    assert (PartitionState.RUNNING, PartitionState.PAUSED) == tuple(engine.partitions[p].state for p in (0, 1))
    assert ({0: 10}, {0, 1}) == (engine.reader.reading, engine.partitions.served)
    engine.partitions.wish_when_assigned = OperatorWish.RUN
    assert PartitionState.RUNNING is (await answer(engine, engine.interpreter.ask(Resume(1)))).state


async def test_records_before_a_halt_are_not_passed_with_it(engine: Stage) -> None:
    """The share that was open when a batch halted the partition cannot be encoded: its records are read again, and the
    order to move the batch is refused, since the batch is not the next."""
    engine.write_dead_letter = lambda piece: None

    async def fold(piece: Slice) -> None:
        piece.view(NUMBERS).put(b"bad", "no number")  # type: ignore[arg-type]
        engine.folding.acknowledged(piece)

    await engine.folding.hand_out(fold, 0, records(10, 3), 0)
    await engine.folding.settle()
    batch = UnreadableBatch(
        topic="in", partition=0, offset=13, last_offset=13, timestamp=1, reason="undecodable", value=b""
    )
    engine.boundary.unreadable(batch)
    assert PartitionState.HALTED is engine.partitions[0].state
    with pytest.raises(PartitionNotHalted):
        await answer(engine, engine.interpreter.ask(SetAside(0, 13)))
    assert (PartitionState.SUSPECT, 10) == (engine.partitions[0].state, engine.reader.reading[0])


async def test_a_pause_ends_with_the_membership(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another worker may have owned the partition since, also if this worker has all its partitions back at once."""
    await answer(engine, engine.interpreter.ask(Pause(0)))

    def rejoin(session: int) -> None:
        engine.member.target = frozenset({0, 1})

    monkeypatch.setattr(engine.member, "own", rejoin)
    engine.member.session += 1
    engine.member.target = frozenset()
    await dropped(engine, monkeypatch)
    assert {0: PartitionState.RUNNING, 1: PartitionState.RUNNING} == {
        partition: engine.partitions[partition].state for partition in (0, 1)
    }

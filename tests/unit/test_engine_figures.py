"""What a started engine counts and tells: the figures of a commit, and the events of its troubles."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from portfolio_stream.exactly_once import delivery
from portfolio_stream.exactly_once.engine import NO_QUEUES
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.observe.events import FoldFailed, PartitionStopped, SlowCommit, Span
from portfolio_stream.observe.statistics import PHASES
from tests.unit.engine_stage import Stage, records, staged


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    store = Store(tmp_path / "store")
    yield staged(store)
    store.close()


async def fold(engine: Stage, partition: int, first: int, count: int) -> None:
    """Hand the records out and acknowledge them."""

    async def acknowledge(piece: Slice) -> None:
        engine.folding.acknowledged(piece)

    await engine.folding.hand_out(acknowledge, partition, records(first, count), 0)
    await engine.folding.settle()


async def test_a_commit_leaves_its_figures(engine: Stage) -> None:
    """Each phase once, events, the timestamp of each partition's last record. A quick commit is no event."""
    await fold(engine, 0, 10, 3)
    await engine.boundary.commit()
    figures = engine.statistics
    assert (1, 3) == (figures.commits, figures.events)
    assert dict.fromkeys(PHASES, 1) == {phase: sum(seen.counts) for phase, seen in figures.phase_seconds.items()}
    assert {0: 0.001} == figures.last_timestamps  # 1 ms since 1970
    assert [] == engine.events.of(SlowCommit)


async def test_a_commit_counts_what_its_steps_moved(engine: Stage) -> None:
    """Bytes of the source, records and bytes that were written; nothing of what is dropped, or not committed yet."""

    async def write(piece: Slice) -> None:
        append = piece.appender("out")
        for record in piece.records:
            append(record.timestamp, record.key, b"output", ())
        engine.folding.acknowledged(piece)

    await engine.folding.hand_out(write, 0, records(10, 3), 6)
    await engine.folding.settle()
    assert 0 == engine.statistics.work.source_bytes
    await engine.boundary.commit()
    work = engine.statistics.work
    assert (6, 3) == (work.source_bytes, work.written["out"].records)
    assert work.written["out"].bytes > 3 * len(b"output")
    assert work.fold_seconds > 0 and engine.statistics.steps.commit_seconds > 0


async def test_a_slow_commit_is_told(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the time of each phase, so that an operator sees whether Kafka or the disk was slow."""
    monkeypatch.setattr(delivery, "SLOW_COMMIT_SECONDS", 0.0)
    await fold(engine, 0, 10, 3)
    await engine.boundary.commit()
    (told,) = engine.events.of(SlowCommit)
    fields = told.fields()
    assert 3 == fields.pop("events")
    assert [f"{phase}_milliseconds" for phase in PHASES[1:]] == list(fields)


async def test_failures_of_a_fold_are_told(engine: Stage) -> None:
    """Each try with its offsets, then that the partition stopped. An error's own message may hold amounts."""

    async def fail(piece: Slice) -> None:
        engine.folding.failed(piece, ValueError("amount 12"))

    for _ in range(3):
        await engine.folding.hand_out(fail, 0, records(10, 1), 0)
        await engine.folding.settle()
    tries = [(told.offsets, told.tries, told.error) for told in engine.events.of(FoldFailed)]
    assert [(Span(10, 10), number, "ValueError") for number in (1, 2, 3)] == tries
    (stopped,) = engine.events.of(PartitionStopped)
    assert (0, 10) == (stopped.partition, stopped.offset)
    assert all("amount" not in one.event.text() for one in engine.events.latest(10))


async def test_partitions_that_come_and_go_are_counted(engine: Stage) -> None:
    """Whatever happens, assigned - revoked - lost is the number of owned partitions."""
    moves = engine.statistics.kafka.moves
    assert {"assigned": 2} == moves
    engine.partitions.happened(PartitionEvent.REVOKED, (0,))
    assert {"assigned": 2} == moves  # it is still this worker's
    engine.partitions.happened(PartitionEvent.RELEASED, (0,))
    assert {"assigned": 2, "revoked": 1} == moves
    engine.partitions.happened(PartitionEvent.DROPPED, (1,))
    engine.partitions.happened(PartitionEvent.LOST, (1,))
    engine.partitions.happened(PartitionEvent.ASSIGNED, (0, 1))
    assert {"assigned": 4, "revoked": 1, "lost": 1} == moves
    await engine.close()
    assert {"assigned": 4, "revoked": 3, "lost": 1} == moves


async def test_a_record_is_in_one_queue_from_its_fetch_to_its_commit(engine: Stage) -> None:
    """Fetched, folding, open, committing; and in none before and after."""
    seen: list[list[int]] = []

    def look() -> None:
        seen.append(list(engine.queues().values()))

    async def deliver(piece: Slice) -> None:
        look()
        engine.folding.acknowledged(piece)
        look()

    assert NO_QUEUES == engine.queues()
    engine.sent.may_commit.clear()
    engine.reader.fetched = {0: [records(10, 3), records(13, 2)]}
    await engine.main_loop.turn(deliver)
    look()
    assert [[2, 3, 0, 0], [2, 0, 3, 0], [0, 2, 3, 0], [0, 0, 5, 0], [0, 0, 0, 5]] == seen
    engine.sent.may_commit.set()
    await engine.boundary.finish()
    assert NO_QUEUES == engine.queues()


async def test_what_is_dropped_is_in_no_queue(engine: Stage) -> None:
    """A doubt drops what was fetched, what is open and what is in flight."""

    async def deliver(piece: Slice) -> None:
        engine.folding.acknowledged(piece)
        raise Doubt(None, "amid a fetch")

    await fold(engine, 0, 10, 3)
    engine.reader.fetched = {0: [records(13, 3), records(16, 2)]}
    with pytest.raises(Doubt) as doubt:
        await engine.main_loop.turn(deliver)
    assert [2, 0, 6, 0] == list(engine.queues().values())
    await engine.doubts.drop_everything(doubt.value)
    assert NO_QUEUES == engine.queues()
    await engine.recovery_task.ended()

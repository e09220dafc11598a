"""The copy of a worker's state: tables, offsets and ends of outputs of one moment, made between two transactions."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiokafka import errors as kafka_errors

from portfolio_stream.errors import OutcomeUnknown, StateNotCopied, StoreFailed
from portfolio_stream.exactly_once import state_copying
from portfolio_stream.exactly_once.database import RocksCopy, RocksDatabase
from portfolio_stream.exactly_once.operations import CopiedPartition, CopyState, Pause, StateCopy
from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.recent import Written
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, copied_rows, encode_meta, prefix_of
from tests.unit.engine_stage import NUMBERS, RecoversCommitted, Stage, records, staged

BOTH = frozenset({0, 1})
LAST = b"numbers\x00last"


class Brokers:
    """What the brokers say of the output topic's ends, and of the membership."""

    def __init__(self, engine: Stage) -> None:
        self._engine = engine
        self.ends = {0: 110, 1: 120}
        #: errors of the next answers
        self.errors: list[BaseException] = []
        self.is_member = True
        #: the main loop must not have handed out anything between the commit and the answer
        self.committed: list[Mapping[int, int]] = []

    async def log_offsets(self, client: Any, topic: str, partitions: Collection[int], which: int) -> dict[int, int]:
        self.committed.append(dict(self._engine.sent.committed))
        if self.errors:
            raise self.errors.pop(0)
        return {partition: self.ends[partition] for partition in partitions if partition in self.ends}

    async def group_offsets(self, *asked: Any, **more: Any) -> dict[int, int]:
        return {0: 10} if self.is_member else {}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    store = Store(tmp_path / "store")
    made = staged(store)
    made.sent.committed = {0: 10, 1: 20}
    made.recovery.finds = RecoversCommitted(made.sent.committed)
    yield made
    store.close()


@pytest.fixture
def brokers(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> Brokers:
    made = Brokers(engine)
    monkeypatch.setattr(state_copying, "log_offsets", made.log_offsets)
    monkeypatch.setattr(state_copying, "group_offsets", made.group_offsets)
    monkeypatch.setattr(state_copying, "RETRY_SECONDS", 0.0)
    return made


async def fold(engine: Stage, partition: int, first: int, count: int) -> None:
    """The reader brings records of a partition, and each slice writes the offset of its last one."""

    async def deliver(piece: Slice) -> None:
        piece.view(NUMBERS).put(b"last", piece.records[-1].offset)
        engine.folding.acknowledged(piece)

    engine.reader.fetched = {partition: [records(first, count)]}
    await engine.main_loop.turn(deliver)


async def copied(engine: Stage, asked: CopyState) -> StateCopy:
    waiting = asyncio.create_task(engine.interpreter.ask(asked))
    while not waiting.done():
        await engine.interpreter.carry_out()
        await asyncio.sleep(0)
    return waiting.result()


def refused(*_: object) -> None:
    raise OSError("no space")


def rows_of(folder: Path, partition: int) -> dict[bytes, bytes]:
    copy = RocksCopy(folder)
    try:
        return dict(copied_rows(copy.cursor(), partition))
    finally:
        copy.close()


async def test_a_copy_is_one_moment_of_all_its_partitions(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    """Rows, offsets and ends of one commit, whatever is folded afterwards. The store goes on."""
    await fold(engine, 0, 10, 5)
    await fold(engine, 1, 20, 3)
    copy = await copied(engine, CopyState(BOTH, tmp_path / "copies" / "a"))
    await fold(engine, 0, 15, 5)
    await engine.boundary.commit()
    assert {
        0: CopiedPartition(15, "c", 0, {"out": 110}, "f"),
        1: CopiedPartition(23, "c", 0, {"out": 120}, "f"),
    } == copy.parts
    assert {} == copy.left_out
    assert ({LAST: b"14"}, {LAST: b"22"}) == (rows_of(copy.folder, 0), rows_of(copy.folder, 1))
    assert b"19" == engine.store.rows(0).get(LAST)


async def test_outputs_that_are_still_to_be_repeated_are_not_of_the_copied_records(
    engine: Stage, brokers: Brokers, tmp_path: Path
) -> None:
    """They stand before the end of the topic, and the records that give them come after the copy's offset."""
    meta = Meta(topic_id="s", offset=12, partitions=2, changelog="c", fold="f", repeat={"out": (70, 110)})
    await engine.store.commit({0: Written({prefix_of(0) + META_KEY: encode_meta(meta)}, 1)}, {})
    parts = (await copied(engine, CopyState(BOTH, tmp_path / "copy"))).parts
    assert {0: (12, {"out": 70}), 1: (20, {"out": 120})} == {p: (one.offset, one.outputs) for p, one in parts.items()}


async def test_the_ends_are_asked_after_the_commit(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    """An end from before it would lie before outputs of the copied records."""
    await fold(engine, 0, 10, 5)
    await copied(engine, CopyState(BOTH, tmp_path / "copy"))
    assert [{0: 15, 1: 20}] == brokers.committed


async def test_partitions_are_paused_at_the_moment_of_their_copy(
    engine: Stage, brokers: Brokers, tmp_path: Path
) -> None:
    await fold(engine, 0, 10, 5)
    copy = await copied(engine, CopyState(frozenset({0}), tmp_path / "copy", pauses=True))
    assert (PartitionState.PAUSED, 15) == (engine.partitions[0].state, copy.parts[0].offset)
    assert {1: 20} == engine.reader.reading
    await fold(engine, 0, 15, 5)  # what a fetch brought late
    await engine.boundary.commit()
    assert 15 == engine.sent.committed[0]


async def test_a_partition_that_is_not_served_is_left_out(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    """With its state. If no partition is left, nothing is copied."""
    engine.member.target = frozenset({0})
    await engine.ownership.follow()
    copy = await copied(engine, CopyState(BOTH, tmp_path / "a"))
    assert ({0}, {1: "unowned"}) == (copy.parts.keys(), copy.left_out)
    copy = await copied(engine, CopyState(frozenset({1}), tmp_path / "b", pauses=True))
    assert ({}, {1: "unowned"}, False) == (copy.parts, copy.left_out, copy.folder.exists())


async def test_nothing_is_written_for_a_copy_without_a_partition(
    engine: Stage, brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An order that comes again and again for a halted partition must not fill the disk with small files."""
    engine.member.target = frozenset({0})
    await engine.ownership.follow()
    monkeypatch.setattr(RocksDatabase, "flush", refused)
    assert {} == (await copied(engine, CopyState(frozenset({1}), tmp_path / "copy"))).parts
    with pytest.raises(StateNotCopied):
        await copied(engine, CopyState(frozenset({0}), tmp_path / "copy"))


async def test_a_paused_partition_is_copied(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    """Its tables are served, and stay as they are."""
    paused = asyncio.create_task(engine.interpreter.ask(Pause(0)))
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    await paused
    assert 10 == (await copied(engine, CopyState(frozenset({0}), tmp_path / "copy"))).parts[0].offset


async def test_nothing_is_copied_without_a_confirmed_membership(
    engine: Stage, brokers: Brokers, tmp_path: Path
) -> None:
    """Another worker may have written behind the ends: the copy would not fit to them."""
    brokers.is_member = False
    copy = await copied(engine, CopyState(BOTH, tmp_path / "copy", pauses=True))
    assert ({}, set(BOTH), False) == (copy.parts, set(copy.left_out), copy.folder.exists())
    assert PartitionState.RUNNING is engine.partitions[0].state


async def test_a_leader_that_moves_is_asked_again(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    brokers.errors = [kafka_errors.LeaderNotAvailableError(), kafka_errors.KafkaConnectionError()]
    assert BOTH == (await copied(engine, CopyState(BOTH, tmp_path / "copy"))).parts.keys()


async def test_brokers_that_do_not_answer_end_the_order_alone(
    engine: Stage, brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker goes on, and nothing is paused."""
    monkeypatch.setattr(state_copying, "ANSWER_SECONDS", 0.01)
    del brokers.ends[1]
    with pytest.raises(StateNotCopied, match="without a leader"):
        await copied(engine, CopyState(BOTH, tmp_path / "copy", pauses=True))
    assert PartitionState.RUNNING is engine.partitions[0].state
    await fold(engine, 0, 10, 5)
    await engine.boundary.commit()
    assert 15 == engine.sent.committed[0]


async def test_a_copy_that_fails_does_the_store_no_harm(engine: Stage, brokers: Brokers, tmp_path: Path) -> None:
    """Something stands at the folder's place. The operator hears of it, and the next commits are stored."""
    (tmp_path / "copy").mkdir()
    with pytest.raises(StateNotCopied):
        await copied(engine, CopyState(BOTH, tmp_path / "copy", pauses=True))
    assert PartitionState.RUNNING is engine.partitions[0].state
    await fold(engine, 0, 10, 5)
    await engine.boundary.commit()
    await engine.store.flush()
    assert b"14" == engine.store.rows(0).get(LAST)


async def test_rows_that_the_disk_refuses_end_the_worker(
    engine: Stage, brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is harmed, as by any write that failed."""
    for first in (10, 15):  # the rows of the second commit wait in memory
        await fold(engine, 0, first, 5)
        await engine.boundary.commit()
    monkeypatch.setattr(RocksDatabase, "write", refused)
    with pytest.raises(StoreFailed):
        await copied(engine, CopyState(BOTH, tmp_path / "copy"))
    with pytest.raises(StoreFailed):
        engine.store.raise_failure()


async def test_a_copy_that_meets_the_end_of_the_engine_is_answered(
    engine: Stage, brokers: Brokers, tmp_path: Path
) -> None:
    """The recent rows were still on their way to the disk when the engine ended."""
    waiting = asyncio.create_task(engine.interpreter.ask(CopyState(BOTH, tmp_path / "copy")))
    await asyncio.sleep(0)
    engine.interpreter.refuse_all()
    with pytest.raises(OutcomeUnknown, match="partitions 0, 1 may"):
        await waiting


async def test_an_end_from_before_our_last_record_is_an_old_leaders(
    engine: Stage, brokers: Brokers, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The outputs of a restore would be compared from an earlier place, and its partition would halt."""
    monkeypatch.setattr(engine.commits, "least_end", lambda topic, partition: 115 if partition == 1 else 0)
    answers = iter(({0: 110, 1: 0}, {0: 110, 1: 120}))

    async def log_offsets(*_: Any) -> dict[int, int]:
        return next(answers)

    monkeypatch.setattr(state_copying, "log_offsets", log_offsets)
    copy = await copied(engine, CopyState(BOTH, tmp_path / "copy"))
    assert [{"out": 110}, {"out": 120}] == [dict(copy.parts[partition].outputs) for partition in (0, 1)]

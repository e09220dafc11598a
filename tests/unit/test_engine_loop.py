"""Corners of the engine's loop that no broker brings about on demand."""

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError

from portfolio_stream.errors import (
    DeadLetterFailed,
    OffsetsAgree,
    OutcomeUnknown,
    PartitionNotHalted,
    RecordNotMovable,
    StoreFailed,
    Superseded,
    TableUnknown,
    TopicNotAnOutput,
)
from portfolio_stream.exactly_once import commits, doubts, main_loop, slices
from portfolio_stream.exactly_once.commits import COMMITTING_SECONDS
from portfolio_stream.exactly_once.failures import Suspicion
from portfolio_stream.exactly_once.main_loop import KEEP_ID_SECONDS
from portfolio_stream.exactly_once.operations import Retry, SetAside
from portfolio_stream.exactly_once.partition_life import PartitionEvent, PartitionState
from portfolio_stream.exactly_once.protocol import MembershipBroken, Refused
from portfolio_stream.exactly_once.recovery import Halted, Ready
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, encode_meta, prefix_of
from portfolio_stream.exactly_once.transaction_size import TRANSACTION_EVENTS
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.observe import statistics
from tests.unit.engine_stage import NUMBERS, RecoversAt, RecoversCommitted, Stage, records, staged

R = TypeVar("R")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    """Owns and runs partitions 0 and 1 of two, at the offsets 10 and 20; without a broker."""
    store = Store(tmp_path / "store")
    yield staged(store)
    store.close()


async def handed_out(engine: Stage, partition: int, first: int, count: int) -> Slice:
    """A slice that is on its way through its fold."""
    delivered: list[Slice] = []

    async def deliver(piece: Slice) -> None:
        delivered.append(piece)

    await engine.folding.hand_out(deliver, partition, records(first, count), 0)
    return delivered[0]


async def folded(
    engine: Stage, partition: int, handed: list[Any], values: dict[bytes, Any] | None = None, fails: bool = False
) -> None:
    """One slice goes through its fold, which writes `values`, or fails."""

    async def fold(piece: Slice) -> None:
        if fails:
            engine.folding.failed(piece, ValueError())
            return
        for key, value in (values or {}).items():
            piece.view(NUMBERS).put(key, value)
        piece.appender("out")(1, b"k", b"v", ())
        engine.folding.acknowledged(piece)

    await engine.folding.hand_out(fold, partition, handed, 0)
    await engine.folding.settle()


async def written(engine: Stage, partition: int, first: int, count: int, values: dict[bytes, Any]) -> None:
    """A slice that its fold has acknowledged, with what the fold wrote. The share stays open."""
    await folded(engine, partition, records(first, count), values)


async def test_a_dropped_slice_changes_nothing(engine: Stage) -> None:
    """Its fold was waiting for something while everything was dropped: what it writes then is seen by nobody."""
    piece = await handed_out(engine, 0, 10, 2)
    before = piece.view(NUMBERS)
    engine.partitions.happened(PartitionEvent.DROPPED, (0,))
    engine.commits.discard((0,))
    before.put(b"x", 1)
    piece.view(NUMBERS).put(b"x", 2)
    piece.appender("out")(1, b"k", b"v", ())
    engine.folding.acknowledged(piece)
    assert engine.views.view(0, NUMBERS)[b"x"] is None
    assert ({}, {}) == (engine.commits.to_commit(), engine.views.view(0, NUMBERS).dirty)


async def test_a_failed_fold_is_read_again_in_smaller_slices(engine: Stage) -> None:
    """From the committed offset; nothing of the failed slice is left, the other partition keeps its share."""
    other = await handed_out(engine, 1, 20, 3)
    piece = await handed_out(engine, 0, 10, 40)
    piece.view(NUMBERS).put(b"x", 1)
    engine.folding.acknowledged(other)
    engine.folding.failed(piece, ValueError())
    await engine.folding.settle()
    assert [(0, 10)] == engine.reader.resumed
    assert 5 == engine.suspicion(0).slice_records
    assert {1: 23} == engine.commits.to_commit()
    assert engine.views.view(0, NUMBERS)[b"x"] is None
    assert not piece.is_current


async def test_a_fold_that_fails_while_its_partition_is_given_back(engine: Stage) -> None:
    """It belongs to somebody else now: it is not read again."""
    piece = await handed_out(engine, 0, 10, 5)
    engine.member.target = frozenset({1})
    revoking = asyncio.create_task(engine.ownership.follow())
    await asyncio.sleep(0)
    engine.folding.failed(piece, ValueError())
    await revoking
    assert ({1: 20}, []) == (engine.reader.reading, engine.reader.resumed)
    assert [frozenset({1})] == engine.member.acknowledged
    assert ({1}, None, {}) == (engine.partitions.served, engine.partitions[0].suspicion, engine.partitions.halted)


async def test_an_expulsion_during_a_revocation_acknowledges_nothing(engine: Stage) -> None:
    """What was owned before is void; the coordinator refuses a join that claims partitions."""
    piece = await handed_out(engine, 0, 10, 5)
    engine.member.target = frozenset({1})
    revoking = asyncio.create_task(engine.ownership.follow())
    await asyncio.sleep(0)
    engine.member.session = 1
    engine.folding.failed(piece, ValueError())
    with pytest.raises(MembershipBroken):
        await revoking
    assert [] == engine.member.acknowledged


async def test_three_failures_of_one_record_halt_its_partition(engine: Stage) -> None:
    """Slices get smaller until the record is alone, and alone it is tried three times."""
    for count in (64, 8, 1, 1):
        assert count == engine.folding.slice_records(0)
        await folded(engine, 0, records(10, count), fails=True)
        assert {} == engine.partitions.halted
    await folded(engine, 0, records(10, 1), fails=True)
    assert (10, {1}, {1: 20}) == (engine.partitions.halted[0].offset, engine.partitions.served, engine.reader.reading)


async def halted_engine(engine: Stage) -> None:
    for count in (500, 62, 7, 1, 1, 1):
        await folded(engine, 0, records(10, count), fails=True)


async def answer(engine: Stage, asked: Coroutine[Any, Any, R]) -> R:
    """What an operator gets, once the loop has carried it out."""
    waiting = asyncio.create_task(asked)
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    return await waiting


async def test_only_what_is_halted_can_be_run_again(tmp_path: Path) -> None:
    """An operator's request that came too late, or for another record, changes nothing."""
    store = Store(tmp_path / "store")
    engine = staged(store, can_move=False)
    await halted_engine(engine)
    with pytest.raises(PartitionNotHalted):
        await answer(engine, engine.interpreter.ask(Retry(1)))
    with pytest.raises(PartitionNotHalted):
        await answer(engine, engine.interpreter.ask(SetAside(0, 11)))
    with pytest.raises(RecordNotMovable):  # this app says nothing of how to
        await answer(engine, engine.interpreter.ask(SetAside(0, 10)))
    assert [0] == list(engine.partitions.halted)
    store.close()


async def test_a_retried_partition_is_recovered(engine: Stage) -> None:
    """It starts afresh, from what is committed."""
    await halted_engine(engine)
    engine.recovery.finds = RecoversAt(10)
    engine.reader.resumed.clear()
    assert 10 == (await answer(engine, engine.interpreter.ask(Retry(0)))).offset
    await engine.recovery_task.decided()
    assert ([(0, 10)], {}, None) == (engine.reader.resumed, engine.partitions.halted, engine.partitions[0].suspicion)


@pytest.mark.parametrize(("lacks_group_offset", "positions"), [(True, {0: 10}), (False, {})])
async def test_a_group_offset_that_is_gone_is_committed_again(
    engine: Stage, lacks_group_offset: bool, positions: dict[int, int]
) -> None:
    """Without waiting for an event of that partition, and never behind one: a slice moves the same share on."""
    engine.partitions.happened(PartitionEvent.OUT_OF_RANGE, (0,))
    engine.recovery.finds = RecoversAt(10, lacks_group_offset=lacks_group_offset)
    engine.recovery_task.recover((0,))
    await engine.recovery_task.decided()
    assert positions == engine.commits.to_commit()
    assert lacks_group_offset is engine.signals.is_woken
    engine.folding.acknowledged(await handed_out(engine, 0, 10, 5))
    assert {0: 15} == engine.commits.to_commit()


def halt_at(engine: Stage, offset: int) -> None:
    """The next batch of partition 0 can't be read, and no second try would help."""
    batch = UnreadableBatch(
        topic="in", partition=0, offset=offset, last_offset=offset, timestamp=1, reason="undecodable", value=b""
    )
    engine.boundary.unreadable(batch)


async def test_a_retry_reads_an_open_share_again(engine: Stage) -> None:
    """What was folded before the partition halted, and not committed: with its tables or not at all."""
    await written(engine, 0, 10, 3, {b"x": 1})
    halt_at(engine, 13)
    engine.recovery.finds = RecoversAt(10)
    engine.reader.resumed.clear()
    await answer(engine, engine.interpreter.ask(Retry(0)))
    await engine.recovery_task.decided()
    assert [(0, 10)] == engine.reader.resumed
    assert ({}, []) == (engine.commits.to_commit(), engine.views.take_dirty(0))
    assert (await handed_out(engine, 0, 10, 5)).is_current


async def test_a_retry_waits_for_what_is_in_flight(engine: Stage) -> None:
    """Or it would recover an offset that is about to be passed."""
    engine.sent.may_commit.clear()
    await written(engine, 0, 10, 3, {})
    await engine.boundary.close()
    halt_at(engine, 13)
    engine.recovery.finds = RecoversAt(13)
    waiting = asyncio.create_task(answer(engine, engine.interpreter.ask(Retry(0))))
    for _ in range(5):
        await asyncio.sleep(0)
    assert PartitionState.HALTED is engine.partitions[0].state
    engine.sent.may_commit.set()
    await waiting
    await engine.recovery_task.decided()
    assert 13 == engine.reader.reading[0]


async def test_a_membership_waits_until_the_identity_is_known(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled, for the session that was the current one before: an expulsion meanwhile needs another answer."""
    monkeypatch.setattr(doubts, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    member = engine.member
    member.target = frozenset()

    async def settle() -> None:
        assert [] == member.identity
        member.session = 2

    monkeypatch.setattr(engine.sent, "settle", settle)
    member.session = 1
    await engine.doubts.drop_everything(MembershipBroken(None, "expelled"))
    assert [1] == member.identity
    with pytest.raises(MembershipBroken):
        await engine.ownership.follow()


async def test_a_superseded_worker_says_no_goodbye(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The member id is its successor's."""

    async def settle() -> None:
        raise Superseded("g-m")

    monkeypatch.setattr(engine.sent, "settle", settle)
    engine.member.session = 1
    engine.signals.wake()
    with pytest.raises(Superseded):
        await engine.main_loop.run(lambda piece: None)  # type: ignore[arg-type,return-value]
    assert ["another's"] == engine.member.identity


async def test_an_operator_is_answered_although_a_doubt_came_first(
    engine: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an idle worker nothing else wakes the loop for a request that a drop left behind."""
    await halted_engine(engine)
    monkeypatch.setattr(doubts, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    engine.recovery.finds = RecoversAt(10)
    asked = asyncio.create_task(engine.interpreter.ask(Retry(0)))
    await asyncio.sleep(0)
    engine.signals.take_wake()
    await engine.doubts.drop_everything(MembershipBroken(None, "expelled"))
    await engine.recovery_task.decided()
    assert engine.signals.is_woken and {0} == engine.partitions.halted.keys()
    await engine.interpreter.carry_out()
    assert 10 == (await asked).offset
    await engine.recovery_task.ended()


async def test_a_partition_has_one_recovery(engine: Stage) -> None:
    """One is retried while the recovery that halted it waits for another partition, which is then given back: a
    second recovery that ends after the first would read again what was folded since."""
    may_end = asyncio.Event()
    resumed: list[int] = []

    class Waits(RecoversAt):
        async def recover(
            self, partitions: Iterable[int], taken_over: Iterable[int] = ()
        ) -> AsyncIterator[Ready | Halted]:
            if 1 in partitions:
                yield Ready(partition=0, offset=10, replayed=0)
            await may_end.wait()
            async for ready in super().recover(partitions):
                resumed.append(ready.partition)
                yield ready

    engine.recovery.finds = Waits(10)
    engine.partitions.happened(PartitionEvent.DROPPED, (0, 1))
    engine.recovery_task.recover((0, 1))
    await asyncio.sleep(0)
    assert {0} == engine.partitions.served
    await engine.recovery_task.again(PartitionEvent.OUT_OF_RANGE, 0)
    engine.member.target = frozenset({0})
    await engine.ownership.follow()
    may_end.set()
    await engine.recovery_task.decided()
    assert ([0], {0}) == (resumed, engine.partitions.served)


async def test_a_recovery_takes_over_what_another_has_not_decided(tmp_path: Path) -> None:
    """Partitions come one after the other, as others give them back: the later ones wait for no replay of the first."""
    store = Store(tmp_path / "store")
    engine = staged(store, {0: 10, 1: 10, 2: 10})
    asked: list[tuple[set[int], set[int]]] = []

    class Waits(RecoversAt):
        async def recover(
            self, partitions: Iterable[int], taken_over: Iterable[int] = ()
        ) -> AsyncIterator[Ready | Halted]:
            asked.append((set(partitions), set(taken_over)))
            if len(asked) == 1:
                yield Ready(partition=0, offset=10, replayed=0)
                await asyncio.Event().wait()
            async for ready in super().recover(partitions):
                yield ready

    engine.recovery.finds = Waits(10)
    engine.partitions.happened(PartitionEvent.DROPPED, (0, 1))
    engine.recovery_task.recover((0, 1))
    await asyncio.sleep(0)
    await engine.recovery_task.again(PartitionEvent.OUT_OF_RANGE, 2)
    await engine.recovery_task.decided()
    assert [({0, 1}, set()), ({1, 2}, {1})] == asked
    assert {0, 1, 2} == engine.partitions.served
    store.close()


async def test_an_offset_out_of_range_is_asked_for_again(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The leader may be one that has just woken: recovery decides, not its answer."""
    asked: list[int] = []

    class Recovers(RecoversAt):
        async def recover(
            self, partitions: Iterable[int], taken_over: Iterable[int] = ()
        ) -> AsyncIterator[Ready | Halted]:
            asked.extend(partitions)
            async for ready in super().recover(partitions):
                yield ready

    async def fetch(_: int) -> Any:
        raise OffsetOutOfRangeError({TopicPartition("in", 0): 10})

    engine.recovery.finds = Recovers(10)
    monkeypatch.setattr(engine.reader, "fetch", fetch)
    assert {} == await engine.main_loop.fetch()
    assert {1} == engine.partitions.served
    await engine.recovery_task.decided()
    assert ([0], {0, 1}, {}) == (asked, engine.partitions.served, engine.partitions.halted)


async def test_slices_shrink_while_their_records_are_costly(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats wait for a slice; and they grow again."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(slices, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    costs = iter((0.01, 0.01, 0.01, 0.14, 0.14, 0.01, 0.01, 0.01))  # milliseconds a record, by slice
    sizes = []

    async def fold(piece: Slice) -> None:
        sizes.append(len(piece.records))
        clock.now += len(piece.records) * next(costs) / 1000
        engine.folding.acknowledged(piece)

    monkeypatch.setattr(engine.commits, "interval", lambda: 60.0)
    for _ in range(8):
        await engine.folding.hand_out(fold, 0, records(10, engine.folding.slice_records(0)), 0)
        await engine.folding.settle()
    assert [64, 128, 256, 500, 71, 71, 142, 284] == sizes


async def test_one_slow_commit_does_not_slow_the_next_ones(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its events have waited already; commits that stay slow make the interval longer, up to its bound."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: 0.0, time=lambda: 0.0)
    monkeypatch.setattr(commits, "time", fake)
    monkeypatch.setattr(statistics, "time", fake)

    async def after_commits(times: int, seconds: float) -> float:
        async def commit() -> None:
            clock.now += seconds

        monkeypatch.setattr(engine.sent, "commit", commit)
        for _ in range(times):
            engine.commits.move_position(0, 11)
            await engine.boundary.commit()
        return round(engine.commits.interval(), 3)

    intervals = await after_commits(50, 0.02), await after_commits(1, 0.09), await after_commits(50, 0.4)
    assert (0.02, 0.034, 0.1) == intervals


async def test_a_worker_that_stands_by_keeps_its_transactional_id(
    engine: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator forgets one that has no transaction for a week."""
    clock = SimpleNamespace(now=0.0)
    ended: list[float] = []

    async def settle() -> None:
        engine.sent.last_end = clock.now
        ended.append(clock.now)

    async def at(seconds: float) -> None:
        clock.now = seconds
        await engine.main_loop.keep_transactional_id()

    monkeypatch.setattr(engine.sent, "settle", settle)
    monkeypatch.setattr(main_loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for seconds in (10.0, KEEP_ID_SECONDS + 1, KEEP_ID_SECONDS + 2, 2 * KEEP_ID_SECONDS + 2):
        await at(seconds)
    assert [KEEP_ID_SECONDS + 1, 2 * KEEP_ID_SECONDS + 2] == ended
    engine.commits.share(0)  # its end will do as well
    await at(9 * KEEP_ID_SECONDS)
    assert 2 == len(ended)


async def test_a_request_that_meets_a_stop_is_answered(engine: Stage) -> None:
    """Nobody waits for an engine that ended."""
    waiting = asyncio.create_task(engine.interpreter.ask(Retry(0)))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(OutcomeUnknown):
        await waiting


async def test_a_late_transaction_waits_for_the_commit_before_it(
    engine: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose end wakes the loop: a look each millisecond would take the processor from it."""
    monkeypatch.setattr(engine.commits, "interval", lambda: -60.0)
    engine.sent.may_commit.clear()
    await written(engine, 0, 10, 3, {})
    await engine.boundary.close()
    await written(engine, 0, 13, 3, {})
    waits: list[int] = []

    async def fetch(timeout_ms: int) -> dict[int, Any]:
        waits.append(timeout_ms)
        return {}

    monkeypatch.setattr(engine.reader, "fetch", fetch)
    await engine.main_loop.fetch()
    engine.sent.may_commit.set()
    await engine.boundary.finish()
    engine.signals.take_wake()
    await engine.main_loop.fetch()
    assert [1000 * COMMITTING_SECONDS, 1] == waits


async def test_a_share_that_cannot_be_encoded_is_dropped_alone(engine: Stage) -> None:
    """Nothing of it is sent, nor kept: it is read again in smaller slices; the other share is committed."""
    sent = engine.sent
    await written(engine, 0, 10, 80, {b"good": 1, b"bad": "no number"})
    await written(engine, 1, 20, 3, {b"x": 7})
    await engine.boundary.close()
    await engine.boundary.finish()
    assert {1: 23} == sent.committed
    assert ([(0, 10)], 10) == (engine.reader.resumed, engine.suspicion(0).slice_records)
    assert [None, None] == [engine.views.view(0, NUMBERS)[key] for key in (b"good", b"bad")]
    assert 7 == engine.views.view(1, NUMBERS)[b"x"] and not engine.commits.is_open


@pytest.mark.parametrize("value", [None, "1", bytearray(b"1")])
async def test_an_encoder_returns_bytes_or_fails(engine: Stage, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """None would delete the entry, and what the store does not take would end the worker after the commit."""
    sent = engine.sent
    engine.views.view(0, NUMBERS).table = replace(NUMBERS, encode=lambda _: value)
    await written(engine, 0, 10, 1, {b"x": 1})
    await engine.boundary.close()
    await engine.boundary.finish()
    assert {} == sent.committed and 1 == engine.suspicion(0).tries


@pytest.mark.parametrize("error", [SystemExit(), RecursionError(), MemoryError(), asyncio.CancelledError()])
async def test_whatever_an_encoder_raises_is_its_partitions(engine: Stage, error: BaseException) -> None:
    """And halts it after three tries, with the record, which an operator can move."""

    def encode(_: int) -> bytes:
        raise error

    for _ in range(3):
        engine.views.view(0, NUMBERS).table = replace(NUMBERS, encode=encode)
        await written(engine, 0, 10, 1, {b"x": 1})
        await engine.boundary.close()
    reason = f"the encoding of its table values failed 3 times: {type(error).__name__}"
    halted = engine.partitions.halted[0]
    assert (10, reason, 10, {1}) == (halted.offset, halted.reason, halted.record.offset, engine.partitions.served)


async def test_a_failing_disk_is_no_failed_encoding(engine: Stage) -> None:
    """It ends the worker, as everywhere."""

    def encode(_: int) -> bytes:
        raise StoreFailed(Path("store"), "the disk is full")

    engine.views.view(0, NUMBERS).table = replace(NUMBERS, encode=encode)
    await written(engine, 0, 10, 1, {b"x": 1})
    with pytest.raises(StoreFailed):
        await engine.boundary.close()


async def test_what_was_fetched_before_a_share_was_dropped_is_not_folded(engine: Stage) -> None:
    """A close amid one partition's slices drops another's share: its records in hand stand behind the dropped ones."""
    await written(engine, 1, 20, 5, {b"bad": "no number"})
    engine.partitions.suspect(0, Suspicion(500, 11))
    engine.partitions.happened(PartitionEvent.UNREADABLE, (0,))  # its slices are committed at once
    engine.reader.fetched = {0: [records(10, 2)], 1: [records(25, 5)]}
    delivered: list[int] = []

    async def deliver(piece: Slice) -> None:
        delivered.append(piece.partition)
        engine.folding.acknowledged(piece)

    await engine.main_loop.turn(deliver)
    assert [0] == delivered
    assert 20 == engine.reader.reading[1]


async def test_a_stop_waits_for_no_long_fetch(engine: Stage) -> None:
    """The rest of what was fetched is not handed out, and nothing beyond what was handed out is committed."""
    engine.reader.fetched = {0: [records(10, 2), records(12, 2)], 1: [records(20, 2)]}
    delivered: list[int] = []

    async def deliver(piece: Slice) -> None:
        delivered.append(piece.records[0].offset)
        engine.folding.acknowledged(piece)
        engine.signals.is_stopping = True

    await engine.main_loop.turn(deliver)
    await engine.main_loop.finish()
    assert [10] == delivered
    assert 12 == engine.committed(0)


async def test_each_drop_makes_smaller_transactions(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that outlasted its time-out on a slow link would outlast it again; each commit makes the next one larger."""
    monkeypatch.setattr(engine.commits, "interval", lambda: 60.0)
    for _ in range(3):
        engine.commits.start_over(0)
    await written(engine, 0, 10, TRANSACTION_EVENTS // 8, {b"x": 1})
    await engine.boundary.close_if_due()
    assert not engine.commits.is_open  # it was full
    await engine.boundary.finish()
    await written(engine, 0, 10_000, TRANSACTION_EVENTS // 8, {b"x": 1})
    await engine.boundary.close_if_due()
    assert engine.commits.is_open


async def test_records_that_lie_far_apart_are_told_apart(engine: Stage) -> None:
    """Between two records may be thousands of offsets, of aborted transactions: records count, not offsets."""
    far = [*records(10, 1), *records(9_000, 1)]
    await folded(engine, 0, far, fails=True)
    assert 1 == engine.suspicion(0).slice_records


async def fold_all(engine: Stage, ends: dict[int, int]) -> None:
    """What a reader brings and folds acknowledge, until everything that runs is committed."""
    for _ in range(60):
        try:
            for partition in sorted(engine.partitions.served):
                first = engine.committed(partition) or 0
                count = min(engine.folding.slice_records(partition), ends[partition] - first)
                if count:
                    await written(engine, partition, first, count, {})
            await engine.boundary.commit()
        except Refused as refused:
            await engine.doubts.drop_everything(refused)
            await engine.recovery_task.decided()


async def test_refused_records_halt_their_partitions_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its record, and what precedes the record is committed. A refusal drops everything: the halt of one
    outlives the other's, or the two would take turns for ever, and nobody else would commit."""
    monkeypatch.setattr(doubts, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    store = Store(tmp_path / "store")
    engine = staged(store, {0: 10, 1: 20, 2: 0})
    sent = engine.sent
    sent.refused = {0: 60, 1: 25}
    sent.committed = {0: 10, 1: 20, 2: 0}
    engine.recovery.finds = RecoversCommitted(sent.committed)
    await fold_all(engine, {0: 300, 1: 300, 2: 300})
    assert {0: 60, 1: 25} == {partition: halted.record.offset for partition, halted in engine.partitions.halted.items()}
    assert "the broker refused a record for out 3 times: MESSAGE_TOO_LARGE" == engine.partitions.halted[0].reason
    assert ({0: 60, 1: 25, 2: 300}, {2}) == (sent.committed, engine.partitions.served)
    await engine.doubts.drop_everything(MembershipBroken(None, "a beat was lost"))
    await engine.recovery_task.decided()
    assert {0, 1} == engine.partitions.halted.keys()
    sent.committed[1] = 26  # by another worker, to which it was given meanwhile
    await engine.doubts.drop_everything(MembershipBroken(None, "a beat was lost"))
    await engine.recovery_task.decided()
    assert ({0}, {1, 2}) == (engine.partitions.halted.keys(), engine.partitions.served)
    store.close()


async def test_a_dead_letter_that_cannot_be_built_moves_nothing(engine: Stage) -> None:
    """The operator is told, the partition stays halted, the worker goes on; later the record can still be moved."""
    sent = engine.sent
    await halted_engine(engine)
    failures = [ValueError("a bug"), None]

    def set_aside(piece: Slice) -> None:
        if (error := failures.pop(0)) is not None:
            raise error

    engine.write_dead_letter = set_aside
    with pytest.raises(DeadLetterFailed):
        await answer(engine, engine.interpreter.ask(SetAside(0, 10)))
    assert ({}, False, {0}) == (sent.committed, engine.commits.is_open, engine.partitions.halted.keys())
    await answer(engine, engine.interpreter.ask(SetAside(0, 10)))
    assert ({0: 11}, 11) == (sent.committed, engine.reader.reading[0])


async def test_a_dead_letter_that_cannot_be_committed_moves_nothing(engine: Stage) -> None:
    """What set_aside wrote to a table cannot be encoded: the record is not passed."""
    sent = engine.sent
    await halted_engine(engine)
    engine.write_dead_letter = lambda piece: piece.view(NUMBERS).put(b"x", "no number")
    with pytest.raises(DeadLetterFailed):
        await answer(engine, engine.interpreter.ask(SetAside(0, 10)))
    assert ({}, {0}, {1: 20}) == (sent.committed, engine.partitions.halted.keys(), engine.reader.reading)


async def test_a_fold_writes_to_its_apps_own_tables_and_topics_alone(engine: Stage) -> None:
    """Nobody would keep an unknown table's values; an unknown topic would keep every partition from committing."""
    piece = await handed_out(engine, 0, 10, 1)
    other = replace(NUMBERS, name="others")
    with pytest.raises(TableUnknown):
        piece.view(other)
    for topic in ("elsewhere", "in", "log"):
        with pytest.raises(TopicNotAnOutput):
            piece.appender(topic)


async def test_slow_encoding_makes_smaller_transactions(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats wait for it; and they grow again."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: 0.0, time=lambda: 0.0)
    monkeypatch.setattr(commits, "time", fake)

    def encode(_: int) -> bytes:
        clock.now += 5.0
        return b"1"

    engine.views.view(0, NUMBERS).table = replace(NUMBERS, encode=encode)
    await written(engine, 0, 10, 1_000, {b"x": 1})
    await engine.boundary.commit()
    assert 100 == engine.commits.size.events
    await written(engine, 0, 1_010, 100, {})
    await engine.boundary.commit()
    assert 200 == engine.commits.size.events


class FindsMoved:
    """Recovery that finds the group's offset at 95 and the state's at 10."""

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Halted]:
        for partition in partitions:
            yield Halted(partition=partition, offset=10, reason="moved", group_offset=95)


async def test_an_offset_that_somebody_moved_is_put_back(engine: Stage) -> None:
    """The state's offset, in a transaction of its own; then the partition is recovered."""
    sent = engine.sent
    meta = Meta(topic_id="t", offset=10, partitions=2, changelog="c", fold="f")
    await engine.store.write([(prefix_of(0) + META_KEY, encode_meta(meta))], {})
    engine.recovery.finds = FindsMoved()
    await engine.recovery_task.again(PartitionEvent.OUT_OF_RANGE, 0)
    await engine.recovery_task.decided()
    engine.recovery.finds = RecoversCommitted(sent.committed)
    await written(engine, 1, 20, 3, {})
    ended = await answer(engine, engine.interpreter.ask(Retry(0, from_state=True)))
    await engine.recovery_task.decided()
    assert (95, 10) == (ended.group_offset, ended.offset)
    assert ({0: 10, 1: 23}, {0, 1}, {}) == (sent.committed, engine.partitions.served, engine.partitions.halted)


async def test_no_other_halt_goes_on_from_the_state(engine: Stage) -> None:
    """A trimmed source, another topic, a record that cannot be committed: the offsets agree, or tell nothing."""
    await halted_engine(engine)
    for partition, error in ((0, OffsetsAgree), (1, PartitionNotHalted)):
        with pytest.raises(error):
            await answer(engine, engine.interpreter.ask(Retry(partition, from_state=True)))
    assert [0] == list(engine.partitions.halted)


async def test_a_turn_with_records_sets_the_readers_pace(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the interval, which the metrics show. A turn without records changes nothing."""
    paces: list[float] = []

    async def deliver(piece: Slice) -> None:
        engine.folding.acknowledged(piece)

    monkeypatch.setattr(engine.reader, "pace", paces.append)
    await engine.main_loop.turn(deliver)
    assert ([], 0.0) == (paces, engine.statistics.interval_seconds)
    engine.reader.fetched = {0: [records(10, 2)]}
    await engine.main_loop.turn(deliver)
    await engine.boundary.finish()
    assert [engine.commits.interval()] == paces == [engine.statistics.interval_seconds]
    assert 12 == engine.committed(0)  # everything that was fetched is gathered, so the transaction closed at once


async def test_a_transaction_of_a_backlog_gathers_for_its_whole_interval(
    engine: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More records are there at once, and a larger transaction costs less for each record."""

    async def deliver(piece: Slice) -> None:
        engine.folding.acknowledged(piece)

    monkeypatch.setattr(engine.commits, "interval", lambda: 60.0)
    engine.reader.behind = {0}
    engine.reader.fetched = {0: [records(10, 2)]}
    await engine.main_loop.turn(deliver)
    assert (True, 10) == (engine.commits.is_open, engine.committed(0))
    engine.reader.behind = set()
    engine.reader.fetched = {0: [records(12, 1)]}
    await engine.main_loop.turn(deliver)
    await engine.boundary.finish()
    assert 13 == engine.committed(0)


async def test_an_idle_worker_ends_when_its_disk_refuses_rows(engine: Stage) -> None:
    """Rows are written after their commit. No other commit may come that could tell."""

    def refuse() -> None:
        raise OSError("no space left")

    async def deliver(piece: Slice) -> None: ...

    with pytest.raises(StoreFailed):
        engine.store.in_order(refuse)
    with pytest.raises(StoreFailed, match="no space left"):
        await engine.main_loop.turn(deliver)

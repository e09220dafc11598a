"""Corners of the engine's loop that no broker brings about on demand."""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

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
from portfolio_stream.exactly_once import commits, slices
from portfolio_stream.exactly_once import engine as loop
from portfolio_stream.exactly_once.commits import COMMITTING_SECONDS, Commits
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.engine import KEEP_ID_SECONDS, Engine
from portfolio_stream.exactly_once.failures import Suspect
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.member_name import MemberName, Naming
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import MembershipBroken, Refused
from portfolio_stream.exactly_once.recovery import Halted, Ready, Source
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, encode_meta, prefix_of
from portfolio_stream.exactly_once.transaction import Part
from portfolio_stream.kafka.connections import KafkaConnections

NOWHERE = KafkaConnections(options={"bootstrap_servers": "127.0.0.1:1"}, client_id="nobody")
NUMBERS: TableDefinition[int] = TableDefinition(
    name="numbers", encode=lambda value: b"%d" % value, decode=lambda data: int(data)
)


class FakeReader:
    """Which partitions are read, and from where."""

    def __init__(self) -> None:
        self.reading: dict[int, int] = {}

    def resume(self, partition: int, offset: int) -> None:
        self.reading[partition] = offset

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.reading.pop(partition, None)

    def wake(self) -> None: ...


class FakeMember:
    def __init__(self) -> None:
        self.session, self.epoch = 0, 1
        self.target = frozenset({0, 1})
        self.acknowledged: list[frozenset[int]] = []
        self.identity: list[object] = []

    def own(self, session: int) -> None:
        self.identity.append(session)

    def disown(self) -> None:
        self.identity.append("another's")

    def acknowledge(self, owned: frozenset[int]) -> None:
        self.acknowledged.append(owned)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Owns and runs partitions 0 and 1 of two; without a broker."""
    store = Store(tmp_path / "store")
    configuration = Configuration(group="g", source_topic="in", changelog_topic="log", output_topics=("out",), fold="f")
    name = MemberName("m", Naming(), lambda naming: None)
    identity = Identity(member_id="m", name=name, instance_id="w", folder=tmp_path, lock=-1)
    made = Engine(configuration, NOWHERE, identity, store, [NUMBERS])
    made._reader, made.membership = FakeReader(), FakeMember()  # type: ignore[assignment]
    made.source = Source(name="in", topic_id=UUID(int=5), partitions=2)
    made.partition_count = 2
    made._commits = Commits(
        configuration,
        made.partitions,
        made.statistics,
        store,
        SimpleNamespace(),  # type: ignore[arg-type]  # nothing is committed here
        made.membership,
        source=made.source,
        changelog_id="c",
        wake_engine=made._wake,
        encoding_failed=made._retry_smaller,
    )
    made.partitions.owned = frozenset({0, 1})
    made.partitions.running = {0, 1}
    made.partitions.committed = {0: 10, 1: 20}
    yield made
    store.close()


def records(first: int, count: int) -> list[Any]:
    return [MemoryRecord(offset, 1, b"k", b"v") for offset in range(first, first + count)]


async def handed_out(engine: Engine, partition: int, first: int, count: int) -> Slice:
    """A slice that is on its way through its fold."""
    delivered: list[Slice] = []

    async def deliver(piece: Slice) -> None:
        delivered.append(piece)

    await engine._hand_out(deliver, partition, records(first, count), 0)
    return delivered[0]


async def test_a_dropped_slice_changes_nothing(engine: Engine) -> None:
    """Its fold was waiting for something while everything was dropped: what it writes then is seen by nobody."""
    piece = await handed_out(engine, 0, 10, 2)
    before = piece.view(NUMBERS)
    engine._let_go((0,))
    before.put(b"x", 1)
    piece.view(NUMBERS).put(b"x", 2)
    piece.appender("out")(1, b"k", b"v", ())
    engine.acknowledged(piece)
    assert engine.partitions.view(0, NUMBERS)[b"x"] is None
    assert ({}, {}) == (engine._commits.open.parts, engine.partitions.view(0, NUMBERS).dirty)


async def test_a_failed_fold_is_read_again_in_smaller_slices(engine: Engine) -> None:
    """From the committed offset; nothing of the failed slice is left, the other partition keeps its share."""
    other = await handed_out(engine, 1, 20, 3)
    piece = await handed_out(engine, 0, 10, 80)
    piece.view(NUMBERS).put(b"x", 1)
    engine.acknowledged(other)
    engine.failed(piece, ValueError())
    await engine._settle()
    assert {0: 10} == engine._reader.reading  # type: ignore[attr-defined]
    assert 10 == engine.partitions.suspects[0].slice_records
    assert [1] == [part.partition for part in engine._commits.open.committable()]
    assert engine.partitions.view(0, NUMBERS)[b"x"] is None
    assert not piece.is_current


async def test_a_fold_that_fails_while_its_partition_is_given_back(engine: Engine) -> None:
    """It belongs to somebody else now: it is not read again."""
    piece = await handed_out(engine, 0, 10, 5)
    engine.membership.target = frozenset({1})
    revoking = asyncio.create_task(engine._follow_assignment())
    await asyncio.sleep(0)
    engine.failed(piece, ValueError())
    await revoking
    assert {} == engine._reader.reading  # type: ignore[attr-defined]
    assert [frozenset({1})] == engine.membership.acknowledged  # type: ignore[attr-defined]
    assert ({1}, {}, {}) == (engine.running, engine.partitions.suspects, engine.halted)


async def test_an_expulsion_during_a_revocation_acknowledges_nothing(engine: Engine) -> None:
    """What was owned before is void; the coordinator refuses a join that claims partitions."""
    piece = await handed_out(engine, 0, 10, 5)
    engine.membership.target = frozenset({1})
    revoking = asyncio.create_task(engine._follow_assignment())
    await asyncio.sleep(0)
    engine.membership.session = 1
    engine.failed(piece, ValueError())
    with pytest.raises(MembershipBroken):
        await revoking
    assert [] == engine.membership.acknowledged  # type: ignore[attr-defined]


async def test_three_failures_of_one_record_halt_its_partition(engine: Engine) -> None:
    """Slices get smaller until the record is alone, and alone it is tried three times."""
    for first, count in ((10, 500), (10, 62), (10, 7), (10, 1), (10, 1)):
        engine.failed(slice_of(engine, first, count), ValueError())
        await engine._settle()
        assert {} == engine.halted
    engine.failed(slice_of(engine, 10, 1), ValueError())
    await engine._settle()
    assert (10, {1}, {}) == (engine.halted[0].offset, engine.running, engine._reader.reading)  # type: ignore[attr-defined]


async def halted_engine(engine: Engine) -> None:
    for count in (500, 62, 7, 1, 1, 1):
        engine.failed(slice_of(engine, 10, count), ValueError())
        await engine._settle()


async def answer(engine: Engine, asked: Coroutine[Any, Any, None]) -> None:
    """What an operator gets, once the loop has carried it out."""
    waiting = asyncio.create_task(asked)
    await asyncio.sleep(0)
    await engine._carry_out(engine._operations.popleft())
    await waiting


async def test_only_what_is_halted_can_be_run_again(engine: Engine) -> None:
    """An operator's request that came too late, or for another record, changes nothing."""
    await halted_engine(engine)
    with pytest.raises(PartitionNotHalted):
        await answer(engine, engine.retry(1))
    with pytest.raises(PartitionNotHalted):
        await answer(engine, engine.dead_letter(0, 11))
    with pytest.raises(RecordNotMovable):  # this app says nothing of how to
        await answer(engine, engine.dead_letter(0, 10))
    assert [0] == list(engine.halted)


async def test_a_retried_partition_is_recovered(engine: Engine) -> None:
    """It starts afresh, from what is committed."""
    await halted_engine(engine)
    recovered: list[tuple[int, ...]] = []
    engine._recover = lambda partitions: recovered.append(tuple(partitions))  # type: ignore[method-assign]
    await answer(engine, engine.retry(0))
    assert ([(0,)], {}, {}) == (recovered, engine.halted, engine.partitions.suspects)


class RecoversAt:
    """Recovery that finds every partition at one offset."""

    def __init__(self, offset: int, *, lacks_group_offset: bool = False) -> None:
        self._offset = offset
        self._lacks_group_offset = lacks_group_offset

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready]:
        for partition in partitions:
            yield Ready(
                partition=partition, offset=self._offset, replayed=0, lacks_group_offset=self._lacks_group_offset
            )


async def recovered(engine: Engine) -> None:
    assert engine._recovering is not None
    await engine._recovering


@pytest.mark.parametrize(("lacks_group_offset", "positions"), [(True, [10]), (False, [])])
async def test_a_group_offset_that_is_gone_is_committed_again(
    engine: Engine, lacks_group_offset: bool, positions: list[int]
) -> None:
    """Without waiting for an event of that partition, and never behind one: a slice moves the same share on."""
    engine.partitions.running.clear()
    engine._recovery = RecoversAt(10, lacks_group_offset=lacks_group_offset)  # type: ignore[assignment]
    engine._recover((0,))
    await recovered(engine)
    assert positions == [part.position for part in engine._commits.open.committable()]
    assert lacks_group_offset is engine._woken
    engine.acknowledged(await handed_out(engine, 0, 10, 5))
    assert [15] == [part.position for part in engine._commits.open.committable()]


async def test_a_retry_reads_an_open_share_again(engine: Engine) -> None:
    """What was folded before the partition halted, and not committed: with its tables or not at all."""
    piece = await handed_out(engine, 0, 10, 3)
    piece.view(NUMBERS).put(b"x", 1)
    piece.appender("out")(1, b"k", b"v", ())
    engine.acknowledged(piece)
    engine._halt(Halted(partition=0, offset=13, reason="the next batch is corrupt"))
    engine._recovery = RecoversAt(10)  # type: ignore[assignment]
    await answer(engine, engine.retry(0))
    await recovered(engine)
    assert {0: 10} == engine._reader.reading  # type: ignore[attr-defined]
    assert ([], []) == (list(engine._commits.open.committable()), list(engine.partitions.dirty_items(0)))
    assert (await handed_out(engine, 0, 10, 5)).is_current


async def test_a_retry_waits_for_what_is_in_flight(engine: Engine) -> None:
    """Or it would recover an offset that is about to be passed."""
    engine._halt(Halted(partition=0, offset=13, reason="the next batch is corrupt"))
    engine._recovery = RecoversAt(13)  # type: ignore[assignment]
    committed = asyncio.Event()
    engine._commits._committing = asyncio.create_task(committed.wait())  # type: ignore[arg-type]
    waiting = asyncio.create_task(answer(engine, engine.retry(0)))
    for _ in range(5):
        await asyncio.sleep(0)
    assert engine._recovering is None
    committed.set()
    await waiting
    await recovered(engine)
    assert 13 == engine._reader.reading[0]  # type: ignore[attr-defined]


async def test_a_membership_waits_until_the_identity_is_known(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settled, for the session that was the current one before: an expulsion meanwhile needs another answer."""
    monkeypatch.setattr(loop, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    member: Any = engine.membership
    member.target = frozenset()

    async def settle() -> None:
        assert [] == member.identity
        member.session = 2

    engine.writer = SimpleNamespace(settle=settle)  # type: ignore[assignment]
    member.session = 1
    await engine._drop_everything(MembershipBroken(None, "expelled"))
    assert [1] == member.identity
    with pytest.raises(MembershipBroken):
        await engine._follow_assignment()


async def test_a_superseded_worker_says_no_goodbye(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """The member id is its successor's."""

    async def settle() -> None:
        raise Superseded("g-m")

    async def turn(_: Any) -> None:
        raise MembershipBroken(None, "expelled")

    engine.writer = SimpleNamespace(settle=settle)  # type: ignore[assignment]
    monkeypatch.setattr(engine, "_turn", turn)
    with pytest.raises(Superseded):
        await engine.run(lambda piece: None)  # type: ignore[arg-type,return-value]
    assert ["another's"] == engine.membership.identity  # type: ignore[attr-defined]


async def test_an_operator_is_answered_although_a_doubt_came_first(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On an idle worker nothing else wakes the loop for a request that a drop left behind."""
    await halted_engine(engine)
    engine._stopping = True  # the writer's outcome is not waited for
    engine.writer = SimpleNamespace(settle=asyncio.Event().wait)  # type: ignore[assignment]
    engine._recover = lambda partitions: None  # type: ignore[method-assign]
    monkeypatch.setattr(loop, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    asked = asyncio.create_task(engine.retry(0))
    await asyncio.sleep(0)
    engine._woken = False
    await engine._drop_everything(MembershipBroken(None, "expelled"))
    assert engine._woken and [0] == [operation.partition for operation in engine._operations]
    asked.cancel()


async def test_a_partition_has_one_recovery(engine: Engine) -> None:
    """One is retried while the recovery that halted it waits for another partition, which is then given back: a
    second recovery that ends after the first would read again what was folded since."""
    may_end = asyncio.Event()
    resumed: list[int] = []

    class Waits(RecoversAt):
        async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready]:
            if 1 in partitions:
                yield Ready(partition=0, offset=10, replayed=0)
            await may_end.wait()
            async for ready in super().recover(partitions):
                resumed.append(ready.partition)
                yield ready

    engine._recovery = Waits(10)  # type: ignore[assignment]
    engine.partitions.running.clear()
    engine._recover((0, 1))
    await asyncio.sleep(0)
    assert {0} == engine.running
    await engine._recover_again(0)
    engine.membership.target = frozenset({0})
    await engine._follow_assignment()
    may_end.set()
    await recovered(engine)
    assert ([0], {0}) == (resumed, engine.running)


async def test_a_recovery_takes_over_what_another_has_not_decided(engine: Engine) -> None:
    """Partitions come one after the other, as others give them back: the later ones wait for no replay of the first."""
    asked: list[tuple[set[int], set[int]]] = []

    class WaitsForever(RecoversAt):
        async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready]:
            asked.append((set(partitions), set(taken_over)))
            if len(asked) == 1:
                yield Ready(partition=0, offset=10, replayed=0)
                await asyncio.Event().wait()
            async for ready in super().recover(partitions):
                yield ready

    engine._recovery = WaitsForever(10)  # type: ignore[assignment]
    engine.partitions.running.clear()
    engine._recover((0, 1))
    await asyncio.sleep(0)
    engine._recover((2,))
    await recovered(engine)
    assert [({0, 1}, set()), ({1, 2}, {1})] == asked
    assert {0, 1, 2} == engine.running


async def test_an_offset_out_of_range_is_asked_for_again(engine: Engine) -> None:
    """The leader may be one that has just woken: recovery decides, not its answer."""
    asked: list[int] = []

    class Recovers(RecoversAt):
        async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready]:
            asked.extend(partitions)
            async for ready in super().recover(partitions):
                yield ready

    async def fetch(_: int) -> Any:
        raise OffsetOutOfRangeError({TopicPartition("in", 0): 10})

    engine._recovery = Recovers(10)  # type: ignore[assignment]
    engine._reader.fetch = fetch  # type: ignore[method-assign]
    assert {} == await engine._fetch()
    assert {1} == engine.running
    await recovered(engine)
    assert ([0], {0, 1}, {}) == (asked, engine.running, engine.halted)


async def test_slices_shrink_while_their_records_are_costly(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats wait for a slice; and they grow again."""
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(slices, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    costs = iter((1.4, 1.4, 1.4, 0.01, 0.01, 0.01, 0.01))  # milliseconds a record, by slice
    sizes = []

    async def fold(piece: Slice) -> None:
        sizes.append(len(piece.records))
        clock.now += len(piece.records) * next(costs) / 1000
        engine.acknowledged(piece)

    engine._commits.close_if_due = no_commit  # type: ignore[method-assign]
    for _ in range(7):
        await engine._hand_out(fold, 0, records(10, engine._slice_records(0)), 0)
        await engine._settle()
    assert [500, 71, 142, 71, 142, 284, 500] == sizes


async def no_commit(*, now: bool) -> None: ...


async def test_one_slow_commit_does_not_slow_the_next_ones(engine: Engine) -> None:
    """Its events have waited already; commits that stay slow make the interval longer, up to its bound."""
    part = engine._commits.open_part(0)
    part.position = 11
    for _ in range(50):
        engine._commits._count([part], 0.02)
    usual = engine._commits._interval()
    engine._commits._count([part], 0.09)
    after_one = engine._commits._interval()
    for _ in range(50):
        engine._commits._count([part], 0.4)
    assert (0.02, 0.034, 0.1) == (round(usual, 3), round(after_one, 3), engine._commits._interval())


async def test_a_worker_that_stands_by_keeps_its_transactional_id(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The coordinator forgets one that has no transaction for a week."""
    clock = SimpleNamespace(now=0.0)
    ended: list[float] = []

    class Keeps:
        last_end = 0.0

        async def settle(self) -> None:
            self.last_end = clock.now
            ended.append(clock.now)

    async def at(seconds: float) -> None:
        clock.now = seconds
        await engine._keep_transactional_id()

    engine.writer = Keeps()  # type: ignore[assignment]
    monkeypatch.setattr(loop, "time", SimpleNamespace(monotonic=lambda: clock.now))
    for seconds in (10.0, KEEP_ID_SECONDS + 1, KEEP_ID_SECONDS + 2, 2 * KEEP_ID_SECONDS + 2):
        await at(seconds)
    assert [KEEP_ID_SECONDS + 1, 2 * KEEP_ID_SECONDS + 2] == ended
    engine._commits.open_part(0)  # its end will do as well
    await at(9 * KEEP_ID_SECONDS)
    assert 2 == len(ended)


async def test_a_request_that_meets_a_stop_is_answered(engine: Engine) -> None:
    """Nobody waits for an engine that ended."""
    del engine.membership  # it has not joined yet
    engine.store = SimpleNamespace(close=lambda: None)  # type: ignore[assignment]  # the fixture closes it
    waiting = asyncio.create_task(engine.retry(0))
    await asyncio.sleep(0)
    await engine.close()
    with pytest.raises(OutcomeUnknown):
        await waiting


def slice_of(engine: Engine, first: int, count: int) -> Slice:
    """A slice of partition 0 as `_hand_out` makes it."""
    part: Part = engine._commits.open_part(0)
    engine._handout.add(count, 0)
    suspect = engine.partitions.suspects.get(0)
    assert suspect is None or count == suspect.slice_records
    return engine._slice(part, records(first, count))


async def test_a_late_transaction_waits_for_the_commit_before_it(engine: Engine) -> None:
    """Whose end wakes the loop: a look each millisecond would take the processor from it."""
    engine._commits.open_part(0)
    engine._commits.open.opened -= 60.0
    assert engine._commits.seconds_until_due() < 0
    committed = asyncio.Event()
    engine._commits._committing = asyncio.create_task(committed.wait())  # type: ignore[arg-type]
    waits: list[int] = []

    async def fetch(timeout_ms: int) -> dict[int, Any]:
        waits.append(timeout_ms)
        return {}

    engine._reader.fetch = fetch  # type: ignore[method-assign]
    await engine._fetch()
    committed.set()
    await engine._commits._committing
    await engine._fetch()
    assert [1000 * COMMITTING_SECONDS, 1] == waits


def written(engine: Engine, partition: int, first: int, count: int, values: dict[bytes, Any]) -> None:
    """A slice that its fold has acknowledged, with what it wrote."""
    part = engine._commits.open_part(partition)
    piece = engine._slice(part, records(first, count))
    for key, value in values.items():
        piece.view(NUMBERS).put(key, value)
    piece.appender("out")(1, b"k", b"v", ())
    piece.acknowledge()


class Sent:
    """A writer that notes which offsets were committed, and refuses some records."""

    def __init__(self, refused: dict[int, int] | None = None) -> None:
        #: next offset by partition
        self.committed: dict[int, int] = {}
        #: the offset of the record that is refused, by partition
        self.refused = refused or {}
        self.parts: Any = ()

    async def send_offsets(self, topic: str, parts: Any, *, member_id: str, member_epoch: int) -> None:
        self.parts = parts

    async def send_records(self, parts: Any) -> dict[TopicPartition, int]:
        for part in parts:
            offset = self.refused.get(part.partition)
            if offset is not None and part.first.offset <= offset < part.position:
                raise Refused("out", part.partition, "MESSAGE_TOO_LARGE")
        return {}

    async def commit(self) -> None:
        self.committed.update({part.partition: part.position for part in self.parts})

    async def settle(self) -> None: ...


def writes(engine: Engine, refused: dict[int, int] | None = None) -> Sent:
    engine.membership.member_id = "m"
    sent = engine.writer = engine._commits._writer = Sent(refused)  # type: ignore[assignment]
    return sent  # type: ignore[return-value]


async def test_a_share_that_cannot_be_encoded_is_dropped_alone(engine: Engine) -> None:
    """Nothing of it is sent, nor kept: it is read again in smaller slices; the other share is committed."""
    sent = writes(engine)
    written(engine, 0, 10, 80, {b"good": 1, b"bad": "no number"})
    written(engine, 1, 20, 3, {b"x": 7})
    await engine._commits.close()
    await engine._commits.finish()
    assert {1: 23} == sent.committed
    assert ({0: 10}, 10) == (engine._reader.reading, engine.partitions.suspects[0].slice_records)  # type: ignore[attr-defined]
    assert [None, None] == [engine.partitions.view(0, NUMBERS)[key] for key in (b"good", b"bad")]
    assert 7 == engine.partitions.view(1, NUMBERS)[b"x"] and {} == engine._commits.open.parts


@pytest.mark.parametrize("value", [None, "1", bytearray(b"1")])
async def test_an_encoder_returns_bytes_or_fails(engine: Engine, monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """None would delete the entry, and what the store does not take would end the worker after the commit."""
    sent = writes(engine)
    engine.partitions.view(0, NUMBERS).encode = lambda _: value
    written(engine, 0, 10, 1, {b"x": 1})
    await engine._commits.close()
    await engine._commits.finish()
    assert {} == sent.committed and 1 == engine.partitions.suspects[0].tries


@pytest.mark.parametrize("error", [SystemExit(), RecursionError(), MemoryError(), asyncio.CancelledError()])
async def test_whatever_an_encoder_raises_is_its_partitions(engine: Engine, error: BaseException) -> None:
    """And halts it after three tries, with the record, which an operator can move."""

    def encode(_: int) -> bytes:
        raise error

    writes(engine)
    for _ in range(3):
        engine.partitions.view(0, NUMBERS).encode = encode
        written(engine, 0, 10, 1, {b"x": 1})
        await engine._commits.close()
    reason = f"the encoding of its table values failed 3 times: {type(error).__name__}"
    halted = engine.halted[0]
    assert (10, reason, 10, {1}) == (halted.offset, halted.reason, halted.record.offset, engine.running)


async def test_a_failing_disk_is_no_failed_encoding(engine: Engine) -> None:
    """It ends the worker, as everywhere."""

    def encode(_: int) -> bytes:
        raise StoreFailed(Path("store"), "the disk is full")

    engine.partitions.view(0, NUMBERS).encode = encode
    written(engine, 0, 10, 1, {b"x": 1})
    with pytest.raises(StoreFailed):
        await engine._commits.close()


async def test_what_was_fetched_before_a_share_was_dropped_is_not_folded(engine: Engine) -> None:
    """A close amid one partition's slices drops another's share: its records in hand stand behind the dropped ones."""
    writes(engine)
    written(engine, 1, 20, 5, {b"bad": "no number"})
    engine.partitions.suspects[0] = Suspect(500, 11)  # its slices are committed at once
    fetched = {0: [records(10, 2)], 1: [records(25, 5)]}
    delivered: list[int] = []

    async def fetch(_: int) -> dict[int, Any]:
        return fetched

    async def deliver(piece: Slice) -> None:
        delivered.append(piece.partition)
        engine.acknowledged(piece)

    engine._reader.fetch = fetch  # type: ignore[method-assign]
    await engine._turn(deliver)
    assert [0] == delivered
    assert 20 == engine._reader.reading[1]  # type: ignore[attr-defined]


async def test_a_stop_waits_for_no_long_fetch(engine: Engine) -> None:
    """The rest of what was fetched is not handed out, and nothing beyond what was handed out is committed."""
    writes(engine)
    delivered: list[int] = []

    async def fetch(_: int) -> dict[int, Any]:
        return {0: [records(10, 2), records(12, 2)], 1: [records(20, 2)]}

    async def deliver(piece: Slice) -> None:
        delivered.append(piece.records[0].offset)
        engine.acknowledged(piece)
        engine._stopping = True

    engine._reader.fetch = fetch  # type: ignore[method-assign]
    await engine._turn(deliver)
    await engine._finish()
    assert [10] == delivered
    assert 12 == engine.partitions.committed[0]


async def test_each_drop_makes_smaller_transactions(engine: Engine) -> None:
    """One that outlasted its time-out on a slow link would outlast it again; each commit makes the next one larger."""
    writes(engine)
    commits_of = engine._commits
    for _ in range(3):
        commits_of.drop()
    written(engine, 0, 10, commits.TRANSACTION_EVENTS // 8, {b"x": 1})
    await commits_of.close_if_due()
    assert not commits_of.open.parts  # it was full
    await commits_of.finish()
    written(engine, 0, 10_000, commits.TRANSACTION_EVENTS // 8, {b"x": 1})
    commits_of.open.opened = time.monotonic() + 60.0
    await commits_of.close_if_due()
    assert commits_of.open.parts


async def test_records_that_lie_far_apart_are_told_apart(engine: Engine) -> None:
    """Between two records may be thousands of offsets, of aborted transactions: records count, not offsets."""
    far = [MemoryRecord(10, 1, b"k", b"v"), MemoryRecord(9_000, 1, b"k", b"v")]
    piece = engine._slice(engine._commits.open_part(0), far)
    engine._handout.add(2, 0)
    engine.failed(piece, ValueError())
    await engine._settle()
    assert 1 == engine.partitions.suspects[0].slice_records


async def fold_all(engine: Engine, ends: dict[int, int]) -> None:
    """What a reader brings and folds acknowledge, until everything that runs is committed."""
    for _ in range(60):
        for partition in sorted(engine.running):
            first = engine.partitions.committed[partition]
            count = min(engine._slice_records(partition), ends[partition] - first)
            if count:
                written(engine, partition, first, count, {})
        try:
            await engine._commits.close()
            await engine._commits.finish()
        except Refused as refused:
            await engine._drop_everything(refused)
            await recovered(engine)


class RecoversCommitted(RecoversAt):
    """Recovery that finds every partition where the writer has committed it."""

    def __init__(self, committed: dict[int, int]) -> None:
        self._committed = committed

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Ready]:
        for partition in partitions:
            yield Ready(partition=partition, offset=self._committed[partition], replayed=0)


async def test_refused_records_halt_their_partitions_and_no_other(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each with its record, and what precedes the record is committed. A refusal drops everything: the halt of one
    outlives the other's, or the two would take turns for ever, and nobody else would commit."""
    monkeypatch.setattr(loop, "DROP_PAUSE_SECONDS", (0.0, 0.0))
    engine.membership.target = engine.partitions.owned = frozenset({0, 1, 2})
    engine.partition_count = 3
    engine.partitions.running, engine.partitions.committed = {0, 1, 2}, {0: 10, 1: 20, 2: 0}
    sent = writes(engine, refused={0: 60, 1: 25})
    sent.committed = dict(engine.partitions.committed)
    engine._recovery = RecoversCommitted(sent.committed)  # type: ignore[assignment]
    await fold_all(engine, {0: 300, 1: 300, 2: 300})
    assert {0: 60, 1: 25} == {partition: halted.record.offset for partition, halted in engine.halted.items()}
    assert "the broker refused a record for out 3 times: MESSAGE_TOO_LARGE" == engine.halted[0].reason
    assert ({0: 60, 1: 25, 2: 300}, {2}) == (sent.committed, engine.running)
    await engine._drop_everything(MembershipBroken(None, "a beat was lost"))
    await recovered(engine)
    assert {0, 1} == engine.halted.keys()
    sent.committed[1] = 26  # by another worker, to which it was given meanwhile
    await engine._drop_everything(MembershipBroken(None, "a beat was lost"))
    await recovered(engine)
    assert ({0}, {1, 2}) == (engine.halted.keys(), engine.running)


async def test_a_dead_letter_that_cannot_be_built_moves_nothing(engine: Engine) -> None:
    """The operator is told, the partition stays halted, the worker goes on; later the record can still be moved."""
    sent = writes(engine)
    await halted_engine(engine)
    failures = [ValueError("a bug"), None]

    def set_aside(piece: Slice) -> None:
        if (error := failures.pop(0)) is not None:
            raise error

    engine._set_aside = set_aside
    with pytest.raises(DeadLetterFailed):
        await answer(engine, engine.dead_letter(0, 10))
    assert ({}, {}, {0}) == (sent.committed, engine._commits.open.parts, engine.halted.keys())
    await answer(engine, engine.dead_letter(0, 10))
    assert ({0: 11}, {0: 11}) == (sent.committed, engine._reader.reading)  # type: ignore[attr-defined]


async def test_a_dead_letter_that_cannot_be_committed_moves_nothing(engine: Engine) -> None:
    """What set_aside wrote to a table cannot be encoded: the record is not passed."""
    sent = writes(engine)
    await halted_engine(engine)
    engine._set_aside = lambda piece: piece.view(NUMBERS).put(b"x", "no number")  # type: ignore[arg-type]
    with pytest.raises(DeadLetterFailed):
        await answer(engine, engine.dead_letter(0, 10))
    assert ({}, {0}, {}) == (sent.committed, engine.halted.keys(), engine._reader.reading)  # type: ignore[attr-defined]


async def test_a_fold_writes_to_its_apps_own_tables_and_topics_alone(engine: Engine) -> None:
    """Nobody would keep an unknown table's values; an unknown topic would keep every partition from committing."""
    piece = await handed_out(engine, 0, 10, 1)
    other = replace(NUMBERS, name="others")
    with pytest.raises(TableUnknown):
        piece.view(other)
    for topic in ("elsewhere", "in", "log"):
        with pytest.raises(TopicNotAnOutput):
            piece.appender(topic)


async def test_slow_encoding_makes_smaller_transactions(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats wait for it; and they grow again."""
    clock = SimpleNamespace(now=0.0)
    fake = SimpleNamespace(perf_counter=lambda: clock.now, monotonic=lambda: 0.0, time=lambda: 0.0)
    monkeypatch.setattr(commits, "time", fake)
    writes(engine)

    def encode(_: int) -> bytes:
        clock.now += 5.0
        return b"1"

    engine.partitions.view(0, NUMBERS).encode = encode
    written(engine, 0, 10, 1_000, {b"x": 1})
    await engine._commits.close()
    assert 100 == engine._commits._most_events
    written(engine, 0, 1_010, 100, {})
    await engine._commits.close()
    assert 200 == engine._commits._most_events
    await engine._commits.finish()


class FindsMoved:
    """Recovery that finds the group's offset at 95 and the state's at 10."""

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> AsyncIterator[Halted]:
        for partition in partitions:
            yield Halted(partition=partition, offset=10, reason="moved", group_offset=95)


async def test_an_offset_that_somebody_moved_is_put_back(engine: Engine) -> None:
    """The state's offset, in a transaction of its own; then the partition is recovered."""
    sent = writes(engine)
    meta = Meta(topic_id="t", offset=10, partitions=2, changelog="c", fold="f")
    await engine.store.write([(prefix_of(0) + META_KEY, encode_meta(meta))], {})
    engine._recovery = FindsMoved()  # type: ignore[assignment]
    await engine._recover_again(0)
    await recovered(engine)
    engine._recovery = RecoversCommitted(sent.committed)  # type: ignore[assignment]
    written(engine, 1, 20, 3, {})
    asked = asyncio.create_task(engine.retry_from_state(0))
    await asyncio.sleep(0)
    await engine._carry_out(engine._operations.popleft())
    ended = await asked
    await recovered(engine)
    assert (95, 10) == (ended.group_offset, ended.offset)
    assert ({0: 10, 1: 23}, {0, 1}, {}) == (sent.committed, engine.running, engine.halted)


async def test_no_other_halt_goes_on_from_the_state(engine: Engine) -> None:
    """A trimmed source, another topic, a record that cannot be committed: the offsets agree, or tell nothing."""
    await halted_engine(engine)
    for partition, error in ((0, OffsetsAgree), (1, PartitionNotHalted)):
        asked = asyncio.create_task(engine.retry_from_state(partition))
        await asyncio.sleep(0)
        await engine._carry_out(engine._operations.popleft())
        with pytest.raises(error):
            await asked
    assert [0] == list(engine.halted)

"""Outputs never double: what a fold gives once more is compared with what stands, and only the rest is written."""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.errors import OffsetOutOfRangeError, TopicAuthorizationFailedError
from aiokafka.record.memory_records import MemoryRecords

from portfolio_stream.errors import OutputUnreadable, RecordNotMovable, ShareTooLarge
from portfolio_stream.exactly_once import repeat, repeats, standing_outputs
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.operations import Retry, SetAside
from portfolio_stream.exactly_once.partition_life import PartitionEvent, PartitionState
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.recent import Written
from portfolio_stream.exactly_once.recovery import Halted, Ready
from portfolio_stream.exactly_once.repeat import Gathered, OutputSpan, apart, difference, is_same, repeat_of, stored
from portfolio_stream.exactly_once.repeat_check import problem_of
from portfolio_stream.exactly_once.store import Meta, Store, encode_meta, prefix_of, read_meta, skip_key, skip_value
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.kafka.record_batches import Reason, UnreadableBatch
from portfolio_stream.observe.events import RepeatBegan, RepeatEnded
from tests.unit.engine_stage import NUMBERS, Stage, records, staged

GIVEN = (1, b"k", b"v", ())


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Stage]:
    """Owns and runs partitions 0 and 1 of two, at the offsets 10 and 20; without a broker."""
    store = Store(tmp_path / "store")
    yield staged(store)
    store.close()


def output(source: int, offset: int) -> MemoryRecord:
    """The output that `fold` gives for the source record at `source`, as it stands at `offset`."""
    return MemoryRecord(offset, source, b"k", b"%d" % source, (("h", b"1"),))


def unreadable(topic: str, offset: int, reason: Reason) -> UnreadableBatch:
    return UnreadableBatch(
        topic=topic, partition=0, offset=offset, last_offset=offset, timestamp=1, reason=reason, value=b""
    )


async def folded(engine: Stage, partition: int, handed: Sequence[Any]) -> None:
    """Hand out source records. Each gives one output, and counts in the table."""

    async def fold(piece: Any) -> None:
        append = piece.appender("out")
        for record in piece.records:
            append(record.offset, b"k", b"%d" % record.offset, [("h", b"1")])
            piece.view(NUMBERS).put(b"last", record.offset)
        engine.folding.acknowledged(piece)

    known = engine.partitions[partition]
    await engine.folding.hand_out_all(fold, partition, [list(handed)], known.incarnation)
    await engine.folding.settle()


async def committed(engine: Stage, partition: int, first: int, count: int) -> None:
    await folded(engine, partition, records(first, count))
    await engine.boundary.commit()


def produced(engine: Stage, partition: int = 0, topic: str = "out") -> list[bytes]:
    """The values of all records that were sent, in order."""
    values = []
    for share in engine.sent.sent:
        if share.partition == partition and topic in share.batches:
            for data in share.batches[topic].build(1, 0):
                values += [record.value for record in MemoryRecords(data).next_batch()]
    engine.sent.sent.clear()
    return values


def left(engine: Stage, partition: int = 0) -> Any:
    """What the stored META says is left."""
    meta = engine.store.meta(partition)
    assert meta is not None
    return meta.repeat


async def begin(
    engine: Stage, spans: Mapping[str, OutputSpan], decided: Iterable[int] = (), partition: int = 0
) -> None:
    await engine.repeats.begin(partition, spans or None, frozenset(decided))


# -- values


def test_a_record_is_the_same_if_all_its_fields_are() -> None:
    """The names of the differing fields are told, and headers count whether they come as list or tuple."""
    for standing, fields in (
        (MemoryRecord(7, 1, b"k", b"v"), ()),
        (MemoryRecord(7, 2, b"k", b"v"), ("timestamp",)),
        (MemoryRecord(7, 1, None, b"v"), ("key",)),
        (MemoryRecord(7, 1, b"k", None), ("value",)),
        (MemoryRecord(7, 1, b"k", b"v", (("h", b""),)), ("headers",)),
        (MemoryRecord(7, 3, b"", b"", (("h", None),)), ("timestamp", "key", "value", "headers")),
    ):
        assert (fields == (), fields) == (is_same(GIVEN, standing), difference(GIVEN, standing))
    assert is_same((1, b"k", b"v", [("h", b"1")]), MemoryRecord(7, 1, b"k", b"v", (("h", b"1"),)))


def test_meta_keeps_what_is_left() -> None:
    """An old META has nothing left, and an old reader reads a new META."""

    class OldMeta(msgspec.Struct, frozen=True, kw_only=True):
        topic_id: str
        offset: int
        partitions: int
        changelog: str
        fold: str
        version: int = 1

    known: Any = {"topic_id": "t", "offset": 5, "partitions": 2, "changelog": "c", "fold": "f"}
    spans = {"out": OutputSpan(3, 9)}
    new = encode_meta(Meta(**known, repeat=stored(spans)))
    read = read_meta(new)
    assert read is not None
    assert spans == repeat_of(read.repeat)
    assert OldMeta(**known) == msgspec.msgpack.decode(new, type=OldMeta)
    old = read_meta(msgspec.msgpack.encode(OldMeta(**known)))
    assert old is not None
    assert (None, None, None) == (old.repeat, repeat_of(old.repeat), stored(None))
    assert None is repeat_of({"out": (9, 9)})


def test_a_gathered_share_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fold may give gigabytes for one record: the slice fails before they fill the memory."""
    monkeypatch.setattr(repeat, "GATHERED_BYTES", 1000)
    gathered = Gathered()
    gathered.append(1, b"k" * 100, b"v" * 100, ())
    assert 400 == gathered.size
    with pytest.raises(ShareTooLarge):
        gathered.append(1, None, b"", [("name", b"c" * 600)])


def test_decided_records_stand_apart() -> None:
    """Every other record keeps its batch and its place."""
    batches = [records(10, 4), records(20, 2)]
    assert [[10], [11], [12, 13], [20], [21]] == [
        [record.offset for record in batch] for batch in apart(batches, {11, 20})
    ]


def test_outputs_that_do_not_stand_any_more_are_a_problem() -> None:
    spans = {"out": OutputSpan(5, 9)}
    for bounds, words in (
        ({"out": (5, 9)}, None),
        ({"out": (0, 12)}, None),
        ({}, None),
        ({"out": (6, 9)}, "the log begins at 6"),
        ({"out": (0, 8)}, "the log ends at 8"),
    ):
        problem = problem_of(3, spans, bounds, ("out",))
        assert problem is None if words is None else words in str(problem)
    assert "no output topic" in str(problem_of(3, spans, {"out": (0, 9)}, ("other",)))


async def test_the_store_tells_decisions_that_are_ahead(tmp_path: Path) -> None:
    """Decisions below the offset are carried out already. No other row is taken for a decision."""
    store = Store(tmp_path / "store")
    rows: Any = {prefix_of(0) + skip_key(offset): b"d" for offset in (3, 7, 300)}
    rows |= {prefix_of(1) + skip_key(8): b"d", prefix_of(0) + b"\x00META": b"m", prefix_of(0) + b"numbers\x00x": b"1"}
    await store.commit({0: Written(rows, 100)}, {})
    assert [{3, 7, 300}, {7, 300}, {7, 300}, {300}, set()] == [store.decided(0, at) for at in (0, 4, 7, 8, 301)]
    store.close()


# -- the engine


async def test_outputs_that_stand_are_not_written_again(engine: Stage) -> None:
    """One share repeats and goes on: what stands is compared, and what follows is written. Tables change always."""
    engine.outputs.logs["out", 0] = [output(10, 5), output(11, 7), output(12, 8)]
    await begin(engine, {"out": OutputSpan(5, 10)})
    engine.outputs.ends["out", 0] = 10
    await committed(engine, 0, 10, 2)
    assert ([], {"out": (8, 10)}) == (produced(engine), left(engine))
    await committed(engine, 0, 12, 3)
    assert ([b"13", b"14"], None) == (produced(engine), left(engine))
    await committed(engine, 0, 15, 1)
    assert ([b"15"], 16, b"15") == (produced(engine), engine.committed(0), engine.store.rows(0).get(b"numbers\x00last"))
    told = [type(one.event) for one in engine.events.latest(10)]
    assert [RepeatBegan, RepeatEnded] == [kind for kind in told if kind in (RepeatBegan, RepeatEnded)]


async def test_a_partition_without_a_repeat_gathers_nothing(engine: Stage) -> None:
    engine.outputs.logs["out", 0] = [output(10, 5)]
    await begin(engine, {"out": OutputSpan(5, 6)})
    await committed(engine, 1, 20, 2)
    assert ([b"20", b"21"], None, {0: 1}) == (produced(engine, 1), left(engine, 1), engine.repeats.left())


async def test_markers_at_the_end_end_the_repeat(engine: Stage) -> None:
    """The last offsets below `until` hold no record: the share after the last output has nothing left."""
    engine.outputs.logs["out", 0] = [output(10, 5)]
    engine.outputs.ends["out", 0] = 9
    await begin(engine, {"out": OutputSpan(5, 9), "dead": OutputSpan(2, 4)})
    engine.outputs.ends["dead", 0] = 4
    await committed(engine, 0, 10, 1)
    assert ([], None) == (produced(engine), left(engine))


async def test_a_recovery_begins_at_the_place_of_meta(engine: Stage) -> None:
    """What was compared in a transaction that was dropped is compared again."""
    engine.outputs.logs["out", 0] = [output(10 + number, number) for number in range(6)]
    await begin(engine, {"out": OutputSpan(0, 6)})
    await committed(engine, 0, 10, 2)
    await folded(engine, 0, records(12, 2))
    engine.commits.discard((0,))
    await begin(engine, {"out": OutputSpan(*left(engine)["out"])})
    await committed(engine, 0, 12, 5)
    assert ([b"16"], None) == (produced(engine), left(engine))


async def test_a_share_that_fails_is_compared_again(engine: Stage) -> None:
    """The place advances with META alone: a share that cannot be encoded leaves it."""
    engine.outputs.logs["out", 0] = [output(10 + number, number) for number in range(6)]
    await begin(engine, {"out": OutputSpan(0, 6)})
    await folded(engine, 0, records(10, 2))
    engine.views.view(0, NUMBERS).put(b"bad", "no number")  # type: ignore[arg-type]
    await engine.boundary.commit()
    assert (PartitionState.SUSPECT, {0: 6}) == (engine.partitions[0].state, engine.repeats.left())
    await committed(engine, 0, 10, 7)
    assert ([b"16"], None) == (produced(engine), left(engine))


async def test_a_long_repeat_reads_on_in_bounded_memory(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reading of a partition pauses while records of it wait, and loses none of them."""
    monkeypatch.setattr(standing_outputs, "WAITING_BYTES", 1)
    for partition, first in ((0, 10), (1, 20)):
        engine.outputs.logs["out", partition] = [output(first + number, 2 * number) for number in range(40)]
        engine.outputs.ends["out", partition] = 80
        await begin(engine, {"out": OutputSpan(0, 80)}, partition=partition)
    for step in range(5):
        await committed(engine, 0, 10 + 9 * step, 9)
        await committed(engine, 1, 20 + 9 * step, 9)
        assert step == 4 or set() == engine.outputs.readers["out"].reading
    assert [b"50", b"51", b"52", b"53", b"54"] == produced(engine, 0)
    assert (None, None) == (left(engine, 0), left(engine, 1))


async def halted(engine: Stage, partition: int, first: int, count: int) -> Halted:
    """Fold the records again and again, as the reader would, until the partition halts."""
    for _ in range(20):
        known = engine.partitions[partition]
        if known.state is PartitionState.HALTED:
            return engine.partitions.halted[partition]
        assert known.committed is not None
        end = min(first + count, known.committed + engine.folding.slice_records(partition))
        await committed(engine, partition, known.committed, end - known.committed)
    raise AssertionError("the partition does not halt")


async def test_a_difference_halts_at_the_record(engine: Stage) -> None:
    """What was given before is committed. The reason names both places and the fields; nobody may move the record."""
    engine.outputs.logs["out", 0] = [output(10 + number, number) for number in range(12)]
    engine.outputs.logs["out", 0][7] = MemoryRecord(7, 17, b"k", b"secret", (("h", b"2"),))
    await begin(engine, {"out": OutputSpan(0, 12)})
    halt = await halted(engine, 0, 10, 12)
    assert (17, 17, None) == (halt.offset, engine.committed(0), halt.record)
    assert "source offset 17 does not give again the output out-0@7, which differs in value, headers" in halt.reason
    assert "secret" not in halt.reason
    assert ({"out": (7, 12)}, []) == (left(engine), produced(engine))
    asking = asyncio.create_task(engine.interpreter.ask(SetAside(0, 17)))
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    with pytest.raises(RecordNotMovable):
        await asking


async def test_a_retry_compares_again(engine: Stage) -> None:
    """Somebody has found the cause: the same output is the right one now."""
    log = engine.outputs.logs["out", 0] = [output(10, 0), MemoryRecord(1, 11, b"k", b"other")]
    await begin(engine, {"out": OutputSpan(0, 2)})
    await halted(engine, 0, 10, 2)
    log[1] = output(11, 1)
    engine.recovery.finds = RecoversRepeat(engine)
    asking = asyncio.create_task(engine.interpreter.ask(Retry(0)))
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    await asking
    await engine.recovery_task.decided()
    assert PartitionState.RUNNING is engine.partitions[0].state
    await committed(engine, 0, 11, 2)
    assert ([b"12"], None) == (produced(engine), left(engine))


async def test_a_group_offset_that_is_put_back_ends_no_repeat(engine: Stage) -> None:
    """Somebody moved the group's offset amid a repeat. The commit that corrects it keeps what is left."""
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1)]
    await begin(engine, {"out": OutputSpan(0, 2)})
    await committed(engine, 0, 10, 1)
    engine.partitions.happened(PartitionEvent.DROPPED, (0,))
    await engine.repeats.begin(0, None, frozenset())  # a worker that has not recovered the partition knows nothing
    halt = Halted(partition=0, offset=11, reason="moved", group_offset=3)
    engine.boundary.halt(PartitionEvent.REFUSED, halt)
    engine.recovery.finds = RecoversRepeat(engine)
    asking = asyncio.create_task(engine.interpreter.ask(Retry(0, from_state=True)))
    await asyncio.sleep(0)
    await engine.interpreter.carry_out()
    await asking
    assert ({"out": (1, 2)}, 11) == (left(engine), engine.sent.committed[0])
    await engine.recovery_task.decided()
    await committed(engine, 0, 11, 2)
    assert ([b"12"], None) == (produced(engine), left(engine))


class RecoversRepeat:
    """Recovery from the stored META."""

    def __init__(self, engine: Stage) -> None:
        self._store = engine.store

    async def recover(self, partitions: Iterable[int], taken_over: Iterable[int] = ()) -> Any:
        for partition in partitions:
            meta = self._store.meta(partition)
            assert meta is not None
            yield Ready(partition=partition, offset=meta.offset, replayed=0, repeat=repeat_of(meta.repeat))


async def test_fewer_outputs_than_stand_differ(engine: Stage) -> None:
    """The record before gave nothing: the next record's output meets the one that was skipped."""
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1), output(12, 2)]
    await begin(engine, {"out": OutputSpan(0, 3)})
    await committed(engine, 0, 10, 1)
    await folded(engine, 0, records(12, 1))
    await engine.boundary.commit()
    assert PartitionState.SUSPECT is engine.partitions[0].state
    assert ({"out": (1, 3)}, []) == (left(engine), produced(engine))


async def test_outputs_that_nothing_gives_halt_at_the_end_of_the_source(
    engine: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the partition lags, its outputs may come. Markers alone are no outputs."""
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1)]
    engine.outputs.ends["dead", 0] = 5
    await begin(engine, {"out": OutputSpan(0, 2), "dead": OutputSpan(3, 5)})
    await committed(engine, 0, 10, 1)
    assert {} == await engine.repeats.look([])
    assert {} == await engine.repeats.look([0])
    monkeypatch.setattr(repeats, "MISSING_SECONDS", 0.0)
    assert {} == await engine.repeats.look([])
    missing = await engine.repeats.look([0])
    assert "out-0@1" in missing[0]
    assert "dead" not in missing[0]


async def test_an_idle_worker_halts_a_repeat_that_cannot_end(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1)]
    await begin(engine, {"out": OutputSpan(0, 2)})
    await committed(engine, 0, 10, 1)
    monkeypatch.setattr(repeats, "MISSING_SECONDS", 0.0)
    monkeypatch.setattr(engine.reader, "last_stable_offset", lambda partition: 11, raising=False)
    await engine.main_loop.look_at_repeats()
    halt = engine.partitions.halted[0]
    assert (11, None) == (halt.offset, halt.record)
    assert "has not given the outputs that stand from out-0@1 on" in halt.reason


async def test_readers_are_open_only_while_a_partition_repeats(engine: Stage) -> None:
    engine.outputs.logs["out", 0] = [output(10, 0)]
    assert {} == engine.outputs.readers
    await begin(engine, {})
    assert {} == engine.outputs.readers
    await begin(engine, {"out": OutputSpan(0, 1)})
    assert ["out"] == list(engine.outputs.readers)
    await begin(engine, {"out": OutputSpan(0, 1), "dead": OutputSpan(0, 1)})
    engine.outputs.logs["dead", 0] = [output(10, 0)]
    await committed(engine, 0, 10, 1)
    await engine.repeats.tidy()
    assert [set(), {0}] == [engine.outputs.readers[topic].reading for topic in ("out", "dead")]
    engine.partitions.happened(PartitionEvent.REVOKED, (0,))
    engine.ownership.release(frozenset({0}))
    await engine.repeats.tidy()
    assert ({}, {}) == (engine.outputs.readers, engine.repeats.left())


async def test_an_output_that_cannot_be_read_is_tried_again_then_halts(engine: Stage) -> None:
    """Its bytes may be damaged on the wire only."""
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1)]
    batch = unreadable("out", 0, "corrupt")
    await begin(engine, {"out": OutputSpan(0, 2)})
    engine.outputs.errors.append(BatchUnreadable(batch))
    await committed(engine, 0, 10, 1)
    assert PartitionState.SUSPECT is engine.partitions[0].state
    await committed(engine, 0, 10, 1)
    assert (11, []) == (engine.committed(0), produced(engine))
    for _ in range(3):
        await begin(engine, {"out": OutputSpan(1, 2)})
        engine.outputs.errors.append(BatchUnreadable(batch))
        await committed(engine, 0, 11, 1)
    halt = engine.partitions.halted[0]
    assert (11, None) == (halt.offset, halt.record)
    assert OutputUnreadable("out", 0, 0, str(batch)).cause.rstrip(".") in halt.reason


async def test_outputs_that_this_worker_may_not_read_halt(engine: Stage) -> None:
    """Kafka's permissions are an operator's matter: the other partitions go on meanwhile."""
    engine.outputs.logs["out", 0] = [output(10, 0)]
    await begin(engine, {"out": OutputSpan(0, 1)})
    for _ in range(3):
        engine.outputs.errors.append(TopicAuthorizationFailedError("out"))
        await begin(engine, {"out": OutputSpan(0, 1)})
        await committed(engine, 0, 10, 1)
    assert "not allowed to read the topic" in engine.partitions.halted[0].reason


async def test_outputs_that_are_gone_are_a_doubt(engine: Stage) -> None:
    """The recovery then finds out whether the log was trimmed. Another partition's loss is no doubt of this one."""
    for partition, first in ((0, 10), (1, 20)):
        engine.outputs.logs["out", partition] = [output(first, 0)]
        await begin(engine, {"out": OutputSpan(0, 1)}, partition=partition)
    engine.outputs.errors.append(OffsetOutOfRangeError({TopicPartition("out", 1): 0}))
    await committed(engine, 0, 10, 1)
    engine.outputs.errors.append(OffsetOutOfRangeError({TopicPartition("out", 1): 0}))
    with pytest.raises(Doubt):
        await committed(engine, 1, 20, 1)


async def test_outputs_that_nobody_can_read_now_are_a_doubt(engine: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker is away. The wait is bounded: a revocation and a stop must go on."""
    monkeypatch.setattr("portfolio_stream.exactly_once.commits.READ_SECONDS", 0.0)
    engine.outputs.logs["out", 0] = [output(10, 0)]
    await begin(engine, {"out": OutputSpan(0, 1)})
    with pytest.raises(Doubt):
        await committed(engine, 0, 10, 1)


# -- decisions of a former generation


def move(piece: Any) -> None:
    """The app's dead letter."""
    for record in piece.records:
        piece.appender("out")(record.timestamp, record.key, b"moved %d" % record.offset, ())


async def test_a_decided_record_is_moved_again_and_not_folded(engine: Stage) -> None:
    """Its dead letter is compared in its place, and the decision stands in the changelog again."""
    engine.write_dead_letter = move
    engine.outputs.logs["out", 0] = [output(10, 0), MemoryRecord(1, 1, b"k", b"moved 11"), output(12, 2)]
    await begin(engine, {"out": OutputSpan(0, 3)}, decided=[11, 14])
    await committed(engine, 0, 10, 3)
    assert ([], None, b"12") == (produced(engine), left(engine), engine.store.rows(0).get(b"numbers\x00last"))
    assert skip_value(records(11, 1)[0]) == engine.store.rows(0).get(skip_key(11))
    await committed(engine, 0, 13, 3)
    assert [b"13", b"moved 14", b"15"] == produced(engine)
    assert frozenset() == engine.repeats.decided(0)


async def test_a_dead_letter_that_differs_halts(engine: Stage) -> None:
    engine.write_dead_letter = move
    engine.outputs.logs["out", 0] = [output(10, 0), output(11, 1), output(12, 2)]
    await begin(engine, {"out": OutputSpan(0, 3)}, decided=[11])
    halt = await halted(engine, 0, 10, 3)
    assert (11, 11, None) == (halt.offset, engine.committed(0), halt.record)
    assert "out-0@1" in halt.reason


async def test_a_decided_batch_is_passed_again(engine: Stage) -> None:
    """An unreadable batch that nobody has decided about still makes its partition suspect."""
    engine.write_dead_letter = move
    batch = unreadable("in", 12, "undecodable")
    await begin(engine, {}, decided=[12])
    await folded(engine, 0, records(10, 2))
    assert await engine.folding.passes(batch)
    assert [(0, 13)] == engine.reader.resumed
    await engine.boundary.commit()
    assert ([b"10", b"11", b"moved 12"], 13) == (produced(engine), engine.committed(0))
    assert not await engine.folding.passes(unreadable("in", 18, "undecodable"))


async def test_a_dead_letter_that_cannot_be_written_fails_its_partition_alone(engine: Stage) -> None:
    def refuse(piece: Any) -> None:
        raise ValueError

    engine.write_dead_letter = refuse
    await begin(engine, {}, decided=[11])
    await folded(engine, 0, records(10, 3))
    assert (PartitionState.SUSPECT, PartitionState.RUNNING) == tuple(engine.partitions[p].state for p in (0, 1))

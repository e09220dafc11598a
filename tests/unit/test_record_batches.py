"""Record batches into records: as aiokafka reads them, but never beyond a bound of memory, and whatever is in them."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_COMMITTED, READ_UNCOMMITTED
from aiokafka.record import MemoryRecords
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.util import calc_crc32c
from hypothesis import example, given
from hypothesis import strategies as st

from portfolio_stream.kafka import record_batches
from portfolio_stream.kafka.batch_consumer import CORRUPT_TRIES, BatchRecords, Piece, Reading, _KeptRecords, flattened
from portfolio_stream.kafka.record_batches import (
    BATCH_BYTES,
    HEADERS_LIMIT,
    LAST_OFFSET,
    PIECE_BYTES,
    UNREADABLE,
    UnreadableBatch,
    next_offset,
)
from tests.bombs import CODECS, batch_of, bomb, packed, record, varint

PLACE = TopicPartition("in", 3)
NUMBERS = {None: 0} | CODECS
MIB = 1 << 20


def built(first: int, records: list[tuple[bytes | None, bytes | None, list[Any]]], codec: str | None) -> bytes:
    builder = DefaultRecordBatchBuilder(2, NUMBERS[codec], 0, -1, -1, 0, 1 << 30)
    for number, (key, value, headers) in enumerate(records):
        builder.append(number, 1_000 + number, key, value, headers)
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(data: bytes, start: int = 0, *, records: int = 1_000, for_side_reader: bool = True) -> list[Any]:
    reading = Reading(records, for_side_reader)
    return list(BatchRecords(reading, PLACE, _KeptRecords(data), [], start, None, True, READ_UNCOMMITTED))


def seen(records: Any) -> list[tuple[Any, ...]]:
    return [(one.offset, one.timestamp, one.key, one.value, list(one.headers)) for one in records]


contents = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=300),
        st.lists(st.tuples(st.text(st.characters(codec="utf-8"), max_size=5), st.none() | st.binary(max_size=5))),
    ),
    min_size=1,
    max_size=12,
)


@given(
    st.lists(st.tuples(contents, st.sampled_from(list(NUMBERS))), min_size=1, max_size=4), st.integers(0, 12), st.data()
)
def test_ordinary_batches_are_as_aiokafka_reads_them(batches: Any, start: int, data: st.DataObject) -> None:
    """Of every codec, from any offset on, in pieces of any size; a piece is never empty."""
    offsets = [0]
    for records, _ in batches:
        offsets.append(offsets[-1] + len(records))
    raw = b"".join(built(first, records, codec) for first, (records, codec) in zip(offsets, batches, strict=False))
    theirs = MemoryRecords(raw)
    expected = []
    while theirs.has_next():
        expected += [one for one in theirs.next_batch() if one.offset >= start]  # type: ignore[union-attr]
    most = data.draw(st.integers(1, 20))
    pieces = read(raw, start, records=most)
    assert all(isinstance(piece, Piece) and piece.records for piece in pieces)
    assert seen(expected) == seen(flattened(pieces))
    assert seen(expected) == seen(flattened(read(raw, start, records=most, for_side_reader=False)))


@pytest.mark.parametrize("codec", CODECS)
def test_a_batch_beyond_the_bound_is_one_value(codec: str) -> None:
    """What stands before it and behind it is read; what it is depends on nothing but its bytes."""
    data = bomb(5, BATCH_BYTES // 4, codec)
    before, behind = built(0, [(b"k", b"before", [])], codec), built(6, [(b"k", b"behind", [])], codec)
    whole = before + (1).to_bytes(8, "big") + data[8:] + behind
    first, batch, last = read(whole)
    assert ([b"before"], [b"behind"]) == ([one.value for one in first.records], [one.value for one in last.records])
    assert isinstance(batch, UnreadableBatch)
    assert ("in", 3, 1, 5, "too_large", 6) == (
        batch.topic, batch.partition, batch.offset, batch.last_offset, batch.reason, next_offset(batch),
    )  # fmt: skip
    assert (None, (1).to_bytes(8, "big") + data[8:]) == (batch.key, batch.value)
    assert [(LAST_OFFSET, b"5"), (UNREADABLE, b"too_large")] == batch.headers
    assert "offsets 1 to 5 of in-3 cannot be read: decompressed it is larger than 64 MiB" in str(batch)
    engines = read(whole, for_side_reader=False)
    assert [Piece, UnreadableBatch] == list(map(type, engines))  # the engine does not go on behind it
    assert batch == engines[1]


@pytest.mark.parametrize("codec", CODECS)
def test_a_large_batch_below_the_bound_is_read_in_pieces(codec: str) -> None:
    """A batch of 60 MiB becomes pieces of one MiB and a record each, in order, none left out."""
    size = MIB // 2
    pieces = read(bomb(120, size, codec))
    assert [0] + [1] * 119 == [b - a for a, b in pairwise([0, *(one.offset for one in flattened(pieces))])]
    assert {size} == {len(one.value) for one in flattened(pieces)}
    assert all(len(piece.records) <= PIECE_BYTES // size + 1 for piece in pieces)


def test_many_small_records_are_given_in_pieces() -> None:
    """Records cost more than their bytes: a piece has no more of them than was asked for."""
    count = 20_000
    content = b"".join(record(index, b"", b"") for index in range(count))
    pieces = read(batch_of(count, packed(content, "zstd"), "zstd"), records=700)
    assert count == len(flattened(pieces))
    assert 700 == max(len(piece.records) for piece in pieces)


def test_an_ordinary_batch_of_many_records_is_read_by_aiokafkas_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch of a changelog has thousands of records. Python code for each of them took half the time of a replay."""
    monkeypatch.delattr(record_batches, "_cut")
    content = b"".join(record(index, b"key", b"value") for index in range(9_000))
    for codec in (None, "zstd"):
        data = batch_of(9_000, content if codec is None else packed(content, codec), codec)
        pieces = read(data, 500, records=4_000, for_side_reader=False)
        assert [4_000, 4_000, 500] == [len(piece.records) for piece in pieces]
        assert list(range(500, 9_000)) == [one.offset for one in flattened(pieces)]


def test_a_record_of_too_many_headers_stops_every_reader_at_the_same_offset() -> None:
    """Its headers would take a hundred times its bytes; the records before it are given."""
    many = [(b"", b"")] * max(HEADERS_LIMIT + 1, MIB)
    content = record(0, b"k", b"a") + record(1, b"k", b"b") + record(2, b"k", b"c", many)
    data = batch_of(3, packed(content, "zstd"), "zstd")
    for most in (1, 2, 1_000):
        for for_side_reader in (False, True):
            *pieces, batch = read(data, records=most, for_side_reader=for_side_reader)
            assert [0, 1] == [one.offset for one in flattened(pieces)]
            assert (2, 2, "too_large") == (batch.offset, batch.last_offset, batch.reason)


def damaged(cut: int, at: int, byte: int, name: bytes) -> bytes:
    """Good records whose bytes are cut and changed."""
    content = bytearray(b"".join(record(index, b"k", b"v", [(name, b"x")]) for index in range(3)))
    content[at % len(content)] = byte
    return bytes(content[: len(content) - cut % len(content)])


contents_of_any_kind = st.binary(max_size=200) | st.builds(
    damaged, st.integers(0, 40), st.integers(0, 40), st.integers(0, 255), st.sampled_from([b"name", b"\xff\xfe"])
)


@example(varint(2 * MIB), None, 1)  # the next varint lies behind the end
@example(varint(2 * MIB) + b"\x00\x00\x00" + varint(1 << 40), "zstd", 1)
@given(contents_of_any_kind, st.sampled_from([None, *CODECS]), st.integers(-3, 5))
def test_nothing_in_a_batch_raises(content: bytes, codec: str | None, count: int) -> None:
    """Whatever bytes it holds, the batch is read or it is a value, and the position moves."""
    for data in (
        batch_of(max(count, 1), content, codec),
        batch_of(1, packed(content, codec or "gzip"), codec or "gzip"),
    ):
        records = read(data)
        assert all(isinstance(one, Piece | UnreadableBatch) for one in records)
        reader = BatchRecords(Reading(10), PLACE, _KeptRecords(data), [], 0, None, True, READ_UNCOMMITTED)
        list(reader)
        assert reader.next_fetch_offset > 0


def test_a_corrupt_batch_is_fetched_again_before_it_is_passed_over() -> None:
    """By a side reader; it keeps no bytes, which may be other ones elsewhere, and the engine counts for itself."""
    data = bytearray(built(0, [(b"k", b"v" * 50, [])] * 3, None))
    data[-9] ^= 0x41
    reading = Reading(10)
    for _ in range(CORRUPT_TRIES - 1):
        again = BatchRecords(reading, PLACE, _KeptRecords(bytes(data)), [], 0, None, True, READ_UNCOMMITTED)
        assert ([], 0) == (list(again), again.next_fetch_offset)
    last = BatchRecords(reading, PLACE, _KeptRecords(bytes(data)), [], 0, None, True, READ_UNCOMMITTED)
    (batch,) = last
    assert ("corrupt", 0, 2, None, 3) == (
        batch.reason, batch.offset, batch.last_offset, batch.value, last.next_fetch_offset,
    )  # fmt: skip
    engines = BatchRecords(Reading(10, for_side_reader=False), PLACE, _KeptRecords(bytes(data)), [], 0, None, True, 0)
    assert (["corrupt"], 0) == ([one.reason for one in engines], engines.next_fetch_offset)


def test_a_batch_of_an_old_format_is_named() -> None:
    """No producer can send one to Kafka 4; it may stand there since before."""
    data = bytearray(built(0, [(b"k", b"v", [])], None))
    data[16] = 1
    (batch,) = read(bytes(data))
    assert ("old_format", 0) == (batch.reason, batch.offset)


@pytest.mark.parametrize("bit", range(32))
def test_damage_in_a_corrupt_batchs_own_length_takes_no_other_record_along(bit: int) -> None:
    """Nothing vouches for the header of a batch whose CRC is wrong. The batch behind says where the batch ends."""
    damaged, behind = bytearray(built(0, [(b"k", b"v", [])] * 3, None)), built(3, [(b"k", b"w", [])] * 3, None)
    damaged[23 + bit // 8] ^= 1 << bit % 8  # the offset of the last record, less the first one's
    (alone,) = read(bytes(damaged), for_side_reader=False)
    assert ("corrupt", 0, 0) == (alone.reason, alone.offset, alone.last_offset)
    (batch,) = read(bytes(damaged) + behind, for_side_reader=False)
    assert ("corrupt", 0, 2) == (batch.reason, batch.offset, batch.last_offset)


def test_the_batch_of_a_marker_that_was_cleaned_away_is_passed_over() -> None:
    """Kafka's log cleaner keeps the batch of a producer's last marker after the marker itself."""
    control_and_transactional, producer_id = 0x30, 7
    body = struct.pack(">hiqqqhii", control_and_transactional, 0, 5, 5, producer_id, 0, -1, 0)
    empty = struct.pack(">qiibI", 0, len(body) + 9, -1, 2, calc_crc32c(body)) + body
    behind = built(1, [(b"k", b"w", [])], None)
    reading = Reading(10)
    records = BatchRecords(reading, PLACE, _KeptRecords(empty + behind), [], 0, None, True, READ_COMMITTED)
    assert [1] == [record.offset for record in flattened(list(records))]

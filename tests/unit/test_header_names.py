"""Header names that are no UTF-8: every record of such a batch is read, and written again with the same bytes."""

from typing import Any

from aiokafka.record import MemoryRecords

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.transaction import Batches
from portfolio_stream.kafka.header_names import bytes_of
from portfolio_stream.kafka.record_batches import PIECE_BYTES
from tests.bombs import batch_of, record
from tests.unit.test_record_batches import built, flattened, read, seen

BAD = b"\xff\xfe\x00\xc3"


def batch(first: int, names: list[bytes], value: bytes = b"v") -> bytes:
    content = b"".join(record(index, b"k", value, [(name, b"x")]) for index, name in enumerate(names))
    return batch_of(len(names), content, base_offset=first)


def names_of(records: Any) -> list[bytes]:
    return [bytes_of(name) for one in records for name, _ in one.headers]


def test_a_batch_with_such_a_name_is_read_whole() -> None:
    """From the offset that was asked for, for the engine as for a side reader, with the batches around it."""
    data = batch(0, [b"a"]) + batch(1, [b"\xc3\xa9", BAD, b"c"]) + batch(4, [b"d"])
    for for_side_reader in (True, False):
        found = flattened(read(data, for_side_reader=for_side_reader))
        assert [b"a", b"\xc3\xa9", BAD, b"c", b"d"] == names_of(found)
        assert [0, 1, 2, 3, 4] == [one.offset for one in found]
        assert "é" == found[1].headers[0][0]
        assert [b"c", b"d"] == names_of(flattened(read(data, 3, for_side_reader=for_side_reader)))


def test_a_large_batch_is_read_on_behind_such_a_name() -> None:
    """Record by record it is read from the bad one on, not from its start."""
    names = [b"a", b"b", BAD, b"d", BAD]
    found = flattened(read(batch(0, names, b"v" * (PIECE_BYTES // 2))))
    assert names == names_of(found)
    assert {PIECE_BYTES // 2} == {len(one.value) for one in found}


def test_such_a_name_is_written_as_it_came() -> None:
    """By the transaction's batches, between records that aiokafka's C code writes; order and sequences go on."""
    source = flattened(read(batch(0, [b"a", BAD, b"\xc3\xa9", BAD, BAD, b"f"]), for_side_reader=False))
    batches = Batches()
    for one in source:
        batches.append(one.timestamp, one.key, one.value, one.headers)
    values: TableDefinition[bytes] = TableDefinition(name="t", encode=bytes, decode=bytes)
    batches.encode(9, [(b"k", b"1"), (b"l", b"2")], values, b"\x00\x00t\x00", {})
    built_batches = list(batches.build(7, 1))
    written = [one for data in built_batches for one in flattened(read(data, for_side_reader=False))]
    assert [b"a", BAD, b"\xc3\xa9", BAD, BAD, b"f"] == names_of(written)
    assert [b"v"] * 6 + [b"1", b"2"] == [one.value for one in written]
    sequence = 0
    for data in built_batches:
        theirs: Any = MemoryRecords(data).next_batch()
        assert (7, sequence, True) == (theirs.producer_id, theirs.base_sequence, theirs.is_transactional)
        sequence += theirs.last_offset_delta + 1
    assert 8 == sequence
    assert 3 == batches.last_batch_records()


def test_other_records_are_not_read_in_another_way() -> None:
    """The C code's records, name for name."""
    data = built(0, [(b"k", b"v", [("é", b"1"), ("", None)])], "lz4")
    assert [[("é", b"1"), ("", None)]] == [headers for *_, headers in seen(flattened(read(data)))]

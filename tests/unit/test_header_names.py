"""Header names that are no UTF-8: every record of such a batch is read, by the engine as by Java's client."""

from typing import Any

from aiokafka import TopicPartition
from aiokafka.consumer.fetcher import READ_UNCOMMITTED
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from portfolio_stream.exactly_once.header_names import KeptRecords
from portfolio_stream.exactly_once.reader import CorruptBatch, _WholeBatches

GOOD, BAD = b"name", b"\xff\xfe\x00\xc3"


def batch(first: int, values: list[bytes]) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, 0, 1 << 20)
    for number, value in enumerate(values):
        builder.append(number, 5, b"k", value, [(GOOD.decode(), b"v"), ("other", None)])
    return first.to_bytes(8, "big") + bytes(builder.build())[8:]


def read(data: bytes, start: int) -> list[Any]:
    whole = _WholeBatches(
        TopicPartition("in", 0), KeptRecords(data), [], start, None, None, False, READ_UNCOMMITTED
    )  # fmt: skip
    return list(whole)


def test_a_batch_with_such_a_name_is_read_whole() -> None:
    """From the offset that was asked for; the batches around it are not touched."""
    before, data = batch(0, [b"a"]), batch(1, [b"b", b"c"]).replace(GOOD, BAD, 1) + batch(3, [b"d"])
    batches = read(before + data, 0)
    assert [[b"a"], [b"b", b"c"], [b"d"]] == [[record.value for record in records] for records in batches]
    assert [0, 1, 2, 3] == [record.offset for records in batches for record in records]
    bad, good = batches[1]
    assert [("\ufffd\ufffd\x00\ufffd", b"v"), ("other", None)] == list(bad.headers)
    assert [("name", b"v"), ("other", None)] == list(good.headers)
    assert [[b"c"], [b"d"]] == [[record.value for record in records] for records in read(data, 2)]


def test_what_is_corrupt_stays_corrupt() -> None:
    """A record whose lengths do not fit is not guessed at."""
    data = bytearray(batch(0, [b"b"]).replace(GOOD, BAD))
    data[-9] ^= 0x41
    (found,) = read(bytes(data), 0)
    assert isinstance(found, CorruptBatch)

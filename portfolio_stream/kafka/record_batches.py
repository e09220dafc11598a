"""Turns a record batch of Kafka into records, piece by piece, within a bound of memory.

1. A legal batch of 50 KB can hold gigabytes. We do not trust the size that the batch itself states. We decompress the
   batch into a buffer of at most BATCH_BYTES. A batch that does not fit is `too_large`.
2. Records become objects one piece at a time. An object takes more memory than its bytes: `cost` counts both.
3. A batch that cannot be read becomes a value, UnreadableBatch. It looks like one record whose value is the batch's
   bytes, so an operator can move it to the dead letters like a record. The value depends only on the batch.
4. aiokafka's C code makes the records. This module does only the decompression, and header names that are not UTF-8.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from struct import Struct
from typing import Any, Literal, NamedTuple

import cramjam
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint_py as decode_varint  # the C function reads beyond the end

from portfolio_stream.kafka.header_names import Headers, lenient_batch

#: the largest decompressed batch: 64 times max.message.bytes; compression makes JSON of events 10 to 20 times smaller.
#: Its decompression takes 60 ms. Never change the bound: in every replay the same batches must be too large
BATCH_BYTES = 64 << 20
GUESS_BYTES, GUESS_RATIO = 64 << 10, 16  # the first buffer: the minimum, and bytes for each compressed byte
GUESS_GROWTH = 4  # from buffer to buffer: a buffer of the whole bound would take 40 ms for its zeros alone
PIECE_BYTES = 1 << 20  # decompressed bytes that become objects at once
RECORD_COST = 250  # bytes that the objects of a record take
HEADER_COST = 150  # bytes that the objects of a header take; in the batch a header may have two bytes
LARGE_RECORD_BYTES = 1 << 20  # the headers of a larger record are counted before it becomes objects
HEADERS_LIMIT = 100_000  # headers of a large record: their objects take some 15 MB

HEADER = Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
MAGIC = 2  # the record format of Kafka 0.11 and later, the only one that a producer can send to Kafka 4
CODEC_MASK, LOG_APPEND_TIME = 0x07, 0x08
ATTRIBUTES_LOW_BYTE, COUNT_AT = 22, 57
_COUNT = Struct(">i")
SNAPPY = 2
XERIAL_MAGIC, XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16

#: too_large: larger than BATCH_BYTES. undecodable: the bytes break the rules of the codec or the format.
#: corrupt: the CRC is wrong. old_format: older than Kafka 0.11
Reason = Literal["too_large", "undecodable", "corrupt", "old_format"]
#: what follows "the record batch ... cannot be read: "
WORDS: Mapping[Reason, str] = {
    "too_large": f"decompressed it is larger than {BATCH_BYTES >> 20} MiB",
    "undecodable": "its content cannot be decoded",
    "corrupt": "its CRC is wrong",
    "old_format": "its format is older than Kafka 0.11",
}
#: names of the headers of an UnreadableBatch
LAST_OFFSET, UNREADABLE = "portfolio.batch.last_offset", "portfolio.batch.unreadable"


class BatchHeader(NamedTuple):
    """The fields of the header of a v2 batch, in the order of its bytes."""

    base_offset: int
    length: int
    leader_epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    base_timestamp: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    records: int


@dataclass(frozen=True, kw_only=True, slots=True)
class UnreadableBatch:
    """A whole record batch that cannot become records. It looks like one record without a key.

    `value` has the batch's bytes. The bytes of a `corrupt` batch are not kept: another replica may have other bytes.
    """

    topic: str
    partition: int
    #: the first offset that was not read
    offset: int
    last_offset: int
    #: milliseconds since 1970
    timestamp: int
    reason: Reason
    value: bytes | None

    @property
    def key(self) -> None:
        return None

    @property
    def headers(self) -> Headers:
        return [(LAST_OFFSET, str(self.last_offset).encode()), (UNREADABLE, self.reason.encode())]

    def __str__(self) -> str:
        place = f"offsets {self.offset} to {self.last_offset} of {self.topic}-{self.partition}"
        return f"the record batch of {place} cannot be read: {WORDS[self.reason]}"


class Undecodable(Exception):
    """A batch cannot become records, for `reason`."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def unreadable(
    topic: str, partition: int, data: bytes, offset: int, reason: Reason, following: int | None = None
) -> UnreadableBatch:
    """Returns the UnreadableBatch for the bytes `data`. `offset` is the first offset that the reader wants.

    `following` is the base offset of the next batch, if the same fetch brought it. The header of a `corrupt` batch may
    be wrong: see `_corrupt_end`.
    """
    is_sound = reason not in ("corrupt", "old_format")
    last, timestamp = offset, 0
    if reason != "old_format":
        header = BatchHeader._make(HEADER.unpack_from(data))
        offset = max(offset, header.base_offset)
        last = max(offset, _corrupt_end(header, offset, following) if reason == "corrupt" else _end(header))
        if is_sound:
            timestamp = header.max_timestamp if header.attributes & LOG_APPEND_TIME else header.base_timestamp
    return UnreadableBatch(
        topic=topic,
        partition=partition,
        offset=offset,
        last_offset=last,
        timestamp=max(0, timestamp),
        reason=reason,
        value=data if is_sound else None,
    )


def _end(header: BatchHeader) -> int:
    return header.base_offset + header.last_offset_delta


def _corrupt_end(header: BatchHeader, offset: int, following: int | None) -> int:
    """Returns the last offset that certainly belongs to the corrupt batch. A larger one would lose good records.

    A producer's batch has as many records as offsets. If both fields agree, neither is damaged.
    """
    behind = None if following is None or following <= offset else following - 1
    if header.last_offset_delta + 1 != header.records:
        return offset if behind is None else behind
    return _end(header) if behind is None else min(_end(header), behind)


def corrupt_batch(topic: str, partition: int, offset: int, last_offset: int) -> UnreadableBatch:
    """Returns a corrupt batch of which only the offsets are known. Another replica may have good bytes of it."""
    return UnreadableBatch(
        topic=topic,
        partition=partition,
        offset=offset,
        last_offset=last_offset,
        timestamp=0,
        reason="corrupt",
        value=None,
    )


def next_offset(record: Any) -> int:
    """Returns the offset that follows a record, or an UnreadableBatch."""
    last: int = record.last_offset if isinstance(record, UnreadableBatch) else record.offset
    return last + 1


# --- Records ---


def record_count(data: memoryview) -> int:
    """Returns the number of records that the batch's header states."""
    count: int = _COUNT.unpack_from(data, COUNT_AT)[0]
    return count


def pieces_of(
    batch: Any, data: memoryview, start: int, most_records: int, most_bytes: int = BATCH_BYTES
) -> Iterator[tuple[list[Any], int]]:
    """Yields the records of a batch from offset `start` on, in pieces, each piece with its cost in bytes.

    `batch` is aiokafka's C batch with a right CRC, and `data` has its bytes. Raises Undecodable, perhaps after some
    pieces.
    """
    count = record_count(data)
    whole: bytes | bytearray | memoryview = data
    if data[ATTRIBUTES_LOW_BYTE] & CODEC_MASK:
        whole = uncompressed(data, most_bytes)
        batch = DefaultRecordBatch(whole)
    if len(whole) <= PIECE_BYTES:
        try:
            wanted = batch if batch.base_offset >= start else (record for record in batch if record.offset >= start)
            rest = chain(wanted)  # a C batch may be iterated over only once
            while found := list(islice(rest, most_records)):
                start = found[-1].offset + 1
                yield found, cost(found)
        except Exception:  # noqa: BLE001  a name is not UTF-8, or the batch is damaged: _cut finds out which
            batch = DefaultRecordBatch(whole)
        else:
            return
    own = whole if isinstance(whole, bytearray) else bytearray(whole)
    yield from _cut(batch, own, count, start, most_records)


def cost(records: Sequence[Any]) -> int:
    """Returns an upper bound of the bytes that the objects of these records take."""
    content = sum([len(record.key or b"") + len(record.value or b"") for record in records])
    headers = sum([len(record.headers) for record in records])
    return content + len(records) * RECORD_COST + headers * HEADER_COST


def _cut(batch: Any, data: bytearray, count: int, start: int, most_records: int) -> Iterator[tuple[list[Any], int]]:
    """Yields pieces as `pieces_of` does, but reads record by record.

    Yields all records before an unreadable one, so that every reader stops at the same offset.
    """
    records = _Records(batch, data, count)
    found: list[Any] = []
    size = 0
    while True:
        try:
            record, length = next(records, (None, 0))
        except Exception as error:  # aiokafka's decoder raises many kinds
            if found:
                yield found, size
            raise error if isinstance(error, Undecodable) else Undecodable("undecodable") from error
        if record is not None and record.offset >= start:
            found.append(record)
            size += length + RECORD_COST + len(record.headers) * HEADER_COST
        if found and (record is None or size >= PIECE_BYTES or len(found) >= most_records):
            yield found, size
            found, size = [], 0
        if record is None:
            return


class _Records:
    """Iterates over the records of an uncompressed batch, each with its length in bytes.

    It computes where each record begins. It needs this to read on with Python code behind a header name that
    aiokafka's C code cannot read, and to count the headers of a large record before the record becomes objects.
    """

    def __init__(self, batch: Any, data: bytearray, count: int) -> None:
        self._records = iter(batch)
        self._data = data
        self._count = count
        self._index, self._position = 0, HEADER_BYTES

    def __iter__(self) -> Iterator[tuple[Any, int]]:
        return self

    def __next__(self) -> tuple[Any, int]:
        if self._index >= self._count:
            next(self._records)  # raises StopIteration at the end of the batch, and an error if bytes are left
            raise Undecodable("undecodable")
        length, begin = decode_varint(self._data, self._position)
        if length > LARGE_RECORD_BYTES and _header_count(self._data, begin) > HEADERS_LIMIT:
            raise Undecodable("too_large")
        try:
            record = next(self._records)
        except UnicodeDecodeError:
            self._records = lenient_batch(self._data, self._position, self._index)
            record = next(self._records)
        self._index, self._position = self._index + 1, begin + length
        return record, length


def _header_count(data: bytearray, position: int) -> int:
    """Returns the number of headers of the record whose attributes are at `position`."""
    position += 1
    for _ in range(2):  # timestamp and offset
        _, position = decode_varint(data, position)
    for _ in range(2):  # key and value
        length, position = decode_varint(data, position)
        position += max(0, length)
    return int(decode_varint(data, position)[0])


# --- Compression ---

_Into = Callable[[memoryview, memoryview], int]


def uncompressed(data: memoryview, most_bytes: int = BATCH_BYTES) -> bytearray:
    """Returns the batch with its records decompressed, and with the old CRC, which is wrong now. Raises Undecodable."""
    attributes = data[ATTRIBUTES_LOW_BYTE]
    into = _INTO.get(attributes & CODEC_MASK)
    if into is None:
        raise Undecodable("undecodable")
    packed = data[HEADER_BYTES:]
    guess = min(most_bytes, max(GUESS_BYTES, GUESS_RATIO * len(packed)))
    while True:
        try:
            whole = _decompressed(into, packed, guess)
            break
        except cramjam.DecompressionError as error:
            is_full = "buffer" in str(error)  # cramjam says so if the result does not fit
            if guess >= most_bytes or not is_full:
                raise Undecodable("too_large" if is_full else "undecodable") from error
        guess = min(most_bytes, guess * GUESS_GROWTH)
    whole[:HEADER_BYTES] = data[:HEADER_BYTES]
    whole[ATTRIBUTES_LOW_BYTE] = attributes & ~CODEC_MASK
    return whole


def _decompressed(into: _Into, packed: memoryview, size: int) -> bytearray:
    """Returns space for a batch header, and the decompressed bytes. A large buffer takes memory only when written."""
    whole = bytearray(HEADER_BYTES + size)
    with memoryview(whole) as view, view[HEADER_BYTES:] as room:
        written = into(packed, room)
    del whole[HEADER_BYTES + written :]
    return whole


def _snappy_into(packed: memoryview, room: memoryview) -> int:
    """Decompress raw snappy, or the blocks of Java's xerial library. Every block must fit into the rest of `room`."""
    if packed[: len(XERIAL_MAGIC)] != XERIAL_MAGIC:
        return int(cramjam.snappy.decompress_raw_into(packed, room))
    at, written = XERIAL_HEADER_BYTES, 0
    while at < len(packed):
        end = at + 4 + int.from_bytes(packed[at : at + 4], "big")
        if end > len(packed):
            raise cramjam.DecompressionError("a block is cut")
        with room[written:] as rest:
            written += int(cramjam.snappy.decompress_raw_into(packed[at + 4 : end], rest))
        at = end
    return written


_INTO: Mapping[int, _Into] = {
    1: cramjam.gzip.decompress_into,
    SNAPPY: _snappy_into,
    3: cramjam.lz4.decompress_into,
    4: cramjam.zstd.decompress_into,
}

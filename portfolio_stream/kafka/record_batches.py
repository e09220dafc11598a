"""A record batch as it came from Kafka, into records: in pieces, and never more memory than a bound allows.

1. A legal batch of 50 KB can hold gigabytes. What a batch says of its own size is not believed: it is decompressed into
   a buffer of BATCH_BYTES, and one that does not fit is `too_large`.
2. Records become objects a piece at a time. An object costs more than its bytes: `cost` counts both.
3. A batch that nobody can read is a value, UnreadableBatch. It poses as one record, whose value is the batch's bytes:
   an operator can move it to the dead letters like any other. What it is depends on nothing but the batch.
4. aiokafka's C code makes the records; only decompression, and names that are no UTF-8, are done here.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Literal, NamedTuple

import cramjam
from aiokafka.record.default_records import DefaultRecordBatch
from aiokafka.record.util import decode_varint_py as decode_varint  # the C one reads beyond the end

from portfolio_stream.kafka.header_names import Headers, lenient_batch

#: decompressed: 64 times what a broker takes at once (max.message.bytes); JSON of events shrinks to a 10th or a 20th.
#: It takes 60 ms, and is part of what a replay gives: verify expects the same batches to be too large
BATCH_BYTES = 64 << 20
GUESS_BYTES, GUESS_RATIO = 64 << 10, 16  # the first try: most batches fit
GUESS_GROWTH = 4  # from try to try: clean memory of the whole bound alone takes 40 ms
PIECE_BYTES = 1 << 20  # decompressed: what becomes objects at once
RECORD_COST = 250  # bytes of a record's objects
HEADER_COST = 150  # bytes of a header's objects, which may be two bytes in the batch
LARGE_RECORD_BYTES = 1 << 20  # from here on a record's headers are counted before it becomes an object
HEADERS_LIMIT = 100_000  # of a large record: some 15 MB

HEADER = Struct(">qiibIhiqqqhii")
HEADER_BYTES = HEADER.size
MAGIC = 2  # the record format of Kafka 0.11 and later, the only one that a producer can send to Kafka 4
CODEC_MASK, LOG_APPEND_TIME = 0x07, 0x08
ATTRIBUTES_LOW_BYTE, COUNT_AT = 22, 57
_COUNT = Struct(">i")
SNAPPY = 2
XERIAL_MAGIC, XERIAL_HEADER_BYTES = b"\x82SNAPPY\x00", 16

#: too_large: more than BATCH_BYTES. undecodable: not what its codec or the format says. corrupt: its CRC is wrong.
#: old_format: older than Kafka 0.11
Reason = Literal["too_large", "undecodable", "corrupt", "old_format"]
#: "the record batch ... cannot be read: "
WORDS: Mapping[Reason, str] = {
    "too_large": f"decompressed it is larger than {BATCH_BYTES >> 20} MiB",
    "undecodable": "its content cannot be decoded",
    "corrupt": "its CRC is wrong",
    "old_format": "its format is older than Kafka 0.11",
}
#: headers of an unreadable batch that poses as a record
LAST_OFFSET, UNREADABLE = "portfolio.batch.last_offset", "portfolio.batch.unreadable"


class Header(NamedTuple):
    """The fields of a v2 batch's header, as they stand in it."""

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
    """A whole record batch that cannot become records. It poses as one record without a key.

    Its bytes are kept unless they are `corrupt`: then they are not the same wherever they are read.
    """

    topic: str
    partition: int
    #: the first that was not read
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
    """Why a batch cannot become records."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason: Reason = reason


def unreadable(
    topic: str, partition: int, data: bytes, offset: int, reason: Reason, following: int | None = None
) -> UnreadableBatch:
    """The batch whose bytes are `data`. `offset` is the first that the reader wants of the batch.

    `following` is the base offset of the batch behind, where the same fetch brought one. Nothing vouches for the header
    of a `corrupt` batch: see `_corrupt_end`.
    """
    is_sound = reason not in ("corrupt", "old_format")
    last, timestamp = offset, 0
    if reason != "old_format":
        header = Header._make(HEADER.unpack_from(data))
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


def _end(header: Header) -> int:
    return header.base_offset + header.last_offset_delta


def _corrupt_end(header: Header, offset: int, following: int | None) -> int:
    """The last offset that surely belongs to the batch: to pass over more would lose records that are well.

    A producer's batch has as many records as offsets. If both fields say the same, neither is damaged.
    """
    behind = None if following is None or following <= offset else following - 1
    if header.last_offset_delta + 1 != header.records:
        return offset if behind is None else behind
    return _end(header) if behind is None else min(_end(header), behind)


def corrupt_batch(topic: str, partition: int, offset: int, last_offset: int) -> UnreadableBatch:
    """Nothing else of it is known: it may be read well elsewhere, or later."""
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
    """Behind a record, or behind a batch that poses as one."""
    last: int = record.last_offset if isinstance(record, UnreadableBatch) else record.offset
    return last + 1


# --- Records ---


def record_count(data: memoryview) -> int:
    """As the batch's header says."""
    count: int = _COUNT.unpack_from(data, COUNT_AT)[0]
    return count


def pieces_of(
    batch: Any, data: memoryview, start: int, most_records: int, most_bytes: int = BATCH_BYTES
) -> Iterator[tuple[list[Any], int]]:
    """The records of a batch from offset `start` on, a piece at a time, each piece with its cost in bytes.

    `batch` is aiokafka's C batch, whose CRC is right, `data` its bytes. Raises Undecodable, perhaps after some pieces.
    """
    count = record_count(data)
    whole: bytes | bytearray | memoryview = data
    if data[ATTRIBUTES_LOW_BYTE] & CODEC_MASK:
        whole = uncompressed(data, most_bytes)
        batch = DefaultRecordBatch(whole)
    if len(whole) <= PIECE_BYTES and count <= most_records:
        try:
            found = [record for record in batch if record.offset >= start]
        except Exception:  # noqa: BLE001  a name that is no UTF-8, or damage: record by record it shows
            batch = DefaultRecordBatch(whole)
        else:
            yield found, cost(found, len(whole))
            return
    own = whole if isinstance(whole, bytearray) else bytearray(whole)
    yield from _cut(batch, own, count, start, most_records)


def cost(records: Sequence[Any], size: int) -> int:
    """Bytes that these records take as objects, at most: `size` in the batch, where what is no key and no value may be
    headers of two bytes each."""
    content = sum([len(record.key or b"") + len(record.value or b"") for record in records])
    return size + len(records) * RECORD_COST + max(0, size - content - 40 * len(records)) * HEADER_COST // 2


def _cut(batch: Any, data: bytearray, count: int, start: int, most_records: int) -> Iterator[tuple[list[Any], int]]:
    """Record by record. What precedes one that cannot be read is given: every reader stops at the same offset."""
    records = _Records(batch, data, count)
    found: list[Any] = []
    size = 0
    while True:
        try:
            record, length = next(records, (None, 0))
        except Exception as error:  # aiokafka's decoder has errors of its own
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
    """Iterates over the records of an uncompressed batch, each with its bytes.

    A record's own length says where the next one begins, for names that aiokafka's C code does not read, and for
    records with too many headers.
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
            next(self._records)  # ends; raises if something is left
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
    """Of the record whose attributes stand at `position`."""
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
    """The same batch with its records decompressed; its CRC is not made anew. Raises Undecodable."""
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
            is_full = "buffer" in str(error)  # its words for a result that does not fit
            if guess >= most_bytes or not is_full:
                raise Undecodable("too_large" if is_full else "undecodable") from error
        guess = min(most_bytes, guess * GUESS_GROWTH)
    whole[:HEADER_BYTES] = data[:HEADER_BYTES]
    whole[ATTRIBUTES_LOW_BYTE] = attributes & ~CODEC_MASK
    return whole


def _decompressed(into: _Into, packed: memoryview, size: int) -> bytearray:
    """Room for a batch's header, then what was packed. The memory of a large buffer is taken as it is written."""
    whole = bytearray(HEADER_BYTES + size)
    with memoryview(whole) as view, view[HEADER_BYTES:] as room:
        written = into(packed, room)
    del whole[HEADER_BYTES + written :]
    return whole


def _snappy_into(packed: memoryview, room: memoryview) -> int:
    """Raw, or in the blocks of Java's xerial library; a block says its own decompressed size, which must fit."""
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

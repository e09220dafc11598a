"""Makes aiokafka's consumer return whole record batches, within a bound of memory. No content of a topic breaks it.

1. `getmany` of a `batch_consumer` returns Pieces and UnreadableBatches in place of records; with max_records=1, a
   single one. The position is then behind the last record of the piece or batch.
2. The consumer steps over transaction markers and aborted records, like an ordinary consumer.
3. Every other consumer in the process keeps aiokafka's own fetcher.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from struct import Struct
from time import perf_counter
from typing import Any, NamedTuple

import aiokafka.consumer.fetcher as fetcher
from aiokafka import AIOKafkaConsumer, TopicPartition

from portfolio_stream.kafka.record_batches import (
    BATCH_BYTES,
    MAGIC,
    PIECE_BYTES,
    Reason,
    Undecodable,
    UnreadableBatch,
    next_offset,
    pieces_of,
    record_count,
    unreadable,
)

CORRUPT_TRIES = 3  # the bytes may be damaged on the wire only: the consumer fetches the batch again
MAGIC_AT, LOG_OVERHEAD = 16, 12
_LENGTH = Struct(">i")
_BASE_OFFSET = Struct(">q")


class Piece(NamedTuple):
    """Records of one partition, in the order of their offsets. There is at least one record."""

    records: list[Any]
    #: an upper bound of the bytes that the records take in memory
    cost: int


@dataclass(slots=True)
class Spent:
    """The seconds in which batches became pieces."""

    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Reading:
    """The form of a consumer's pieces. It is the consumer's key deserializer, so that the fetcher finds it."""

    #: how many records a piece may have
    records: int
    #: True: pieces have ConsumerRecords, and the reading goes on behind an unreadable batch. False, for the engine:
    #: pieces have aiokafka's C records, and an unreadable batch ends the fetch; the position stays before the batch
    for_side_reader: bool = True
    batch_bytes: int = BATCH_BYTES
    #: how often a corrupt batch was fetched, by partition and offset
    tries: Counter[tuple[TopicPartition, int]] = field(default_factory=Counter)
    spent: Spent = field(default_factory=Spent)

    def __call__(self, key: bytes | None) -> bytes | None:
        return key


def flattened(pieces: Iterable[Piece | UnreadableBatch]) -> Sequence[Any]:
    """Returns the records of all pieces, and each unreadable batch in its place, as one record."""
    found: list[Any] = []
    for piece in pieces:
        found += piece.records if isinstance(piece, Piece) else (piece,)
    return found


def batch_consumer(reading: Reading, **options: Any) -> AIOKafkaConsumer:
    """Returns a consumer of pieces. `options` are aiokafka's: addresses, security, and those of a consumer."""
    return AIOKafkaConsumer(key_deserializer=reading, enable_auto_commit=False, **options)


class _KeptRecords(fetcher.MemoryRecords):  # type: ignore[misc]
    """The batches that a fetch brought for a partition, with their bytes, which aiokafka's C code hides."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


class BatchRecords(fetcher.PartitionRecords):  # type: ignore[misc]
    """Iterates over the Pieces and UnreadableBatches of one partition.

    The iterator raises no error. An error would also lose the records that aiokafka has already taken from other
    partitions, whose positions have moved.
    """

    next_fetch_offset: int

    def __init__(self, reading: Reading, place: Any, records: Any, aborted: Any, offset: int, *rest: Any) -> None:
        self._reading = reading
        super().__init__(place, records, aborted, offset, None, *rest)

    def _unpack_records(self) -> Iterator[Piece | UnreadableBatch]:
        """Yields what `_pieces` yields, and measures the time that each piece takes."""
        spent, pieces = self._reading.spent, self._pieces()
        while True:
            began = perf_counter()
            piece = next(pieces, None)
            spent.seconds += perf_counter() - began
            if piece is None:
                return
            yield piece

    def _pieces(self) -> Iterator[Piece | UnreadableBatch]:
        """Yields pieces and unreadable batches. Small batches share a piece of up to PIECE_BYTES."""
        reading, position = self._reading, self.next_fetch_offset
        found: list[Any] = []
        size = 0
        for batch, data, following in self._batches():
            try:
                self._check(batch, data)
                if self._is_passed_over(batch, data):
                    position = max(position, batch.next_offset)
                    continue
                for records, cost in pieces_of(batch, data, position, reading.records, reading.batch_bytes):
                    found += map(self._shown, records) if reading.for_side_reader else records
                    size += cost
                    position = records[-1].offset + 1 if records else position
                    if size >= PIECE_BYTES or len(found) >= reading.records:
                        self.next_fetch_offset = position
                        yield Piece(found, size)
                        found, size = [], 0
                position = max(position, batch.next_offset)
            except Undecodable as error:
                self.next_fetch_offset = position
                if found:
                    yield Piece(found, size)
                    found, size = [], 0
                if error.reason == "corrupt" and self._is_tried_again(position):
                    return
                topic, partition = self._tp
                whole = unreadable(topic, partition, bytes(data), position, error.reason, following)
                if not reading.for_side_reader:
                    yield whole
                    return
                self.next_fetch_offset = position = next_offset(whole)
                yield whole
        self.next_fetch_offset = position
        if found:
            yield Piece(found, size)

    def _batches(self) -> Iterator[tuple[Any, memoryview, int | None]]:
        """Yields each batch, its bytes, and the base offset of the next batch if the fetch brought its beginning."""
        records, start = self._records, 0
        while records.has_next():
            end = start + LOG_OVERHEAD + _LENGTH.unpack_from(records.data, start + 8)[0]
            is_last = end + _BASE_OFFSET.size > len(records.data)
            following = None if is_last else _BASE_OFFSET.unpack_from(records.data, end)[0]
            yield records.next_batch(), memoryview(records.data)[start:end], following
            start = end

    def _check(self, batch: Any, data: memoryview) -> None:
        """Raises Undecodable for an old format or a wrong CRC."""
        reason: Reason | None = None
        if data[MAGIC_AT] != MAGIC:
            reason = "old_format"
        elif self._check_crcs and not batch.validate_crc():
            reason = "corrupt"
        if reason is not None:
            raise Undecodable(reason)

    def _is_passed_over(self, batch: Any, data: memoryview) -> bool:
        """Whether the batch is a marker or aborted. The log cleaner may keep a marker's batch without the marker."""
        if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
            self._consume_aborted_up_to(batch.base_offset)
            if batch.is_control_batch and record_count(data) and self._contains_abort_marker(batch):
                self._aborted_producers.discard(batch.producer_id)
            if batch.is_transactional and batch.producer_id in self._aborted_producers:
                return True
        return bool(batch.is_control_batch)

    def _is_tried_again(self, offset: int) -> bool:
        """Whether to fetch a corrupt batch again. Only for a side reader: the engine counts its own tries."""
        reading, place = self._reading, (self._tp, offset)
        if not reading.for_side_reader:
            return False
        reading.tries[place] += 1
        if reading.tries[place] < CORRUPT_TRIES:
            return True
        del reading.tries[place]
        return False

    def _shown(self, record: Any) -> Any:
        return self._consumer_record(self._tp, record)


_ordinary = fetcher.PartitionRecords


def _for_consumer(place: Any, records: Any, aborted: Any, offset: Any, key_deserializer: Any, *rest: Any) -> Any:
    if isinstance(key_deserializer, Reading):
        return BatchRecords(key_deserializer, place, records, aborted, offset, *rest)
    return _ordinary(place, records, aborted, offset, key_deserializer, *rest)


fetcher.MemoryRecords = _KeptRecords
fetcher.PartitionRecords = _for_consumer

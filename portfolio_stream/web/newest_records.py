"""Reads the newest committed outputs and dead letters for the live view, only while somebody looks.

1. A tail reads with read_committed and belongs to no group. It commits nothing.
2. A tail skips records that come faster than the page can show them. So a look costs a busy worker little: one fetch
   for each partition and round.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import msgspec
from aiokafka import TopicPartition

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.kafka.batch_consumer import Piece, Reading, batch_consumer
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.records.outputs import origin_of
from portfolio_stream.settings import Settings

R = TypeVar("R")

ROUND_SECONDS = 1.0  # a round fetches up to 64 KiB of each partition: it costs more than all else that a page shows
OUTPUTS_A_ROUND = 20  # nobody reads more in a second
LETTERS_KEPT = 25  # for all partitions together; the first look goes as far back in each partition
FETCH_BYTES = 64 << 10  # for each partition; Kafka still sends a larger batch whole
SHOWN_CHARACTERS = 200  # of a key or a header, which may be long
BATCH_BYTES = 8 << 20  # decompressed; our batches are below 1 MiB, and a larger batch is skipped
SHOWN_BYTES = 4096  # of an output; our outputs are a tenth of this


class OutputPosition(msgspec.Struct, frozen=True):
    symbol: str
    currency: str
    quantity: str


class OutputCash(msgspec.Struct, frozen=True):
    currency: str
    balance: str


class OutputSource(msgspec.Struct, frozen=True):
    partition: int
    offset: int


class OutputEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of a ProcessedEvent that the live view shows."""

    event_id: str
    type: str
    portfolio_id: str
    sequence: int
    occurred_at: str
    source: OutputSource
    position: OutputPosition | None = None
    cash: OutputCash | None = None


class ShownOutput(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    offset: int
    #: None if the record is no ProcessedEvent: another program wrote it
    event: OutputEvent | None


class Outputs(msgspec.Struct, frozen=True, kw_only=True):
    records: tuple[ShownOutput, ...]
    #: whether some records were left out
    sampled: bool


class ShownLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter without its value. A field is None if the headers do not have it."""

    partition: int
    offset: int
    #: of the source record, in milliseconds since 1970
    timestamp: int
    key: str | None
    code: str | None
    message: str | None
    source_topic: str | None
    source_partition: int | None
    source_offset: int | None


def shown_output(record: Any) -> ShownOutput:
    event = None
    if record.value is not None and len(record.value) <= SHOWN_BYTES:
        try:
            event = msgspec.json.decode(record.value, type=OutputEvent)
        except UNDECODABLE:  # another program wrote the record
            event = None
    return ShownOutput(partition=record.partition, offset=record.offset, event=event)


def shown_letter(record: Any) -> ShownLetter:
    origin = origin_of(record.headers)
    return ShownLetter(
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        key=None if record.key is None else _cut(record.key.decode(errors="replace")),
        code=None if origin is None else _cut(origin.code),
        message=None if origin is None else _cut(origin.message),
        source_topic=None if origin is None else _cut(origin.topic),
        source_partition=None if origin is None else origin.partition,
        source_offset=None if origin is None else origin.offset,
    )


def _cut(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def sample(records: Sequence[R], most: int) -> Sequence[R]:
    """Returns at most `most` records, evenly spread over all."""
    if len(records) <= most:
        return records
    return [records[index * len(records) // most] for index in range(most)]


class NewestRecords:
    """Reads the newest records of one topic, at most `most` in a partition and round."""

    def __init__(self, consumer: Any, places: Collection[TopicPartition], most: int) -> None:
        self._consumer = consumer
        self._places = places
        self._most = most

    async def start(self, back: int) -> None:
        """Begin `back` records (or markers) before the end of each partition."""
        starts = await self._consumer.beginning_offsets(self._places)
        ends = await self._consumer.end_offsets(self._places)
        for place in self._places:
            self._consumer.seek(place, max(starts[place], ends[place] - back))

    async def round(self) -> tuple[list[Any], bool]:
        """Returns the new records, and whether any record was skipped."""
        records: list[Any] = []
        is_skipped = False
        for place in self._places:
            for piece in (await self._consumer.getmany(place, timeout_ms=0, max_records=1)).get(place, ()):
                if isinstance(piece, Piece):
                    records += piece.records
                else:
                    is_skipped = True
            end = self._consumer.last_stable_offset(place)
            if end is not None and end - await self._consumer.position(place) > self._most:
                self._consumer.seek(place, end - self._most)
                is_skipped = True
        return records, is_skipped


@asynccontextmanager
async def open_tail(settings: Settings, partitions: int) -> AsyncIterator["Tail"]:
    """Yields a tail. Raises BrokerUnreachable and KafkaRefused, also while the body runs."""
    consumer = batch_consumer(
        Reading(LETTERS_KEPT, batch_bytes=BATCH_BYTES),
        **client_options(settings),
        isolation_level="read_committed",
        auto_offset_reset="latest",
        max_partition_fetch_bytes=FETCH_BYTES,
    )
    async with connected(settings, consumer):
        outputs, letters = (
            [TopicPartition(topic, partition) for partition in range(partitions)]
            for topic in (settings.output_topic, settings.dlq_topic)
        )
        consumer.assign([*outputs, *letters])
        tail = Tail(NewestRecords(consumer, outputs, OUTPUTS_A_ROUND), NewestRecords(consumer, letters, LETTERS_KEPT))
        await tail.start()
        yield tail


class Tail:
    def __init__(self, outputs: NewestRecords, letters: NewestRecords) -> None:
        self._outputs = outputs
        self._letters = letters
        self._newest: deque[ShownLetter] = deque(maxlen=LETTERS_KEPT)

    async def start(self) -> None:
        await self._outputs.start(back=OUTPUTS_A_ROUND)
        await self._letters.start(back=LETTERS_KEPT)

    async def events(self) -> AsyncIterator[tuple[str, object]]:
        """Yields new outputs, and after a new dead letter all kept ones, newest first. Both come once at the start."""
        is_first = True
        while True:
            outputs, is_skipped = await self._outputs.round()
            if outputs or is_first:
                shown = tuple(map(shown_output, sample(outputs, OUTPUTS_A_ROUND)))
                yield "outputs", Outputs(records=shown, sampled=is_skipped or len(shown) < len(outputs))
            letters, _ = await self._letters.round()
            if letters or is_first:
                self._newest.extend(map(shown_letter, sorted(letters, key=lambda record: record.timestamp)))
                yield "dead-letters", tuple(reversed(self._newest))
            is_first = False
            await asyncio.sleep(ROUND_SECONDS)

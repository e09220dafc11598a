"""Read the selected dead letters, up to the end that the dead-letter topic had before the reading began.

Dead letters that are written later are not read. Otherwise a replay of records that are still bad would read its own
results and never end.
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from portfolio_stream.audit.reader import TopicReader, open_reader
from portfolio_stream.errors import PartitionMissing
from portfolio_stream.kafka.admin import admin_client, partition_count
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.records.outputs import DeadLetterOrigin, origin_of
from portfolio_stream.settings import Settings


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Which dead letters to read. Offsets are those of the dead-letter topic."""

    #: empty: every code
    codes: frozenset[str] = frozenset()
    #: None: every partition
    partition: int | None = None
    #: the first offset, in each partition
    from_offset: int = 0
    #: the offset behind the last one, in each partition; None: the partition's end
    until: int | None = None


class Letter(NamedTuple):
    partition: int
    offset: int
    #: the source record's timestamp, milliseconds since 1970
    timestamp: int
    key: bytes | None
    value: bytes | None
    #: None: the record lacks the headers of a dead letter
    origin: DeadLetterOrigin | None


Bounds = Mapping[int, tuple[int, int]]


class Letters:
    """The selected dead letters. Each reading gives the same ones."""

    def __init__(self, reader: TopicReader, topic: str, codes: frozenset[str], bounds: Bounds) -> None:
        self._reader = reader
        self._topic = topic
        self._codes = codes
        self.bounds = bounds
        #: a sentence for each unreadable batch of the last reading
        self.passed_over: list[str] = []

    async def read(self) -> AsyncGenerator[Letter, None]:
        """Yields the dead letters, one partition after the other, in the order of their offsets."""
        self.passed_over.clear()
        for partition, (start, end) in self.bounds.items():
            async for records in self._reader.read(self._topic, partition, start, end):
                for record in records:
                    if isinstance(record, UnreadableBatch):
                        self.passed_over.append(f"Passed over: {record}.")
                        continue
                    letter = _letter(record)
                    if not self._codes or (letter.origin is not None and letter.origin.code in self._codes):
                        yield letter


@asynccontextmanager
async def open_letters(settings: Settings, selection: Selection, known: Bounds | None = None) -> AsyncIterator[Letters]:
    """Open the selection. `known` are the bounds of an earlier reading, to read the same dead letters again.

    Raises TopicMissing, PartitionMissing.
    """
    topic = settings.dlq_topic
    async with admin_client(settings) as admin:
        partitions = await partition_count(admin, topic)
    if selection.partition is not None and selection.partition >= partitions:
        raise PartitionMissing(topic, selection.partition, partitions)
    async with open_reader(settings, (topic,), partitions) as reader:
        if known is None:
            starts, ends = await reader.log_starts(topic, partitions), await reader.ends(topic, partitions)
            known = _bounds(selection, starts, ends)
        yield Letters(reader, topic, selection.codes, known)


def _bounds(selection: Selection, starts: Mapping[int, int], ends: Mapping[int, int]) -> Bounds:
    """Returns (first offset, offset behind the last) of each partition that may hold selected dead letters."""
    bounds = {}
    for partition in sorted(starts) if selection.partition is None else (selection.partition,):
        start, end = max(selection.from_offset, starts[partition]), ends[partition]
        if selection.until is not None:
            end = min(end, selection.until)
        if start < end:
            bounds[partition] = (start, end)
    return bounds


def _letter(record: Any) -> Letter:
    origin = origin_of(record.headers)
    return Letter(record.partition, record.offset, record.timestamp, record.key, record.value, origin)

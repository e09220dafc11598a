"""Check a history while it grows, with stock clients only, for runs that are too long to be read as a whole.

Each record that the producer gets must appear in the source topic, and then its answer in the outputs or dead letters:
in order, each once. Answered records are forgotten, so memory holds only the records that have no answer yet.
"""

import asyncio
import json
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from portfolio_stream.load.events import Generated
from portfolio_stream.settings import Settings
from tests.integration.histories import Expected, partition_of, read_dead_letter, read_output

LISTED = 20  # anomalies of each partition that are listed
POLL_MS = 50

EffectFields = tuple[Any, ...]


class PartitionHistory:
    def __init__(self, partition: int) -> None:
        self.partition = partition
        #: number of records given to the producer; the source's next offset if no record is lost
        self.sent = 0
        #: all source records below this offset were compared with the sent records
        self.read = 0
        #: the source offset of the newest output
        self.newest = -1
        #: the first LISTED anomalies
        self.anomalies: list[str] = []
        self.is_source_as_sent = True
        self._unread: deque[Generated] = deque()
        self._expected = Expected()
        self._outputs: deque[EffectFields] = deque()
        self._dead_letters: deque[EffectFields] = deque()

    def add_sent(self, made: Generated) -> None:
        self.sent += 1
        self._unread.append(made)

    def add_source(self, record: Any) -> None:
        """Compare a source record with the sent one. After the first difference, no answer can be known any more."""
        if not self.is_source_as_sent:
            return
        made = self._unread.popleft() if self._unread else None
        if made is None or (self.read, made.key, made.value) != (record.offset, record.key, record.value):
            self.is_source_as_sent = False
            wanted = "nothing" if made is None else name_of(made.value)
            self._name(f"the source holds {name_of(record.value)} at offset {record.offset} where {wanted} was sent")
            return
        self.read += 1
        self._expected.add(record, made)
        self._match()

    def add_output(self, record: Any) -> None:
        output = read_output(record)
        self.newest = output[0]
        self._outputs.append(output)
        self._match()

    def add_dead_letter(self, record: Any) -> None:
        self._dead_letters.append(read_dead_letter(record))
        self._match()

    def is_answered(self, end: int) -> bool:
        """Whether all source records below the offset have their answers, or have lost them."""
        if not self.is_source_as_sent:
            return True
        awaited = (self._expected.outputs, self._expected.dead_letters)
        return self.read >= end and all(not answers or answers[0][0] >= end for answers in awaited)

    def _match(self) -> None:
        if self.is_source_as_sent:
            self._compare("output", self._expected.outputs, self._outputs)
            self._compare("dead letter", self._expected.dead_letters, self._dead_letters)

    def _compare(self, noun: str, expected: deque[EffectFields], found: deque[EffectFields]) -> None:
        while found and found[0][0] < self.read:
            if expected and expected[0] == found[0]:
                expected.popleft()
                found.popleft()
            elif expected and expected[0][0] < found[0][0]:
                self._name(f"missing {noun}: {expected.popleft()[:2]}")
            else:
                self._name(f"unexpected, duplicate or misplaced {noun}: {found.popleft()[:2]}")

    def _name(self, anomaly: str) -> None:
        if len(self.anomalies) < LISTED:
            self.anomalies.append(f"partition {self.partition}: {anomaly}")


def name_of(value: bytes | None) -> str:
    """Returns the event's id, or else the beginning of the value."""
    with suppress(ValueError, TypeError, KeyError):
        return str(json.loads(value or b"")["event_id"])
    return repr(value and value[:40])


class GrowingHistory:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.partitions = [PartitionHistory(partition) for partition in range(settings.partitions)]
        #: while set, `tap` gives no more records
        self.is_resting = False

    def tap(self, records: Iterator[Generated]) -> Iterator[Generated]:
        """Yield records until the history rests, and note each one as sent. A later `tap` yields the remaining ones."""
        while not self.is_resting:
            made = next(records)
            self.partitions[partition_of(made, len(self.partitions))].add_sent(made)
            yield made

    @property
    def anomalies(self) -> list[str]:
        return [anomaly for one in self.partitions for anomaly in one.anomalies]

    def sent(self) -> Mapping[int, int]:
        """Returns the number of records sent to each partition."""
        return {one.partition: one.sent for one in self.partitions}

    def has_outputs_behind(self, sent: Mapping[int, int]) -> bool:
        """Whether every partition has an output of a record that was sent after these."""
        return all(one.newest >= sent[one.partition] for one in self.partitions)

    def is_answered(self, sent: Mapping[int, int]) -> bool:
        return all(one.is_answered(sent[one.partition]) for one in self.partitions)

    async def read(self) -> None:
        """Follow source, outputs and dead letters from their beginnings, until cancelled."""
        settings = self._settings
        adders = {
            settings.input_topic: PartitionHistory.add_source,
            settings.output_topic: PartitionHistory.add_output,
            settings.dlq_topic: PartitionHistory.add_dead_letter,
        }
        consumer = AIOKafkaConsumer(
            bootstrap_servers=settings.bootstrap_servers,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",  # a reader that may choose another offset would make duplicates and gaps
            max_partition_fetch_bytes=4 << 20,
        )
        async with consumer:
            places = [TopicPartition(topic, one.partition) for topic in adders for one in self.partitions]
            consumer.assign(places)
            for place in places:
                consumer.seek(place, 0)
            while True:
                for place, records in (await consumer.getmany(timeout_ms=POLL_MS)).items():
                    for record in records:
                        adders[place.topic](self.partitions[place.partition], record)
                await asyncio.sleep(0)

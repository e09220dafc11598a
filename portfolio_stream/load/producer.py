"""Send generated records fast, in order and each once, by giving whole batches to an idempotent producer.

- Each partition has one open batch. To append a record costs 1 us; a future and a task for each record would cost 15.
- On a retry, an idempotent producer keeps the order and writes no record twice. There is one exception: records with
  timestamps older than the broker's producer.id.expiration.ms (a day). A broker that restarts takes the last record's
  timestamp for the producer's last activity (ProducerStateManager.isProducerExpired). So it forgets the producer, and
  writes a retried batch again. The engine is safe from this: an open transaction keeps its producer.
- `produce` sends at an even rate, in small steps. Each step sends the records that are due by then.
"""

import asyncio
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, KafkaTimeoutError

from portfolio_stream.kafka.client import client_options
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.kafka.rebootstrap import recovering
from portfolio_stream.load.events import Generated
from portfolio_stream.settings import Settings

BATCH_BYTES = 256 * 1024  # far below max.message.bytes; larger batches were not faster
ANSWER_SECONDS = 120.0  # for a batch; the default of Kafka's delivery.timeout.ms
STEP_SECONDS = 0.01  # between two steps at a limited rate
STEP_RECORDS = 2_000  # at an unlimited rate, other tasks get a turn after this many records


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """Returns an idempotent producer. `options` are further options of aiokafka's producer."""
    return recovering(
        AIOKafkaProducer(
            **client_options(settings), enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=5, **options
        )
    )


class BatchedTopic:
    """The open batches of one topic. `flush` sends them. A later call raises the error of an earlier send.

    A caller that gives up after an error must stop the producer and then call `abandon`.
    """

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._open: dict[int, Any] = {}
        #: the future of each batch that was sent, and the number of its records
        self._sent: deque[tuple[asyncio.Future[Any], int]] = deque()
        #: number of records that Kafka has acknowledged
        self.acknowledged = 0
        self._turn = 0

    async def append(self, record: Generated) -> None:
        partition = self._partition(record)
        batch = self._open.get(partition)
        if batch is not None and self._fits(batch, record):
            return
        if batch is not None:
            await self._send(partition, self._open.pop(partition))
        batch = self._open[partition] = self._producer.create_batch()
        self._fits(batch, record)  # appends the record: a batch takes its first record at any size

    async def flush(self) -> None:
        """Give every open batch to the producer. Returns before Kafka acknowledges them."""
        while self._open:
            partition, batch = self._open.popitem()
            await self._send(partition, batch)

    async def settle(self) -> None:
        """Returns when Kafka has acknowledged every appended record. Raises KafkaConnectionError if no answer comes."""
        await self.flush()
        while self._sent:
            await asyncio.wait((self._sent[0][0],), timeout=ANSWER_SECONDS)
            if not self._sent[0][0].done():
                raise KafkaConnectionError("no broker answered a batch")
            self._take()

    def abandon(self) -> None:
        """Count the batches that Kafka did acknowledge. Look at all other errors, so that asyncio prints none."""
        for future, records in self._sent:
            if future.done() and _error_of(future) is None:
                self.acknowledged += records
            future.add_done_callback(_error_of)
        self._sent.clear()

    def _partition(self, record: Generated) -> int:
        if record.partition is not None:
            return record.partition
        if record.key is not None:
            return partition_of(record.key, self._partitions)
        self._turn += 1  # records without a key go to the partitions in turn, so every run gives the same topic
        return self._turn % self._partitions

    @staticmethod
    def _fits(batch: Any, record: Generated) -> bool:
        return batch.append(timestamp=record.timestamp, key=record.key, value=record.value) is not None

    async def _send(self, partition: int, batch: Any) -> None:
        records = batch.record_count()
        try:
            future = await self._producer.send_batch(batch, self._topic, partition=partition)
        except KafkaTimeoutError as error:  # the partition's earlier batch has no answer yet
            raise KafkaConnectionError("no broker answered a batch") from error
        self._sent.append((future, records))
        while self._sent and self._sent[0][0].done():
            self._take()

    def _take(self) -> None:
        future, records = self._sent.popleft()
        future.result()
        self.acknowledged += records


def _error_of(future: "asyncio.Future[Any]") -> BaseException | None:
    return asyncio.CancelledError() if future.cancelled() else future.exception()


async def produce(topic: BatchedTopic, records: Iterable[Generated], rate: float) -> AsyncIterator[int]:
    """Send all records at `rate` a second (0: as fast as possible). Yields the number sent so far after each step.

    The last yield comes when Kafka has acknowledged all records.
    """
    source = iter(records)
    sent = 0
    async for step in _steps(rate) if rate else _unlimited():
        batch = list(islice(source, step))
        for record in batch:
            await topic.append(record)
        sent += len(batch)
        if len(batch) < step:
            break
        if rate:
            await topic.flush()
        yield sent
    await topic.settle()
    yield sent


async def _unlimited() -> AsyncIterator[int]:
    while True:
        yield STEP_RECORDS
        await asyncio.sleep(0)  # appending never waits, so other tasks would not get a turn


async def _steps(rate: float) -> AsyncIterator[int]:
    """Yields the number of records that are due, whenever at least one is."""
    start, released = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - start) * rate) - released
        if due > 0:
            released += due
            yield due
        await asyncio.sleep(max(STEP_SECONDS, min(1 / rate, 1.0)) if due <= 0 else STEP_SECONDS)

"""Send generated records fast, in order and each once: an idempotent producer that is given whole batches.

Records go into one open batch a partition, so that a record costs an append (1 us) and not a future and a task (15 us).
An idempotent producer keeps the order on a retry and writes nothing twice, unless its records are older than the
broker's producer.id.expiration.ms (a day): a broker that restarts takes a producer's last record for its last sign of
life (ProducerStateManager.isProducerExpired), and writes a retried batch again. A transaction that is open keeps its
producer, so the engine's old timestamps are no such danger. `produce` spreads the sending evenly: in small
steps, each as many records as are due by then.
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

BATCH_BYTES = 256 * 1024  # far below max.message.bytes; larger ones gained nothing
ANSWER_SECONDS = 120.0  # for a batch; Kafka's own delivery.timeout.ms
STEP_SECONDS = 0.01  # of the pace: no burst is longer than this
STEP_RECORDS = 2_000  # at an unlimited rate: how often others get a turn


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """`options` are more of aiokafka's own."""
    return recovering(
        AIOKafkaProducer(
            **client_options(settings), enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=5, **options
        )
    )


class BatchedTopic:
    """One topic's open batches. `flush` sends them; an error of an earlier send is raised by a later call.

    Whoever gives up after an error calls `abandon`, once the producer is stopped.
    """

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._open: dict[int, Any] = {}
        #: and how many records are in it
        self._sent: deque[tuple[asyncio.Future[Any], int]] = deque()
        #: records that Kafka has
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
        self._fits(batch, record)  # a batch takes its first record whatever its size

    async def flush(self) -> None:
        """Hand every open batch over; returns before they are acknowledged."""
        while self._open:
            partition, batch = self._open.popitem()
            await self._send(partition, batch)

    async def settle(self) -> None:
        """Return when Kafka has acknowledged all that was appended. Raises KafkaConnectionError if no answer comes."""
        await self.flush()
        while self._sent:
            await asyncio.wait((self._sent[0][0],), timeout=ANSWER_SECONDS)
            if not self._sent[0][0].done():
                raise KafkaConnectionError("no broker answered a batch")
            self._take()

    def abandon(self) -> None:
        """Count what was acknowledged all the same, and look at the error of everything else, whenever it comes."""
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
        self._turn += 1  # no key: in turn, so that bytes and places are the same in every run
        return self._turn % self._partitions

    @staticmethod
    def _fits(batch: Any, record: Generated) -> bool:
        return batch.append(timestamp=record.timestamp, key=record.key, value=record.value) is not None

    async def _send(self, partition: int, batch: Any) -> None:
        records = batch.record_count()
        try:
            future = await self._producer.send_batch(batch, self._topic, partition=partition)
        except KafkaTimeoutError as error:  # the batch before it is still without an answer
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
    """Send all records at `rate` a second (0: as fast as possible); yields after each step how many were sent so far.

    The last yield comes after all were acknowledged.
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
        await asyncio.sleep(0)  # appending alone never waits


async def _steps(rate: float) -> AsyncIterator[int]:
    """How many records are due, each time some are."""
    start, released = time.monotonic(), 0
    while True:
        due = int((time.monotonic() - start) * rate) - released
        if due > 0:
            released += due
            yield due
        await asyncio.sleep(max(STEP_SECONDS, min(1 / rate, 1.0)) if due <= 0 else STEP_SECONDS)

"""Send generated records fast, in order and each once: an idempotent producer that is given whole batches.

Records go into one open batch a partition, so that a record costs an append (1 us) and not a future and a task (15 us).
An idempotent producer keeps the order on a retry and writes nothing twice, unless its records are older than the
broker's producer.id.expiration.ms (a day): a broker that restarts takes a producer's last record for its last sign of
life (ProducerStateManager.isProducerExpired), and writes a retried batch again. A transaction that is open keeps its
producer, so the engine's old timestamps are no such danger. `produce` spreads the sending evenly: in small
steps, each as many records as are due by then.
"""

import asyncio
import json
import time
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from aiokafka import AIOKafkaProducer

from portfolio_stream.generator import Generated
from portfolio_stream.kafka_client import client_options
from portfolio_stream.partitioning import partition_of
from portfolio_stream.settings import Settings

BATCH_BYTES = 256 * 1024  # far below max.message.bytes; larger ones gained nothing
STEP_SECONDS = 0.01  # of the pace: no burst is longer than this
STEP_RECORDS = 2_000  # at an unlimited rate: how often others get a turn


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """`options` are more of aiokafka's own."""
    return AIOKafkaProducer(
        **client_options(settings), enable_idempotence=True, max_batch_size=BATCH_BYTES, linger_ms=5, **options
    )


class BatchedTopic:
    """One topic's open batches. `flush` sends them; an error of an earlier send is raised by a later call."""

    def __init__(self, producer: Any, topic: str, partitions: int) -> None:
        self._producer = producer
        self._topic = topic
        self._partitions = partitions
        self._open: dict[int, Any] = {}
        self._sent: deque[asyncio.Future[Any]] = deque()
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
        """Return when all that was appended is acknowledged by Kafka."""
        await self.flush()
        while self._sent:
            await self._sent.popleft()

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
        self._sent.append(await self._producer.send_batch(batch, self._topic, partition=partition))
        while self._sent and self._sent[0].done():
            self._sent.popleft().result()


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


def read_events(lines: Iterable[bytes], timestamp: int) -> Iterator[Generated]:
    """One record a line, its bytes unchanged but for the line's end; empty lines are passed over.

    The key is the event's portfolio_id, or none where that cannot be read.
    """
    for line in lines:
        value = line.removesuffix(b"\n")
        if value.strip():
            yield Generated(_portfolio_id(value), value, timestamp)


def _portfolio_id(value: bytes) -> bytes | None:
    try:
        members = json.loads(value)
        portfolio_id = members.get("portfolio_id") if isinstance(members, dict) else None
        return portfolio_id.encode() if isinstance(portfolio_id, str) else None
    except (ValueError, RecursionError):
        return None

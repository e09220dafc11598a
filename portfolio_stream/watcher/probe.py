"""The probe: once a second it produces a record to each partition of its topic with acks=all, and reads it back.

1. `round_trips` says what each round trip counts as. This module only sends, reads, and tells what came.
2. While no broker answers, round trips begin and fail. While Kafka refuses the topic, none begin: that says nothing
   about Kafka's availability.
3. Each request ends within the bounds of the client, and a partition has at most MOST_TASKS of them: an outage of hours
   takes no memory.
"""

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.record.default_records import DefaultRecordBatchBuilder
from aiokafka.record.memory_records import MemoryRecords
from aiokafka.structs import TopicPartition
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import BrokerUnreachable, PortfolioStreamError, cause_of
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Lane, Node, call, schema
from portfolio_stream.settings import Settings
from portfolio_stream.watch.thresholds import ROUND_TRIP_SECONDS
from portfolio_stream.watcher import probe_topic
from portfolio_stream.watcher.kafka_look import NOT_ANSWERED
from portfolio_stream.watcher.link import KafkaLink
from portfolio_stream.watcher.round_trips import RoundTrips

outage_log = sparing(__name__)

_produce = schema("produce", 12)
_fetch = schema("fetch", 12)

PERIOD_SECONDS = 1.0
SETTLE_SECONDS = 0.1
PREPARE_SECONDS = 10.0  # between two looks at the topic, if it is missing or has too few partitions
MOST_TASKS = 3  # of one partition at once; without an outage one ends within milliseconds
RETRY_SECONDS = 0.1
FETCH_WAIT = timedelta(seconds=0.1)  # an acknowledged record can be read at once
FETCH_BYTES = 256 << 10  # a record of ours has 100
ALL_REPLICAS = -1


class Probe:
    def __init__(self, settings: Settings, brokers: Callable[[], int]) -> None:
        """`brokers` says how many brokers are registered."""
        self._settings = settings
        self._topic = settings.probe_topic
        self._brokers = brokers
        self._link = KafkaLink(settings)
        self.trips = RoundTrips()
        #: tells our records from those of another watcher
        self._token = secrets.token_hex(8).encode()
        self._partitions = 0
        #: while the topic was looked for, no broker answered
        self._is_outage = False
        self._prepared = float("-inf")
        self._preparing: asyncio.Task[None] | None = None
        #: running round trips, by partition
        self._running: Counter[int] = Counter()
        #: the next offset to read, by partition
        self._positions: dict[int, int] = {}

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._settle())
                while True:
                    began = time.monotonic()
                    self._begin(tasks)
                    await asyncio.sleep(max(0.0, began + PERIOD_SECONDS - time.monotonic()))
        finally:
            await self._link.stop()

    async def _settle(self) -> None:
        while True:
            self.trips.settle(time.monotonic())
            await asyncio.sleep(SETTLE_SECONDS)

    def _begin(self, tasks: asyncio.TaskGroup) -> None:
        """Begin a round trip of each partition; in an outage also while nobody knows how many there are."""
        if self._wants_partitions() and (self._preparing is None or self._preparing.done()):
            self._preparing = tasks.create_task(self._prepare())
        for partition in range(self._partitions or int(self._is_outage)):
            number = self.trips.begin(time.monotonic())
            if self._partitions and self._running[partition] < MOST_TASKS:
                self._running[partition] += 1
                tasks.create_task(self._trip(partition, number))

    def _wants_partitions(self) -> bool:
        is_due = time.monotonic() - self._prepared > PREPARE_SECONDS
        return is_due and self._partitions < max(1, self._brokers())

    # -- the topic

    async def _prepare(self) -> None:
        try:
            self._partitions = await probe_topic.prepare(self._settings)
        except (kafka_errors.KafkaError, OSError, PortfolioStreamError) as error:
            self._is_outage = isinstance(error, (BrokerUnreachable, *LOST)) or isinstance(error.__cause__, LOST)
            if not self._is_outage:
                self._prepared = time.monotonic()
            level = logging.INFO if self._is_outage else logging.WARNING
            outage_log.log(level, "probe has no topic topic=%s error=%s", self._topic, cause_of(error))
        else:
            self._is_outage = False
            self._prepared = time.monotonic()

    # -- a round trip

    async def _trip(self, partition: int, number: int) -> None:
        """Send the record, and read to it. Also read if it cannot be sent: an earlier record may wait."""
        until = time.monotonic() + ROUND_TRIP_SECONDS
        offset: int | None = None
        while time.monotonic() < until:
            try:
                client, leader = await self._leader(partition)
                if offset is None:
                    offset = await self._send(client, leader, partition, number)
                    self.trips.acknowledge(number, time.monotonic())
                self._find_position(partition, offset)
                await self._read(client, leader, partition, offset)
                break
            except NOT_ANSWERED as error:
                outage_log.info("round trip failed partition=%d error=%s", partition, type(error).__name__)
            await asyncio.sleep(RETRY_SECONDS)
        if offset is None and self.trips.waits() and partition in self._positions:
            with suppress(*NOT_ANSWERED):
                await self._fetch(*await self._leader(partition), partition)
        self._running[partition] -= 1

    async def _leader(self, partition: int) -> tuple[AIOKafkaClient, Node]:
        client = await self._link.client()
        leader = client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
        if leader is None or leader < 0:
            await _newer_metadata(client)
            raise kafka_errors.LeaderNotAvailableError(f"{self._topic}-{partition}")
        return client, Node(leader)

    def _find_position(self, partition: int, offset: int) -> None:
        """Begin to read with our first record, and again if the topic was made again or has lost its end."""
        self._positions[partition] = min(offset, self._positions.get(partition, offset))

    async def _send(self, client: AIOKafkaClient, leader: Node, partition: int, number: int) -> int:
        """Returns the record's offset."""
        data = _batch(self._token + b"/%d" % number)
        request = _produce.ProduceRequest(
            transactional_id=None,
            acks=ALL_REPLICAS,
            timeout=timedelta(seconds=ROUND_TRIP_SECONDS),
            topic_data=(
                _produce.TopicProduceData(
                    name=self._topic, partition_data=(_produce.PartitionProduceData(index=partition, records=data),)
                ),
            ),
        )
        reply = (await call(client, leader, Lane.PRODUCE, request)).responses[0].partition_responses[0]
        await self._check(client, reply.error_code, partition)
        return int(reply.base_offset)

    async def _read(self, client: AIOKafkaClient, leader: Node, partition: int, offset: int) -> None:
        """Read from our position to the record at `offset`."""
        until = time.monotonic() + ROUND_TRIP_SECONDS
        while self._positions.get(partition, offset + 1) <= offset and time.monotonic() < until:
            await self._fetch(client, leader, partition)

    async def _fetch(self, client: AIOKafkaClient, leader: Node, partition: int) -> None:
        position = self._positions[partition]
        asked = _fetch.FetchPartition(partition=partition, fetch_offset=position, partition_max_bytes=FETCH_BYTES)
        request = _fetch.FetchRequest(
            max_wait=FETCH_WAIT,
            min_bytes=1,
            max_bytes=FETCH_BYTES,
            topics=(_fetch.FetchTopic(topic=self._topic, partitions=(asked,)),),
            forgotten_topics_data=(),
        )
        reply = (await call(client, leader, Lane.OFFSETS, request)).responses[0].partitions[0]
        if reply.error_code is E.offset_out_of_range:
            self._positions.pop(partition, None)
        await self._check(client, reply.error_code, partition)
        now = time.monotonic()
        for key, following in _records(reply.records or b""):
            self._positions[partition] = max(self._positions.get(partition, following), following)
            token, _, number = key.partition(b"/")
            if token == self._token and number.isdigit():
                self.trips.read(int(number), now)

    async def _check(self, client: AIOKafkaClient, code: E, partition: int) -> None:
        """Raises a KafkaError for any other code than none."""
        if code is E.none:
            return
        if code is E.unknown_topic_or_partition:  # it was deleted, or the leader has moved
            self._prepared, self._partitions = float("-inf"), 0
        await _newer_metadata(client)
        raise kafka_errors.for_code(code.value)(f"{self._topic}-{partition}")


async def _newer_metadata(client: AIOKafkaClient) -> None:
    async with asyncio.timeout(ROUND_TRIP_SECONDS):
        await client.force_metadata_update()


def _batch(key: bytes) -> bytes:
    builder = DefaultRecordBatchBuilder(2, 0, 0, -1, -1, -1, 1 << 10)
    builder.append(0, int(time.time() * 1000), key, b"round trip", [])
    return bytes(builder.build())


def _records(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yields each record's key, and the offset that follows it. A batch with a wrong CRC is passed over."""
    records = MemoryRecords(bytes(data))
    while records.has_next():
        batch = records.next_batch()
        if batch.validate_crc():
            for record in batch:
                yield record.key or b"", record.offset + 1
        yield b"", batch.next_offset

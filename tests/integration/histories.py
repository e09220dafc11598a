"""Sends load, and reads a whole history with stock clients for the judge."""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from portfolio_stream.load.events import Generated, Mixture, generate
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings
from tests.integration.workers import group_offsets, until
from tests.judge.contract import partition_of
from tests.judge.generations import changelog_of
from tests.judge.histories import PartitionHistory


@dataclass
class Load:
    """A producer that runs beside the test at a steady rate, and the records that it sent, in order."""

    settings: Settings
    records: Iterable[Generated]
    rate: float
    sent: int = 0
    task: "asyncio.Task[None] | None" = None

    @classmethod
    def of(cls, settings: Settings, events: int, rate: float, **mixture: Any) -> "Load":
        now = int(time.time() * 1000)  # a broker that restarts forgets a producer whose records are a day old
        options = {"seed": 7, "start_time": now, "portfolios": 400, "partitions": settings.partitions}
        return cls(settings, list(generate(Mixture(**options | mixture), events)), rate)

    def start(self) -> None:
        self.task = asyncio.create_task(self.run())

    async def run(self) -> None:
        async with make_producer(self.settings) as producer:
            topic = BatchedTopic(producer, self.settings.input_topic, self.settings.partitions)
            async for sent in produce(topic, self.records, self.rate):
                self.sent = sent

    async def reached(self, sent: int) -> None:
        """Return when this many records were sent."""
        await until(lambda: self.is_well() and self.sent >= sent, 60, f"{sent} records sent")

    async def done(self) -> None:
        assert self.task is not None
        await self.task

    def is_well(self) -> bool:
        """Returns True while the producer runs or has sent everything. Raises the error that ended the producer."""
        if self.task is not None and self.task.done():
            self.task.result()
        return True

    def by_partition(self) -> dict[int, list[Generated]]:
        found: dict[int, list[Generated]] = {partition: [] for partition in range(self.settings.partitions)}
        for record in self.records:
            found[partition_of_record(record, self.settings.partitions)].append(record)
        return found


def partition_of_record(record: Generated, partitions: int) -> int:
    if record.partition is not None:
        return record.partition
    assert record.key is not None
    return partition_of(record.key, partitions)


async def changelog_topic(settings: Settings) -> str:
    """The changelog of the job's generation."""
    records = await read(settings, settings.control_topic, 1)
    return changelog_of(records[0], settings.changelog_topic)


async def read(settings: Settings, topic: str, partitions: int | None = None) -> dict[int, list[Any]]:
    """Returns all committed records of a topic, by partition, in order."""
    places = [TopicPartition(topic, partition) for partition in range(partitions or settings.partitions)]
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.bootstrap_servers,
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=4 << 20,
    )
    found: dict[int, list[Any]] = defaultdict(list)
    async with consumer:
        consumer.assign(places)
        ends = await consumer.end_offsets(places)
        for place in places:
            while await consumer.position(place) < ends[place]:
                for at, records in (await consumer.getmany(timeout_ms=100)).items():
                    found[at.partition] += records
    return found


async def wait_for_no_lag(settings: Settings, seconds: float) -> float:
    """Wait until the group has committed every source record. Returns the seconds that took."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    async with consumer:
        places = [TopicPartition(settings.input_topic, partition) for partition in range(settings.partitions)]
        ends = {(at.topic, at.partition): end for at, end in (await consumer.end_offsets(places)).items() if end}

        async def is_done() -> bool:
            return await group_offsets(admin) == ends

        try:
            return await until(is_done, seconds, f"the group commits {ends}")
        finally:
            await admin.close()


async def check(settings: Settings, load: Load) -> dict[str, int]:
    """Assert that exactly-once holds for everything that was sent. Returns the number of records of each topic."""
    source, outputs, dead_letters, changelog = [
        await read(settings, topic)
        for topic in (settings.input_topic, settings.output_topic, settings.dlq_topic, await changelog_topic(settings))
    ]
    found: list[str] = []
    counted: Counter[str] = Counter()
    read_to: dict[int, int] = {}
    for partition, generated in load.by_partition().items():
        history = PartitionHistory(partition, settings.partitions, settings.deduplication_window)
        history.skip(changelog[partition])
        for made in generated:
            history.add_sent(made.key, made.value)
        for add, records in (
            (history.add_source, source), (history.add_output, outputs), (history.add_dead_letter, dead_letters)
        ):  # fmt: skip
            for record in records[partition]:
                add(record)
        history.end()
        history.check_changelog(changelog[partition])
        found += history.anomalies
        if history.read:
            read_to[partition] = history.read
        counted.update(
            source=len(generated),
            outputs=len(outputs[partition]),
            dead_letters=len(dead_letters[partition]),
            changelog=len(changelog[partition]),
        )
    assert [] == found[:20], f"{len(found)} anomalies"
    assert read_to == await _committed(settings)
    return dict(counted)


async def _committed(settings: Settings) -> dict[int, int]:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.bootstrap_servers)
    await admin.start()
    try:
        offsets = await group_offsets(admin)
    finally:
        await admin.close()
    assert {settings.input_topic} == {topic for topic, _ in offsets}
    return {partition: offset for (_, partition), offset in offsets.items()}

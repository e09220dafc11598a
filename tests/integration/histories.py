"""Read a whole history with stock clients and find what breaks exactly-once in it. Shares no code with the engine.

The expected outputs follow from the generator, which says for each record whether it must be accepted, and from the
records' offsets in the source topic.
"""

import asyncio
import json
import time
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.partitioner import murmur2

from portfolio_stream.load.events import Generated, Mixture, generate
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings
from tests.integration.workers import group_offsets, until

META_KEY = b"\x00META"


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
            found[partition_of(record, self.settings.partitions)].append(record)
        return found


def partition_of(record: Generated, partitions: int) -> int:
    if record.partition is not None:
        return record.partition
    assert record.key is not None
    return (murmur2(record.key) & 0x7FFFFFFF) % partitions


@dataclass
class Expected:
    """The outputs and dead letters that one partition must have, in source order."""

    #: (source offset, event id, portfolio, sequence)
    outputs: deque[tuple[int, str, bytes, int]] = field(default_factory=deque)
    #: (source offset, code, value)
    dead_letters: deque[tuple[int, str, bytes | None]] = field(default_factory=deque)
    #: the sequence of each portfolio's last accepted event
    sequences: Counter[bytes] = field(default_factory=Counter)

    def add(self, record: Any, made: Generated) -> None:
        """Add the answer to the next source record, which was generated as `made`."""
        if made.expected_code is not None:
            self.dead_letters.append((record.offset, made.expected_code, record.value))
        elif not made.is_duplicate:
            self.sequences[record.key] += 1
            event_id = json.loads(record.value)["event_id"]
            self.outputs.append((record.offset, event_id, record.key, self.sequences[record.key]))


def expect(source: Sequence[Any], generated: Sequence[Generated]) -> Expected:
    """Returns the answers to these source records. Fails if the records are not those that were generated."""
    assert [(record.key, record.value) for record in generated] == [(record.key, record.value) for record in source]
    expected = Expected()
    for record, made in zip(source, generated, strict=True):
        expected.add(record, made)
    return expected


def read_output(record: Any) -> tuple[int, str, bytes, int]:
    value = json.loads(record.value)
    assert (record.partition, record.key.decode()) == (value["source"]["partition"], value["portfolio_id"])
    return value["source"]["offset"], value["event_id"], record.key, value["sequence"]


def read_dead_letter(record: Any) -> tuple[int, str, bytes | None]:
    headers = dict(record.headers)
    assert record.partition == int(headers["__streams.errors.partition"])
    code = headers["__streams.errors.exception"].decode()
    return int(headers["__streams.errors.offset"]), code, record.value


def anomalies(noun: str, expected: Iterable[tuple[Any, ...]], found: Iterable[tuple[Any, ...]]) -> list[str]:
    """Returns the answers that are missing, duplicate, unexpected or out of order. `expected` is in source order."""
    expected, found = list(expected), list(found)
    wanted, present = Counter(expected), Counter(found)
    kinds = {
        "missing": wanted - present,
        "unexpected or duplicate": present - wanted,
    }
    named = [f"{kind} {noun}: {item}" for kind, items in kinds.items() for item in items.elements()]
    if not named and expected != found:
        named = [f"{noun} out of order: {a} where {b} belongs" for a, b in zip(found, expected, strict=True) if a != b]
    return named


async def read(settings: Settings, topic: str) -> dict[int, list[Any]]:
    """Returns all committed records of a topic, by partition, in order."""
    places = [TopicPartition(topic, partition) for partition in range(settings.partitions)]
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
        for topic in (settings.input_topic, settings.output_topic, settings.dlq_topic, settings.changelog_topic)
    ]
    found: list[str] = []
    counted: Counter[str] = Counter()
    for partition, generated in load.by_partition().items():
        expected = expect(source[partition], generated)
        found += anomalies("output", expected.outputs, map(read_output, outputs[partition]))
        found += anomalies("dead letter", expected.dead_letters, map(read_dead_letter, dead_letters[partition]))
        counted.update(
            source=len(generated),
            outputs=len(outputs[partition]),
            dead_letters=len(dead_letters[partition]),
            changelog=len(changelog[partition]),
        )
    assert [] == found[:20], f"{len(found)} anomalies"
    assert await _committed(settings) == _states(settings, changelog)
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


def _states(settings: Settings, changelog: dict[int, list[Any]]) -> dict[int, int]:
    """Returns each partition's next source offset from the META records of its changelog."""
    found: dict[int, int] = {}
    for partition, records in changelog.items():
        metas = [msgspec.msgpack.decode(record.value) for record in records if record.key == META_KEY]
        if metas:
            assert settings.partitions == metas[-1]["partitions"]
            offsets = [meta["offset"] for meta in metas]
            assert sorted(offsets) == offsets, "META went back"
            found[partition] = offsets[-1]
    return found

"""A writer of histories for `verify`, good and broken ones. The engine writes none of them.

`HistoryWriter` has a dict for each table and uses aiokafka's own transactions. So the tests do without the code that
`verify` judges.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import OffsetAndMetadata

from portfolio_stream.audit.history import META_KEY, Effect
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.start import Start
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.load.events import Mixture, generate
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings
from tests.unit.audit_histories import TOPIC_ID, encode

PARTITIONS = 2


@pytest.fixture
async def settings(kafka: Cluster, tmp_path: Path) -> Settings:
    """Settings with empty topics and a group of this test's own."""
    prefix = f"verify-{uuid4().hex[:8]}"
    made = Settings(
        bootstrap_servers=kafka.bootstrap_servers,
        group=prefix,
        input_topic=f"{prefix}-in",
        output_topic=f"{prefix}-out",
        dlq_topic=f"{prefix}-dlq",
        prices_topic=f"{prefix}-prices",
        partitions=PARTITIONS,
        savepoint_dir=str(tmp_path / "savepoints"),
    )
    async with admin_client(made) as admin:
        await create_all(admin, made)
    return made


async def send(settings: Settings, events: int, seed: int = 1) -> None:
    """Send events of every kind, duplicates and invalid ones among them."""
    mixture = Mixture(
        seed=seed, start_time=1_795_408_200_000, portfolios=9, symbols=3, duplicates=0.1, invalid=0.2, partitions=2
    )
    async with make_producer(settings) as producer:
        topic = BatchedTopic(producer, settings.input_topic, PARTITIONS)
        async for _ in produce(topic, generate(mixture, events), 0):
            pass


@dataclass
class HistoryWriter:
    """Folds records and writes the results, one transaction for each step. The test may tell it to make faults."""

    settings: Settings
    producer: AIOKafkaProducer
    replays: dict[int, SourceReplay] = field(default_factory=dict)
    offsets: dict[int, int] = field(default_factory=dict)
    #: source offset -> how often the record's effect is written
    copies: dict[int, int] = field(default_factory=dict)
    meta_shift: int = 0
    group_shift: int = 0
    lost_table: bytes | None = None
    #: the generation's changelog; None: that of the first one
    changelog: str | None = None
    generation: int = 1
    #: by partition and topic: the offsets of the effects that are passed over, because they stand already
    repeat: dict[int, dict[str, tuple[int, int]]] = field(default_factory=dict)

    async def step(self, records: Iterable[Any], *, commit: bool = True) -> None:
        """Fold records and write their results in one transaction, which is aborted if not `commit`."""
        await self.producer.begin_transaction()
        offsets = {}
        for partition, piece in _by_partition(records).items():
            next_offset = piece[-1].offset + 1
            if commit:
                await self._write(partition, piece, next_offset)
            else:
                await self._put(self.settings.output_topic, partition, b"aborted", b"{}", 0)
                await self._put(self.changelog_topic, partition, META_KEY, b"aborted", 0)
            offsets[TopicPartition(self.settings.input_topic, partition)] = next_offset + self.group_shift
        if not commit:
            await self.producer.abort_transaction()
            return
        await self.commit({place.partition: offset for place, offset in offsets.items()})

    async def commit(self, offsets: Mapping[int, int]) -> None:
        """Commit the open transaction with the group's offsets."""
        metadata = f"generation={self.generation}"
        committed = {
            TopicPartition(self.settings.input_topic, partition): OffsetAndMetadata(offset, metadata)
            for partition, offset in offsets.items()
        }
        await self.producer.send_offsets_to_transaction(committed, self.settings.group)
        await self.producer.commit_transaction()

    async def load(self, partition: int, start: Start) -> None:
        """Write the state of a new generation into its changelog."""
        for key, value in start.values.items():
            await self._put(self.changelog_topic, partition, key, encode(value), 0)
        await self._put(self.changelog_topic, partition, META_KEY, self._meta(partition, start.offset), 0)
        self.replays[partition] = self._replay(partition)
        self.replays[partition].begin(start)
        self.replays[partition].before.clear()

    @property
    def changelog_topic(self) -> str:
        return self.changelog or self.settings.changelog_topic

    def _replay(self, partition: int) -> SourceReplay:
        settings = self.settings
        return SourceReplay(partition, PARTITIONS, settings.input_topic, settings.deduplication_window)

    def _meta(self, partition: int, next_offset: int) -> bytes:
        meta = {
            "topic_id": TOPIC_ID,
            "offset": next_offset + self.meta_shift,
            "partitions": PARTITIONS,
            "fold": self.settings.fold_signature,
            "version": 1,
            "repeat": self.repeat.get(partition) or None,
        }
        return msgspec.msgpack.encode(meta)

    async def _write(self, partition: int, piece: list[Any], next_offset: int) -> None:
        settings = self.settings
        replay = self.replays.setdefault(partition, self._replay(partition))
        replay.feed(piece)
        for topic, effects in ((settings.output_topic, replay.outputs), (settings.dlq_topic, replay.dead_letters)):
            for source, effect in (await self._new_effects(partition, topic, effects)).items():
                for _ in range(self.copies.get(source, 1)):
                    await self._put(topic, partition, effect.key, effect.value, effect.timestamp, list(effect.headers))
            effects.clear()
        for key in replay.before:
            if not (self.lost_table and key.startswith(self.lost_table)):
                value = encode(replay.values[key]) if key in replay.values else None
                await self._put(self.changelog_topic, partition, key, value, 0)
        replay.before.clear()
        await self._put(self.changelog_topic, partition, META_KEY, self._meta(partition, next_offset), 0)

    async def _new_effects(self, partition: int, topic: str, effects: Mapping[int, Effect]) -> Mapping[int, Effect]:
        """Pass over the effects that stand already, whatever they are. Returns those that do not."""
        repeat = self.repeat.get(partition, {})
        if topic not in repeat:
            return effects
        following, end = repeat.pop(topic)
        standing = [r.offset for r in await committed(self.settings, topic, partition) if following <= r.offset < end]
        if len(effects) < len(standing):
            repeat[topic] = (standing[len(effects)], end)
        return dict(list(effects.items())[len(standing) :])

    async def _put(self, topic: str, partition: int, key: Any, value: Any, timestamp: int, headers: Any = None) -> None:
        batch = self.producer.create_batch()  # `send` refuses a record without key and value
        batch.append(key=key, value=value, timestamp=timestamp, headers=headers or [])
        await self.producer.send_batch(batch, topic, partition=partition)


@pytest.fixture
async def writer(settings: Settings) -> AsyncIterator[HistoryWriter]:
    options = {"bootstrap_servers": settings.bootstrap_servers, "max_batch_size": 1 << 20}
    async with AIOKafkaProducer(**options, transactional_id=settings.input_topic) as producer:
        yield HistoryWriter(settings, producer)


async def source(settings: Settings) -> list[Any]:
    """Returns all source records; those of one partition are in order."""
    pieces = [await committed(settings, settings.input_topic, partition) for partition in range(PARTITIONS)]
    return [record for piece in pieces for record in piece]


async def committed(settings: Settings, topic: str, partition: int) -> list[Any]:
    """Returns the committed records of a partition."""
    place = TopicPartition(topic, partition)
    options: Any = {"enable_auto_commit": False, "isolation_level": "read_committed"}
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, **options)
    async with consumer:
        consumer.assign([place])
        await consumer.seek_to_beginning()
        end = (await consumer.end_offsets([place]))[place]
        records: list[Any] = []
        while await consumer.position(place) < end:
            for piece in (await consumer.getmany(timeout_ms=100)).values():
                records += piece
    return records


def _by_partition(records: Iterable[Any]) -> dict[int, list[Any]]:
    pieces: dict[int, list[Any]] = {}
    for record in records:
        pieces.setdefault(record.partition, []).append(record)
    return pieces

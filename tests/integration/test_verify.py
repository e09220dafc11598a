"""`verify` on a real broker, with good and broken histories.

The engine writes none of them: `HistoryWriter` has a dict for each table and uses aiokafka's own transactions. So the
tests do without the code that `verify` judges.
"""

import json
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import RecordsToDelete

from portfolio_stream.audit import verify as audit
from portfolio_stream.audit.history import META_KEY
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.result import Verification
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.errors import CannotVerify
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.load.events import Mixture, generate
from portfolio_stream.load.producer import BatchedTopic, make_producer, produce
from portfolio_stream.settings import Settings
from tests.unit.audit_histories import TOPIC_ID, encode

PARTITIONS = 2


@pytest.fixture
async def settings(kafka: Cluster) -> Settings:
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
                await self._put(self.settings.changelog_topic, partition, META_KEY, b"aborted", 0)
            offsets[TopicPartition(self.settings.input_topic, partition)] = next_offset + self.group_shift
        if not commit:
            await self.producer.abort_transaction()
            return
        await self.producer.send_offsets_to_transaction(offsets, self.settings.group)
        await self.producer.commit_transaction()

    async def _write(self, partition: int, piece: list[Any], next_offset: int) -> None:
        settings = self.settings
        replay = self.replays.setdefault(
            partition, SourceReplay(partition, PARTITIONS, settings.input_topic, settings.deduplication_window)
        )
        replay.feed(piece)
        for topic, effects in ((settings.output_topic, replay.outputs), (settings.dlq_topic, replay.dead_letters)):
            for source, effect in effects.items():
                for _ in range(self.copies.get(source, 1)):
                    await self._put(topic, partition, effect.key, effect.value, effect.timestamp, list(effect.headers))
            effects.clear()
        for key in replay.before:
            if not (self.lost_table and key.startswith(self.lost_table)):
                value = encode(replay.values[key]) if key in replay.values else None
                await self._put(settings.changelog_topic, partition, key, value, 0)
        replay.before.clear()
        meta = {
            "topic_id": TOPIC_ID,
            "offset": next_offset + self.meta_shift,
            "partitions": PARTITIONS,
            "fold": settings.fold_signature,
            "version": 1,
        }
        await self._put(settings.changelog_topic, partition, META_KEY, msgspec.msgpack.encode(meta), 0)

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
    places = [TopicPartition(settings.input_topic, partition) for partition in range(PARTITIONS)]
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.bootstrap_servers, enable_auto_commit=False)
    async with consumer:
        consumer.assign(places)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(places)
        records: list[Any] = []
        while len(records) < sum(ends.values()):
            for piece in (await consumer.getmany(timeout_ms=500)).values():
                records += piece
    return records


def _by_partition(records: Iterable[Any]) -> dict[int, list[Any]]:
    pieces: dict[int, list[Any]] = {}
    for record in records:
        pieces.setdefault(record.partition, []).append(record)
    return pieces


async def written(settings: Settings, writer: HistoryWriter, events: int = 200) -> Verification:
    """Send events, fold them in a few transactions and an aborted one, and verify."""
    await send(settings, events)
    records = await source(settings)
    middle = len(records) // 2
    await writer.step(records[:middle])
    await writer.step(records[middle:], commit=False)
    await writer.step(records[middle:])
    return await audit.verify(settings)


async def test_a_good_history_holds(settings: Settings, writer: HistoryWriter) -> None:
    """With an aborted transaction, duplicates and rejected events, everything is compared and nothing is wrong."""
    result = await written(settings, writer)
    assert ({}, 0, 0) == (result.anomaly_counts, result.exit_code, result.lag)
    figures = result.figures
    assert 200 == figures["records"] == figures["accepted"] + figures["duplicates"] + figures["rejected"]
    assert (figures["accepted"], figures["rejected"]) == (figures["outputs"], figures["dead_letters"])
    assert 0 == figures.pop("served") < min(figures.values())


async def test_what_is_not_folded_yet_is_lag(settings: Settings, writer: HistoryWriter) -> None:
    """Events that are not processed yet are counted as lag, and are no anomaly."""
    await send(settings, 100)
    nothing = await audit.verify(settings)
    assert (0, 100, 0) == (nothing.exit_code, nothing.lag, nothing.figures["records"])
    records = await source(settings)
    await writer.step(records[:60])
    half = await audit.verify(settings)
    assert ({}, 40, 60) == (half.anomaly_counts, half.lag, half.figures["records"])


async def test_a_live_system_holds(settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    """`verify` reads the changelog, then the outputs. A commit in between gives no missing or unexpected output."""
    await send(settings, 200)
    records = await source(settings)
    await writer.step(records[:100])
    stable_end = PartitionAudit._stable_end
    rest = [records[100:150], records[150:]]

    async def commit_first(one: PartitionAudit, topic: str) -> int:
        if rest and topic == settings.output_topic:
            await writer.step(rest.pop(0))
        return await stable_end(one, topic)

    monkeypatch.setattr(PartitionAudit, "_stable_end", commit_first)
    result = await audit.verify(settings)
    assert ({}, []) == (result.anomaly_counts, rest)
    assert result.figures["outputs"] + result.figures["dead_letters"] > 0


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"copies": {10: 0}}, {"missing"}),
        ({"copies": {10: 2}}, {"duplicate"}),
        ({"lost_table": b"portfolios"}, {"changelog_key_missing"}),
        ({"group_shift": 1}, {"group_offset_differs"}),
        ({"meta_shift": 10_000}, {"meta_wrong", "group_offset_differs"}),
    ],
)
async def test_a_broken_history_is_violated(
    settings: Settings, writer: HistoryWriter, change: dict[str, Any], kinds: set[str]
) -> None:
    """Each kind of fault is found and named, with exit code 1."""
    result = await written(settings, replace(writer, **change))
    found = {kind.removesuffix("_output").removesuffix("_dead_letter") for kind in result.anomaly_counts}
    assert (kinds, 1) == (found - {"sequence_gap"}, result.exit_code)


async def test_an_effect_without_state_is_unexpected(settings: Settings, writer: HistoryWriter) -> None:
    """An output that was written without its META is unexpected."""
    await send(settings, 50)
    records = await source(settings)
    await writer.step(records[:20])
    value = {"event_id": "e-x", "sequence": 1, "source": {"partition": 0, "offset": 9_999}}
    async with AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers) as stray:
        await stray.send_and_wait(settings.output_topic, json.dumps(value).encode(), b"P", partition=0)
    result = await audit.verify(settings)
    assert {"unexpected_output"} == set(result.anomaly_counts) - {"sequence_gap"}


async def test_trimmed_history_cannot_be_verified(settings: Settings, writer: HistoryWriter) -> None:
    """If source records are deleted, `verify` gives no verdict; exit code 2."""
    await written(settings, writer)
    async with admin_client(settings) as admin:
        await admin.delete_records({TopicPartition(settings.input_topic, 0): RecordsToDelete(5)})
    with pytest.raises(CannotVerify, match="begins at offset 5") as refused:
        await audit.verify(settings)
    assert 2 == refused.value.exit_code


async def test_other_fold_settings_cannot_be_verified(settings: Settings, writer: HistoryWriter) -> None:
    """If the state was made with another deduplication window, `verify` gives no verdict."""
    await written(settings, writer)
    with pytest.raises(CannotVerify, match="deduplication_window=5"):
        await audit.verify(replace(settings, deduplication_window=5))


async def test_an_open_transaction_is_waited_for_and_named(
    settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records of an open transaction count neither as written nor as missing, so `verify` waits, then names it."""
    monkeypatch.setattr("portfolio_stream.audit.reader.PATIENCE_SECONDS", 0.2)
    await writer.producer.begin_transaction()
    future = await writer.producer.send(settings.output_topic, b"{}", partition=0)
    await future
    with pytest.raises(CannotVerify, match="has been open"):
        await audit.verify(settings)
    await writer.producer.abort_transaction()

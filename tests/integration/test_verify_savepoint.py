"""`verify` on a real broker whose history was trimmed: it begins with a savepoint, and says so."""

from collections.abc import Mapping

import msgspec
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from portfolio_stream.audit import verify as audit
from portfolio_stream.audit.result import as_json, as_lines
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.offset_lookup import LATEST, log_offsets
from portfolio_stream.kafka.topic_watch import describe
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.savepoints.write import complete, write_part
from portfolio_stream.settings import Settings
from tables.catalog import TABLES
from tables.row_form import TableRows
from tests.integration.history_writer import PARTITIONS, HistoryWriter, send, settings, source, writer
from tests.unit.audit_histories import encode
from tests.unit.savepoint_world import head

__all__ = ["settings", "writer"]

FIRST, SECOND = "20261129T203512Z-00000a", "20261129T203612Z-00000b"


async def save(writer: HistoryWriter, name: str = FIRST, generation: int = 1) -> Manifest:
    """Write a savepoint of all that the writer has committed."""
    settings, objects = writer.settings, open_objects(writer.settings.savepoint_dir)
    topics = (settings.output_topic, settings.dlq_topic)
    async with admin_client(settings) as admin:
        ids = await describe(admin._client, (settings.input_topic, *topics))
        await admin._client.set_topics(topics)
        ends = {topic: await log_offsets(admin._client, topic, range(PARTITIONS), LATEST) for topic in topics}
    for partition, replay in writer.replays.items():
        await write_part(
            objects,
            savepoint=name,
            partition=partition,
            offset=replay.position,
            changelog_topic_id="33" * 16,
            changelog_offset=0,
            outputs={topic: ends[topic][partition] for topic in topics},
            fold=settings.fold_signature,
            rows=sorted((key, encode(value)) for key, value in replay.values.items()),
            form=TableRows(TABLES),
        )
    of = msgspec.structs.replace(
        head(name, PARTITIONS),
        generation=generation,
        group=settings.group,
        source_topic=settings.input_topic,
        source_topic_id=ids[settings.input_topic].id.hex,
        output_topics={topic: ids[topic].id.hex for topic in topics},
        fold=settings.fold_signature,
    )
    return await complete(objects, of)


async def delete(settings: Settings, before: Mapping[str, Mapping[int, int]]) -> None:
    """Delete records, as kafka-delete-records does."""
    places = {
        TopicPartition(topic, at): RecordsToDelete(offset) for topic, of in before.items() for at, offset in of.items()
    }
    async with admin_client(settings) as admin:
        await admin.delete_records(places)


async def fold_the_rest(writer: HistoryWriter) -> None:
    records = await source(writer.settings)
    await writer.step([record for record in records if record.offset >= position(writer, record.partition)])


def position(writer: HistoryWriter, partition: int) -> int:
    return writer.replays[partition].position if partition in writer.replays else 0


async def test_a_trimmed_history_holds_from_a_savepoint_on(settings: Settings, writer: HistoryWriter) -> None:
    """Source, outputs and dead letters are deleted up to the savepoint: `verify` judges the rest, and says so."""
    await send(settings, 200)
    await fold_the_rest(writer)
    manifest = await save(writer)
    await send(settings, 150, seed=2)
    await fold_the_rest(writer)
    await delete(settings, {settings.input_topic: manifest.offsets})
    whole_outputs = await audit.verify(settings)
    outputs = {
        topic: {part.partition: part.outputs[topic] for part in manifest.parts}
        for topic in (settings.output_topic, settings.dlq_topic)
    }
    await delete(settings, outputs)
    result = await audit.verify(settings)
    for one in (whole_outputs, result):
        assert ({}, 150, 0) == (one.anomaly_counts, one.figures["records"], one.lag)
        assert one.figures["accepted"] == one.figures["outputs"] > 0
    line = as_lines(result)[0]
    assert line.startswith(f"Judged from savepoint {FIRST} (generation 1, ") and "begins at offset" in line
    shown = msgspec.json.decode(as_json(result))
    assert (FIRST, {str(p): o for p, o in manifest.offsets.items()}) == (
        shown["base"]["savepoint"],
        shown["base"]["offsets"],
    )
    assert [part["start"] for part in shown["partitions"]] == list(manifest.offsets.values())

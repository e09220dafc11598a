"""`verify` on a real broker whose history was trimmed, or whose job was switched.

It begins with a savepoint, judges the job's generation, and says both.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from portfolio_stream import cli
from portfolio_stream.audit import verify as audit
from portfolio_stream.audit.base import start_of
from portfolio_stream.audit.board import Board
from portfolio_stream.audit.follow import FollowPlan, follow
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.reader import TopicReader
from portfolio_stream.audit.result import as_json, as_lines
from portfolio_stream.audit.served import no_workers
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY, Generation, Job, generation_key
from portfolio_stream.control.values import encode as encode_value
from portfolio_stream.errors import CannotVerify
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.offset_lookup import LATEST, log_offsets
from portfolio_stream.kafka.topic_watch import describe
from portfolio_stream.kafka.topics import create_missing
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import open_objects
from portfolio_stream.savepoints.write import complete, write_part
from portfolio_stream.settings import Settings
from tables.catalog import TABLES
from tables.row_form import TableRows
from tests.integration.history_writer import PARTITIONS, HistoryWriter, send, settings, source, writer
from tests.integration.workers import until
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


# --- Broken histories, and savepoints that do not cover ---


async def trimmed(writer: HistoryWriter, name: str = FIRST) -> Manifest:
    """Write a history and a savepoint, delete what it covers, and send more events."""
    settings = writer.settings
    await send(settings, 100)
    await fold_the_rest(writer)
    manifest = await save(writer, name)
    await send(settings, 60, seed=2)
    return manifest


async def test_a_fault_behind_the_savepoint_is_violated(settings: Settings, writer: HistoryWriter) -> None:
    """A lost and a duplicated effect right behind it are named, with exit code 1."""
    manifest = await trimmed(writer)
    broken = replace(writer, copies={manifest.offsets[0]: 0, manifest.offsets[1]: 2})
    await fold_the_rest(broken)
    await delete(settings, {settings.input_topic: manifest.offsets})
    result = await audit.verify(settings)
    named = {kind.split("_")[0] for kind in result.anomaly_counts}
    assert (1, {"missing", "duplicate"}) == (result.exit_code, named - {"sequence"})


async def test_more_is_deleted_than_the_savepoint_covers(settings: Settings, writer: HistoryWriter) -> None:
    """Exit code 2; the message says which savepoint is the newest, and what it lacks."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    await delete(settings, {settings.input_topic: {0: manifest.offsets[0] + 1}})
    with pytest.raises(CannotVerify, match=rf"the newest is {FIRST}, but offset .* is not in the log any more"):
        await audit.verify(settings)


async def test_a_damaged_savepoint_is_passed_over(settings: Settings, writer: HistoryWriter) -> None:
    """A file of the newest one was changed: `verify` starts over with the one before, and says so."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    newest = await save(writer, SECOND)
    file = Path(settings.savepoint_dir) / SECOND / newest.parts[1].files[0].path
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    await delete(settings, {settings.input_topic: manifest.offsets})
    told: list[str] = []
    result = await audit.verify(settings, told.append)
    assert result.base is not None
    assert ({}, FIRST, [SECOND]) == (result.anomaly_counts, result.base.savepoint, list(result.base.passed_over))
    assert any("its SHA-256 is another one. Starting over." in line for line in told), told


async def test_records_that_are_deleted_under_verify(
    settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before they are read: `verify` starts over, with a savepoint."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    read, deletions = TopicReader.read, [{settings.input_topic: manifest.offsets}]

    async def delete_first(self: TopicReader, topic: str, *rest: Any) -> Any:
        if deletions and topic == settings.input_topic:
            await delete(settings, deletions.pop())
        async for records in read(self, topic, *rest):
            yield records

    monkeypatch.setattr(TopicReader, "read", delete_first)
    told: list[str] = []
    result = await audit.verify(settings, told.append)
    assert result.base is not None and ({}, FIRST) == (result.anomaly_counts, result.base.savepoint)
    assert any("was deleted before it was read" in line for line in told), told


# --- Generations ---


async def switch(writer: HistoryWriter, manifest: Manifest, number: int = 2) -> HistoryWriter:
    """Make the next generation from the savepoint and switch to it. Returns its writer, which repeats nothing yet."""
    settings, old = writer.settings, writer.settings.changelog_topic
    changelog = f"{old}-g{number}"
    async with admin_client(settings) as admin:
        topic = next(topic for topic in all_topics(settings) if topic.name == old)
        control = replace(topic, name=settings.control_topic, partitions=1)
        await create_missing(admin, (replace(topic, name=changelog), control))
        await admin._client.set_topics((settings.output_topic, settings.dlq_topic))
        ends = {
            name: await log_offsets(admin._client, name, range(PARTITIONS), LATEST) for name in manifest.output_topics
        }
    new = replace(writer, replays={}, changelog=changelog, generation=number)
    await writer.producer.begin_transaction()
    for part in manifest.parts:
        start = await start_of(open_objects(settings.savepoint_dir), manifest, part.partition)
        new.repeat[part.partition] = {
            name: (following, ends[name][part.partition])
            for name, following in part.outputs.items()
            if following < ends[name][part.partition]
        }
        await new.load(part.partition, start)
    generation = Generation(
        number=number,
        changelog_topic=changelog,
        source_topic_id=manifest.source_topic_id,
        partitions=PARTITIONS,
        first_offsets=manifest.offsets,
        fold=settings.fold_signature,
        origin="restore",
        parent=number - 1,
        savepoint=manifest.id,
    )
    for key, value in {
        generation_key(number): generation,
        JOB_KEY: Job(state=JobState.RUNNING, revision=number, generation=number),
    }.items():
        await writer.producer.send(settings.control_topic, encode_value(value), key.encode())
    await new.commit(manifest.offsets)
    return new


async def test_a_generation_is_judged_while_it_repeats(settings: Settings, writer: HistoryWriter) -> None:
    """The job goes back to the savepoint. Its effects stand already: legal, and compared as it comes to them."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    records = await source(settings)
    new = await switch(writer, manifest)
    at_once = await audit.verify(settings)
    assert ({}, 2, 60) == (at_once.anomaly_counts, at_once.generation, at_once.lag)
    assert any("folds again" in line or "fold again" in line for line in as_lines(at_once))
    behind = [record for record in records if record.offset >= new.replays[record.partition].position]
    await new.step(behind[:30])
    half = await audit.verify(settings)
    assert ({}, 30) == (half.anomaly_counts, half.lag)
    await new.step(behind[30:])
    done = await audit.verify(settings)
    assert ({}, 0, 160) == (done.anomaly_counts, done.lag, done.figures["records"])
    await send(settings, 20, seed=3)
    await fold_the_rest(new)
    await delete(settings, {settings.input_topic: manifest.offsets})
    trimmed_too = await audit.verify(settings)
    assert ({}, 80) == (trimmed_too.anomaly_counts, trimmed_too.figures["records"])


async def test_a_generation_that_writes_again_is_violated(settings: Settings, writer: HistoryWriter) -> None:
    """It does not know that its effects stand already."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    new = await switch(writer, manifest)
    new.repeat.clear()
    await fold_the_rest(new)
    result = await audit.verify(settings)
    assert {"duplicate_output", "duplicate_dead_letter", "sequence_gap"} == set(result.anomaly_counts)


@pytest.mark.slow  # `make proof` runs it
async def test_a_switch_under_verify(
    settings: Settings, writer: HistoryWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`verify` starts over with the new generation, and so does `verify --follow`; neither gives an alarm."""
    manifest = await trimmed(writer)
    await fold_the_rest(writer)
    stable_end, switches = PartitionAudit._stable_end, [manifest]
    generations: list[HistoryWriter] = [writer]

    async def switch_first(one: PartitionAudit, topic: str) -> int:
        if switches and topic == settings.output_topic:
            generations.append(await switch(writer, switches.pop()))
        return await stable_end(one, topic)

    monkeypatch.setattr(PartitionAudit, "_stable_end", switch_first)
    told: list[str] = []
    result = await audit.verify(settings, told.append)
    assert ({}, 2, 60) == (result.anomaly_counts, result.generation, result.lag)
    assert any("was switched from generation 1 to 2" in line for line in told), told

    board = Board()
    plan = FollowPlan(interval=0.1, keep_going=False, coverage="none", find_workers=no_workers)
    following = asyncio.create_task(follow(settings, plan, board, lambda: None))
    try:
        await until(lambda: board.passes > 0, 20, "the first pass")
        await fold_the_rest(generations[-1])
        await until(lambda: board.lag == 0, 20, "the repeat is over")
        newest = await save(generations[-1], SECOND, generation=2)
        await send(settings, 30, seed=3)
        await fold_the_rest(generations[-1])
        await until(lambda: board.figures["records"] == 190, 20, "the last records")
        await switch(generations[-1], newest, 3)
        await until(lambda: board.moves == 1 and board.lag == 30, 20, "the switch is seen")
        assert ({}, False, "holds") == (board.findings.counts, following.done(), board.verdict)
    finally:
        following.cancel()
        await asyncio.wait([following])


# --- A savepoint is judged ---


async def test_a_savepoint_is_judged_by_the_command(
    settings: Settings, writer: HistoryWriter, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the whole source, and from an older savepoint on where the source is gone; a wrong one has exit code 1."""
    first = await trimmed(writer)
    await fold_the_rest(writer)
    await save(writer, SECOND)
    await send(settings, 20, seed=3)
    await fold_the_rest(writer)
    for name, value in {
        "BOOTSTRAP_SERVERS": settings.bootstrap_servers,
        "GROUP": settings.group,
        "INPUT_TOPIC": settings.input_topic,
        "OUTPUT_TOPIC": settings.output_topic,
        "DLQ_TOPIC": settings.dlq_topic,
        "SAVEPOINT_DIR": settings.savepoint_dir,
    }.items():
        monkeypatch.setenv(f"PORTFOLIO_{name}", value)

    async def command(*options: str) -> tuple[int, str]:
        code = await asyncio.to_thread(cli.run, ["verify", "--savepoint", *options])
        return code, capsys.readouterr().out

    code, text = await command("latest")
    assert (0, True) == (code, f"Savepoint {SECOND} is the fold of its source." in text), text
    await delete(settings, {settings.input_topic: first.offsets})
    code, text = await command(SECOND, "-o", "json")
    shown = msgspec.json.decode(text)
    assert (0, True, SECOND, FIRST) == (code, shown["holds"], shown["savepoint"], shown["base"]["savepoint"])
    writer.replays[0].values.popitem()
    third = await save(writer, "20261129T203712Z-00000c")
    code, text = await command(third.id)
    assert (1, True) == (code, f"Savepoint {third.id} is WRONG: 1 anomalies." in text), text

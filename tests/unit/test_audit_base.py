"""Which savepoint the audit begins with, and which generation it judges."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from portfolio_stream.audit.base import Base, EmptyStart, SavepointRefused, Surroundings, find_base, lineage_of
from portfolio_stream.audit.generation import AuditedGeneration, ControlRecords, Lineage
from portfolio_stream.audit.result import base_line
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY, Generation, Job, encode, generation_key
from portfolio_stream.errors import CannotVerify, SavepointTorn
from portfolio_stream.savepoints.coverage import LogRange
from portfolio_stream.savepoints.manifest import MANIFEST, Manifest
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.savepoints.write import complete
from portfolio_stream.settings import Settings
from tests.unit.savepoint_world import FOLD, ID, LATER, head, part, position

SETTINGS = Settings(dlq_topic="processed-events")  # the savepoints of the tests have one output topic
TOPICS = {"portfolio-events": "11" * 16, "processed-events": "22" * 16}


def place(**change: Any) -> Surroundings:
    """Topics of two partitions, of which the source of partition 1 was trimmed."""
    logs = {topic: {0: LogRange(0, 900), 1: LogRange(0, 900)} for topic in TOPICS}
    logs["portfolio-events"][1] = LogRange(100, 900)
    fields: dict[str, Any] = {"settings": SETTINGS, "partitions": 2, "logs": logs, "ids": TOPICS, "committed": {}}
    return Surroundings(**(fields | change))


async def save(objects: MemoryObjects, name: str = ID, offset: int = 100, **change: Any) -> Manifest:
    for partition in range(2):
        await part(objects, partition, [position("a", "X")], name, offset=offset)
    return await complete(objects, msgspec.structs.replace(head(name), **change))


async def chosen(objects: MemoryObjects, **change: Any) -> Base:
    found = await find_base(objects, place(**change), None)
    assert isinstance(found, Base)
    return found


async def test_a_whole_history_needs_no_savepoint() -> None:
    """And no place of savepoints is asked."""
    logs = {topic: {0: LogRange(0, 9), 1: LogRange(0, 9)} for topic in TOPICS}
    nowhere: Any = None
    assert await find_base(nowhere, place(logs=logs), None) is None


async def test_the_newest_savepoint_that_fits_is_the_base() -> None:
    """Newer ones that do not fit are passed over, with the reason. The result says why there is a base."""
    objects = MemoryObjects()
    await save(objects)
    await save(objects, LATER, offset=1_000)
    base = await chosen(objects)
    assert ID == base.manifest.id
    assert "partition 1 of portfolio-events begins at offset 100, its history was trimmed" == base.because
    assert {LATER: "offset 1000 of partition 0 of portfolio-events is not in the log any more, or not yet"} == dict(
        base.passed_over
    )


@pytest.mark.parametrize(
    ("change", "surroundings", "reason"),
    [
        ({"source_topic": "others"}, {}, "of 2 partitions of others"),
        ({"source_topic_id": "99" * 16}, {}, "another topic portfolio-events"),
        ({"output_topics": {"processed-events": "99" * 16}}, {}, "another topic processed-events"),
        ({"fold": "version=9"}, {}, "folded with version=9"),
        ({}, {"partitions": 3}, "of 2 partitions"),
        ({}, {"committed": {0: 100, 1: 99}}, "ahead of partition 1, whose state is at 99"),
        ({}, {"settings": Settings()}, "does not know processed-events and portfolio-events-dlq"),
    ],
)
async def test_a_savepoint_that_does_not_fit_is_named(
    change: dict[str, Any], surroundings: Mapping[str, Any], reason: str
) -> None:
    """Exit code 2, with the remedy: create savepoints, or keep histories."""
    objects = MemoryObjects()
    await save(objects, **change)
    logs = place().logs | {"portfolio-events-dlq": {0: LogRange(0, 9), 1: LogRange(0, 9)}}
    with pytest.raises(CannotVerify, match=f"the newest is {ID}, but .*{reason}.*savepoint create") as refused:
        await chosen(objects, **({"logs": logs} | surroundings))
    assert 2 == refused.value.exit_code
    with pytest.raises(CannotVerify, match=f"savepoint {ID} cannot be the base: .*{reason}"):
        await find_base(objects, place(**({"logs": logs} | surroundings)), ID)


async def test_the_savepoint_that_the_operator_wants_is_the_base() -> None:
    """Also where the history is whole. One that is not complete is refused."""
    objects = MemoryObjects()
    await save(objects)
    logs = {topic: {0: LogRange(0, 900), 1: LogRange(0, 900)} for topic in TOPICS}
    base = await find_base(objects, place(logs=logs), "latest")
    assert isinstance(base, Base) and (ID, None) == (base.manifest.id, base.because)
    await part(objects, 0, [], LATER)
    with pytest.raises(SavepointTorn):
        await find_base(objects, place(logs=logs), LATER)


async def test_a_damaged_manifest_is_passed_over() -> None:
    """The next older savepoint counts; a torn one never counts."""
    objects = MemoryObjects()
    await save(objects)
    await save(objects, LATER)
    await objects.put(f"{LATER}/{MANIFEST}", b"{}")
    await part(objects, 0, [], "20261201T203512Z-000000")
    base = await chosen(objects)
    assert (ID, [LATER]) == (base.manifest.id, list(base.passed_over))
    assert "is damaged" in base.passed_over[LATER]


async def test_a_savepoint_that_turns_out_to_be_damaged_is_refused_by_its_name() -> None:
    """The audit then takes an older one, unless the operator wanted this one. The rows are no values of our tables."""
    objects = MemoryObjects()
    await save(objects)
    await save(objects, LATER)
    base = await chosen(objects)
    assert LATER == base.manifest.id
    with pytest.raises(SavepointRefused, match="no value of a table") as refused:
        await base.start(0)
    older = await find_base(objects, place(), None, {refused.value.savepoint: refused.value.why})
    assert isinstance(older, Base) and (ID, [LATER]) == (older.manifest.id, list(older.passed_over))
    wanted = await find_base(objects, place(), LATER)
    assert isinstance(wanted, Base)
    with pytest.raises(CannotVerify, match="no value of a table") as damaged:
        await wanted.start(0)
    assert not isinstance(damaged.value, SavepointRefused)


# --- Generations ---


def generation(number: int, **change: Any) -> Generation:
    fields: dict[str, Any] = {
        "number": number,
        "changelog_topic": "state" if number == 1 else f"state-g{number}",
        "source_topic_id": "11" * 16,
        "partitions": 2,
        "first_offsets": {0: 0, 1: 0},
        "fold": FOLD,
        "origin": "restore",
        "parent": number - 1 or None,
    }
    return Generation(**(fields | change))


def written(*values: Generation | Job) -> list[Any]:
    """The records that the job's own code writes."""
    keys = [generation_key(one.number) if isinstance(one, Generation) else JOB_KEY for one in values]
    return [SimpleNamespace(key=key.encode(), value=encode(one)) for key, one in zip(keys, values, strict=True)]


def job(number: int) -> Job:
    return Job(state=JobState.RUNNING, revision=number, generation=number)


def test_a_job_without_records_is_in_its_first_generation() -> None:
    """Before the first worker with a control topic has started."""
    assert AuditedGeneration(number=1, changelog_topic="state") == ControlRecords().current("state")


def test_the_job_says_which_generation_is_current() -> None:
    """The newest record counts. What is no record of ours, or cannot be read, changes nothing."""
    records = ControlRecords()
    records.feed(written(generation(1), job(1), generation(2)))
    assert (1, "state") == (records.current("state").number, records.current("state").changelog_topic)
    records.feed(written(job(2)))
    strangers = [SimpleNamespace(key=key, value=b"{}") for key in (b"job", b"generation/2", b"other", None)]
    records.feed([*strangers, SimpleNamespace(key=b"job", value=None)])
    assert "state-g2" == records.current("state").changelog_topic


def test_a_generation_without_its_record_cannot_be_verified() -> None:
    """Its changelog is not known."""
    records = ControlRecords()
    records.feed(written(job(2)))
    with pytest.raises(CannotVerify, match="no readable record of generation 2"):
        records.current("state")


def test_an_empty_start_behind_the_first_record_is_found_through_its_successors() -> None:
    """From it on, a state is not the fold of the whole source. One at offset 0 is. A restore may leave it."""
    generations = {
        one.number: AuditedGeneration(
            number=one.number,
            changelog_topic=one.changelog_topic,
            origin=one.origin,
            parent=one.parent,
            savepoint=one.savepoint,
            first_offsets=one.first_offsets,
        )
        for one in (
            generation(1),
            generation(2, origin="fresh", first_offsets={0: 0, 1: 100}),
            generation(3, savepoint=LATER),
            generation(4, savepoint=ID),
            generation(5, origin="rollback", changelog_topic="state-g2"),
            generation(6, origin="fresh"),
            generation(7),
        )
    }
    lineage = Lineage(generations, {ID: 1, LATER: 2})
    found = {number: lineage.empty_start(number) for number in range(1, 9)}
    assert {1: None, 2: 2, 3: 2, 4: None, 5: 2, 6: None, 7: None, 8: None} == found


async def test_after_an_empty_start_only_savepoints_of_the_same_state_fit() -> None:
    """Nothing was written before the empty start, so it is the base itself, as long as the records behind it exist."""
    objects = MemoryObjects()
    empty = AuditedGeneration(number=2, changelog_topic="state-g2", first_offsets={1: 100}, origin="fresh")
    lineage = await lineage_of(objects, {2: empty})
    await save(objects)
    base = await find_base(objects, place(generation=2, lineage=lineage), None)
    assert isinstance(base, EmptyStart)
    assert (100, 0) == ((await base.start(1)).offset, (await base.start(0)).offset)
    assert "Judged from the start of generation 2 on: " in base_line(base.result)
    logs = place().logs | {"portfolio-events": {0: LogRange(0, 900), 1: LogRange(101, 900)}}
    await save(objects, LATER, offset=200)
    with pytest.raises(CannotVerify, match="is of generation 1, whose state began with the first source record"):
        await chosen(objects, logs=logs, generation=2, lineage=lineage)
    newest = "20261201T203512Z-000000"
    await save(objects, newest, offset=200, generation=2)
    assert newest == (await chosen(objects, logs=logs, generation=2, lineage=lineage)).manifest.id
    assert LATER == (await chosen(objects, logs=logs, generation=1, lineage=lineage)).manifest.id


async def test_the_generations_of_savepoints_are_read_where_they_matter() -> None:
    """An expired savepoint is left out: then the generation before counts."""
    objects = MemoryObjects()
    await save(objects, generation=1)
    restored = AuditedGeneration(number=3, changelog_topic="state-g3", parent=2, savepoint=ID)
    expired = AuditedGeneration(number=4, changelog_topic="state-g4", parent=2, savepoint=LATER)
    empty = AuditedGeneration(number=2, changelog_topic="state-g2", first_offsets={1: 100}, origin="fresh")
    lineage = await lineage_of(objects, {2: empty, 3: restored, 4: expired})
    assert (None, 2) == (lineage.empty_start(3), lineage.empty_start(4))

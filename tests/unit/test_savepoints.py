"""Savepoints are written, listed and read back in each kind of place."""

import json
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.errors import (
    SavepointIdInvalid,
    SavepointIncomplete,
    SavepointMissing,
    SavepointTampered,
    SavepointTorn,
    StateUnreadable,
)
from portfolio_stream.savepoints.check import verify
from portfolio_stream.savepoints.manifest import Manifest, begun_at, is_id, new_id, seconds_of, utc_text
from portfolio_stream.savepoints.objects import MemoryObjects, Objects, open_objects
from portfolio_stream.savepoints.read import load, rows
from portfolio_stream.savepoints.write import complete
from tests.unit.savepoint_world import (
    ID,
    LATER,
    ROWS,
    ChangelogRow,
    PlainForm,
    decision,
    head,
    part,
    portfolio,
    position,
    savepoint,
)


async def read_back(objects: Objects, manifest: Manifest, partition: int) -> list[ChangelogRow]:
    return [row async for some in rows(objects, manifest, partition) for row in some]


async def test_a_restore_gets_the_rows_that_were_written(objects: Objects) -> None:
    """Also the rows that belong to no table."""
    manifest = await savepoint(objects)
    assert manifest == await load(objects, ID)
    for number, expected in enumerate(ROWS):
        assert sorted(expected) == await read_back(objects, manifest, number)


async def test_the_manifest_says_what_there_is(objects: Objects) -> None:
    manifest = await savepoint(objects)
    assert {"portfolios": 2, "positions": 3} == manifest.rows
    assert {0: 100, 1: 100} == manifest.offsets
    files = {entry.path: entry.bytes for entry in await objects.list(f"{ID}/data")}
    assert {f"{ID}/{file.path}": file.bytes for one in manifest.parts for file in one.files} == files
    assert sum(files.values()) == manifest.bytes


async def test_latest_is_the_newest_complete_one(objects: Objects) -> None:
    await savepoint(objects)
    await savepoint(objects, name=LATER)
    await part(objects, 0, ROWS[0], "20261201T000000Z-ffffff")  # torn
    assert LATER == (await load(objects, "latest")).id
    pointer = await objects.get("latest.json")
    assert pointer is not None and {"id": LATER} == json.loads(pointer)


async def test_what_is_not_there_is_refused_by_its_name(objects: Objects) -> None:
    with pytest.raises(SavepointMissing, match="no complete savepoint"):
        await load(objects, "latest")
    with pytest.raises(SavepointMissing, match=ID):
        await load(objects, ID)
    await part(objects, 1, ROWS[1])
    with pytest.raises(SavepointTorn, match=ID):
        await load(objects, ID)
    with pytest.raises(SavepointIncomplete, match="partitions: 0"):
        await complete(objects, head())


async def test_the_first_part_of_a_partition_counts(objects: Objects) -> None:
    """The second writer gets the first one's part."""
    first = await part(objects, 0, ROWS[0])
    second = await part(objects, 0, [portfolio("other")], offset=120)
    assert first == second
    assert {file.path for file in first.files} == {
        entry.path.removeprefix(f"{ID}/") for entry in await objects.list(f"{ID}/data")
    }


async def test_a_dead_attempts_files_are_removed_before_the_savepoint_is_complete(objects: Objects) -> None:
    stray = f"{ID}/data/table=positions/partition=00/part-0000-at-90-0123456789ab.parquet"
    await objects.put(stray, b"half")
    await savepoint(objects)
    assert await objects.get(stray) is None


async def test_no_row_of_a_changed_file_is_given(objects: Objects) -> None:
    manifest = await savepoint(objects)
    file = manifest.parts[1].files[0]
    content = await objects.get(f"{ID}/{file.path}")
    assert content is not None
    await objects.put(f"{ID}/{file.path}", content[:-9] + b"x" + content[-8:])
    with pytest.raises(SavepointTampered, match="SHA-256") as caught:
        await read_back(objects, manifest, 1)
    assert file.path == caught.value.path


@pytest.mark.parametrize("text", ["", "..", "latest", ID + "/..", ID.lower(), "20261340T203512Z-4f2a9c", ID + "\n"])
async def test_no_other_text_becomes_a_path(text: str) -> None:
    assert not is_id(text)
    if text != "latest":
        with pytest.raises(SavepointIdInvalid):
            await load(MemoryObjects(), text)


def test_ids_sort_by_time() -> None:
    ids = [new_id(at) for at in (0.0, 1_000_000_000.0, 1_800_000_000.0)]
    assert sorted(ids) == ids
    assert [0.0, 1e9, 1.8e9] == [begun_at(one) for one in ids]
    assert 1e9 == seconds_of(utc_text(1e9))


async def test_duckdb_reads_a_table(tmp_path: Path) -> None:
    """The query of the README."""
    await savepoint(open_objects(str(tmp_path)))
    query = f"select portfolio_id, symbol, value, partition from '{tmp_path}/*/data/table=positions/**/*.parquet'"
    found = duckdb.sql(f"{query} order by all").fetchall()
    assert [("a", "X", '"6f6e65"', "00"), ("a", "Y", '"74776f"', "00"), ("b", "X", '"6f6e65"', "01")] == found


TABLES = st.text(min_size=1, max_size=8).filter(lambda name: "\x00" not in name and name.isprintable())


@given(st.dictionaries(st.tuples(TABLES, st.binary(max_size=12)), st.binary(max_size=40), max_size=30))
async def test_every_row_comes_back(content: dict[tuple[str, bytes], bytes]) -> None:
    """Whatever tables are called, and whatever bytes keys and values have."""
    given_rows = [(f"{table}\x00".encode() + key, value) for (table, key), value in content.items()]
    objects = MemoryObjects()
    manifest = await savepoint(objects, [[decision(1), *given_rows]])
    assert sorted([decision(1), *given_rows]) == await read_back(objects, manifest, 0)
    assert sum(manifest.rows.values()) == len(given_rows)


@pytest.mark.parametrize(("file_bytes", "batch_bytes", "batch_rows"), [(1, 1 << 20, 2), (60, 20, 100), (1 << 20, 1, 1)])
async def test_a_large_table_has_several_files(
    monkeypatch: pytest.MonkeyPatch, file_bytes: int, batch_bytes: int, batch_rows: int
) -> None:
    """Together they have every row once, in the order of the keys, and the hash that one file would have."""
    content = [position("a", f"{number:03d}", bytes([number])) for number in range(50)] + [portfolio("a")]
    whole = await savepoint(MemoryObjects(), [content])
    monkeypatch.setattr("portfolio_stream.savepoints.write.FILE_BYTES", file_bytes)
    monkeypatch.setattr("portfolio_stream.savepoints.ordered.BATCH_BYTES", batch_bytes)
    monkeypatch.setattr("portfolio_stream.savepoints.ordered.BATCH_ROWS", batch_rows)
    objects = MemoryObjects()
    manifest = await savepoint(objects, [content])
    assert (file_bytes > 100) == (len(manifest.parts[0].files) == 2)
    assert sorted(content) == await read_back(objects, manifest, 0)
    assert whole.state_hash == manifest.state_hash and (await verify(objects, ID)).is_whole


async def test_progress_counts_the_rows_in_files() -> None:
    told: list[int] = []
    objects = MemoryObjects()
    await part(objects, 0, ROWS[0], progress=told.append)
    assert [1, 3] == told


@pytest.mark.parametrize("key", [b"no table", b"\xff\x00key"])
async def test_a_key_that_no_worker_wrote_is_refused(key: bytes) -> None:
    with pytest.raises(StateUnreadable):
        await part(MemoryObjects(), 0, [(key, b"")])


async def test_rows_out_of_order_are_a_fault_of_the_caller() -> None:
    """Twice the same key too: the state hash would count it twice."""
    for rows_ in (
        [portfolio("b"), portfolio("a")],
        [portfolio("a"), portfolio("a")],
        [position("a", "X"), portfolio("a")],
    ):
        with pytest.raises(ValueError, match="order"):
            await part(MemoryObjects(), 0, rows_, in_order=False)


async def test_the_form_says_what_is_wrong_with_a_row() -> None:
    """Its own error reaches the caller."""

    class Refusing(PlainForm):
        def form(self, table: str, key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
            raise StateUnreadable("a value")

    with pytest.raises(StateUnreadable, match="a value"):
        await part(MemoryObjects(), 0, ROWS[0], form=Refusing())

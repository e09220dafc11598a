"""What is wrong with a savepoint is named, and what is not the savepoint's is left alone."""

import json
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.errors import SavepointMissing, SavepointTampered
from portfolio_stream.savepoints.check import SavepointCheck, SavepointFault, verify
from portfolio_stream.savepoints.describe import describe
from portfolio_stream.savepoints.diff import KeyChange, PartDifference, diff
from portfolio_stream.savepoints.manifest import MANIFEST, encode_json
from portfolio_stream.savepoints.objects import MemoryObjects, Objects
from portfolio_stream.savepoints.read import load, savepoints
from portfolio_stream.savepoints.state_hash import StateHash, row_hash, sum_of
from tests.unit.savepoint_world import ID, LATER, ROWS, part, portfolio, position, savepoint


def faults(check: SavepointCheck) -> list[tuple[str, str]]:
    return [(fault.kind, fault.path) for fault in check.faults]


async def test_a_whole_savepoint_has_no_fault(objects: Objects) -> None:
    manifest = await savepoint(objects)
    done: list[int] = []
    check = await verify(objects, "latest", lambda progress: done.append(progress.bytes))
    assert SavepointCheck(savepoint=ID, files=4, rows=5, bytes=manifest.bytes, faults=()) == check
    assert check.is_whole and sorted(done) == done and manifest.bytes == done[-1]


async def test_a_savepoint_that_is_not_there_is_no_fault() -> None:
    with pytest.raises(SavepointMissing):
        await verify(MemoryObjects(), ID)


async def test_one_without_a_manifest_is_torn(objects: Objects) -> None:
    await part(objects, 0, ROWS[0])
    assert [("torn", MANIFEST)] == faults(await verify(objects, ID))


async def test_every_object_that_is_missing_is_named(objects: Objects) -> None:
    """By name, and only it."""
    manifest = await savepoint(objects)
    paths = [file.path for one in manifest.parts for file in one.files]
    for path in (*paths, "partitions/00.json", "FORMAT.md"):
        content = await objects.get(f"{ID}/{path}")
        assert content is not None
        await objects.delete([f"{ID}/{path}"])
        assert [("missing", path)] == faults(await verify(objects, ID))
        await objects.put(f"{ID}/{path}", content)
    assert (await verify(objects, ID)).is_whole


async def test_every_file_that_was_changed_is_named() -> None:
    """Whichever of its bytes is another one, and also if it got longer or shorter."""
    objects = MemoryObjects()
    manifest = await savepoint(objects)
    file = manifest.parts[0].files[0]
    content = await objects.get(f"{ID}/{file.path}")
    assert content is not None
    changed = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(0, len(content), 97)]
    for other in (*changed, content + b"x", content[:-1], b""):
        await objects.put(f"{ID}/{file.path}", other)
        assert [("tampered", file.path)] == faults(await verify(objects, ID))


async def test_what_nobody_names_is_stray() -> None:
    objects = MemoryObjects()
    await savepoint(objects)
    stray = "data/table=positions/partition=00/more.parquet"
    await objects.put(f"{ID}/{stray}", b"")
    assert [("stray", stray)] == faults(await verify(objects, ID))


async def test_a_part_that_differs_from_the_manifest_is_named() -> None:
    objects = MemoryObjects()
    await savepoint(objects)
    content = await objects.get(f"{ID}/partitions/01.json")
    assert content is not None
    await objects.put(f"{ID}/partitions/01.json", content.replace(b'"offset": 100', b'"offset": 101'))
    assert [("tampered", "partitions/01.json")] == faults(await verify(objects, ID))


async def test_rows_with_another_state_hash_are_named() -> None:
    """Somebody who writes other files and their SHA-256 into the manifest must know the state hash too."""
    objects = MemoryObjects()
    other = await savepoint(objects, [ROWS[0], [portfolio("b", b"forged"), position("b", "X")]], LATER)
    honest = await savepoint(objects)
    forged = json.loads(encode_json(honest))
    forged["parts"][1]["files"] = json.loads(encode_json(other.parts[1].files))
    for file in other.parts[1].files:
        content = await objects.get(f"{LATER}/{file.path}")
        assert content is not None
        await objects.put(f"{ID}/{file.path}", content)
    await objects.put(f"{ID}/{MANIFEST}", json.dumps(forged).encode())
    check = await verify(objects, ID)
    assert (
        SavepointFault("tampered", "partitions/01.json", "the rows of its files have another state hash")
        in check.faults
    )


def file_path(path: str) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest["parts"][0]["files"][0]["path"] = path

    return change


def field(name: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(manifest: dict[str, Any]) -> None:
        manifest[name] = value

    return change


def table_name(manifest: dict[str, Any]) -> None:
    manifest["parts"][0]["files"][0]["table"] = "../../../precious"


def swapped_parts(manifest: dict[str, Any]) -> None:
    manifest["parts"].reverse()


def repeated_file(manifest: dict[str, Any]) -> None:
    manifest["parts"][0]["files"].append(manifest["parts"][0]["files"][0])


HOSTILE = [
    file_path("../precious"),
    file_path("../20261130T203512Z-000000/manifest.json"),
    file_path("/etc/passwd"),
    file_path("data/table=positions/partition=00/../../../../precious"),
    file_path("data/table=positions/partition=00/part-0000-at-99-0123456789ab.parquet"),
    table_name,
    swapped_parts,
    repeated_file,
    field("id", LATER),
    field("id", "../.."),
    field("format", 2),
    field("partitions", 3),
    field("partitions", -1),
    field("parts", []),
    field("parts", None),
]


@pytest.mark.parametrize("change", HOSTILE)
async def test_a_hostile_manifest_is_refused(change: Callable[[dict[str, Any]], None]) -> None:
    """It is listed as damaged, nothing is read by it, and to delete the savepoint deletes nothing else."""
    objects = Watched()
    manifest = json.loads(encode_json(await savepoint(objects)))
    change(manifest)
    await objects.put(f"{ID}/{MANIFEST}", json.dumps(manifest).encode())
    objects.read.clear()
    with pytest.raises(SavepointTampered, match=r"manifest\.json"):
        await load(objects, ID)
    assert [("tampered", MANIFEST)] == faults(await verify(objects, ID))
    assert ["damaged"] == [summary.state for summary in await savepoints(objects)]
    assert {f"{ID}/{MANIFEST}"} == objects.read


@pytest.mark.parametrize("content", [b"", b"{", b"[" * 100_000, b"\xff", b'{"id": 1e999}', b"null"])
async def test_a_manifest_that_is_no_json_is_refused(content: bytes) -> None:
    objects = MemoryObjects()
    await objects.put(f"{ID}/{MANIFEST}", content)
    assert [("tampered", MANIFEST)] == faults(await verify(objects, ID))


class Watched(MemoryObjects):
    """Remembers what is read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: set[str] = set()

    async def get(self, path: str) -> bytes | None:
        self.read.add(path)
        return await super().get(path)


async def test_equal_states_have_no_difference_and_no_file_is_read() -> None:
    objects = Watched()
    await savepoint(objects)
    await savepoint(objects, name=LATER, offset=150)
    objects.read.clear()
    found = await diff(objects, ID, LATER)
    assert found.is_same and {0: (100, 150), 1: (100, 150)} == found.offsets
    assert {f"{ID}/{MANIFEST}", f"{LATER}/{MANIFEST}"} == objects.read


async def test_a_difference_is_told_by_table_partition_and_key(objects: Objects) -> None:
    await savepoint(objects)
    later = [[*ROWS[0][:-1], position("a", "Y", b"three"), position("a", "Z")], [portfolio("b")]]
    await savepoint(objects, later, LATER)
    portfolios, positions = (await diff(objects, ID, LATER, with_keys=True)).tables
    assert portfolios.is_same and () == portfolios.parts and (2, 2) == portfolios.rows
    changed, added = KeyChange("changed", ("a", "Y")), KeyChange("added", ("a", "Z"))
    assert (3, 3) == positions.rows and (
        PartDifference(partition=0, added=1, removed=0, changed=1, keys=(changed, added)),
        PartDifference(partition=1, added=0, removed=1, changed=0, keys=(KeyChange("removed", ("b", "X")),)),
    ) == positions.parts


async def test_savepoints_with_other_partition_counts_are_compared_as_a_whole() -> None:
    objects = MemoryObjects()
    await savepoint(objects)
    await savepoint(objects, [[*ROWS[0][1:], *ROWS[1]]], LATER)
    assert (await diff(objects, ID, LATER)).is_same
    third = "20261201T000000Z-000000"
    await savepoint(objects, [[*ROWS[0][2:], *ROWS[1], position("c", "X")]], third)
    portfolios, positions = (await diff(objects, ID, third)).tables
    assert [PartDifference(partition=None, added=0, removed=1, changed=0)] == list(portfolios.parts)
    assert [PartDifference(partition=None, added=1, removed=0, changed=0)] == list(positions.parts)


STATES = st.dictionaries(st.binary(max_size=2), st.binary(max_size=2), max_size=20)


@given(STATES, STATES)
async def test_a_difference_counts_what_dictionaries_say(one: dict[bytes, bytes], other: dict[bytes, bytes]) -> None:
    objects = MemoryObjects()
    for name, state in ((ID, one), (LATER, other)):
        await savepoint(objects, [[(b"t\x00" + key, value) for key, value in state.items()]], name)
    found = await diff(objects, ID, LATER)
    counts = (
        len(other.keys() - one.keys()),
        len(one.keys() - other.keys()),
        sum(one[key] != other[key] for key in one.keys() & other.keys()),
    )
    assert (one == other) == found.is_same
    told = [(part.added, part.removed, part.changed) for table in found.tables for part in table.parts]
    assert told == ([] if one == other else [counts])


@given(st.dictionaries(st.binary(max_size=4), st.binary(max_size=4)), st.randoms())
def test_the_state_hash_does_not_depend_on_the_order(state: dict[bytes, bytes], random: Any) -> None:
    """And the hash of two halves is the sum of theirs."""
    rows = [(b"t\x00" + key, value) for key, value in state.items()]
    whole, left, right = StateHash(), StateHash(), StateHash()
    for row in rows:
        whole.add(*row)
    random.shuffle(rows)
    for number, row in enumerate(rows):
        (left, right)[number % 2].add(*row)
    halves = [half.hashes["t"] for half in (left, right) if half.hashes]
    assert whole.hashes == ({"t": sum_of(halves)} if halves else {})


def test_the_state_hash_keeps_name_key_and_value_apart() -> None:
    """By the length before each."""
    rows = [(b"ab", b"c", b"d"), (b"a", b"bc", b"d"), (b"a", b"b", b"cd"), (b"abcd", b"", b"")]
    assert 4 == len({row_hash(*row) for row in rows})
    expected = sha256(b"\0\0\0\2ab\0\0\0\1c\0\0\0\1d").digest()
    assert int.from_bytes(expected, "big") == row_hash(*rows[0])


async def test_a_description_has_the_sums() -> None:
    manifest = await savepoint(MemoryObjects())
    found = describe(manifest)
    assert (5, 4, manifest.bytes) == (found.rows, found.files, found.bytes)
    assert [("portfolios", 2), ("positions", 3)] == [(table.table, table.rows) for table in found.tables]
    assert [(0, 3, 1), (1, 2, 0)] == [(one.partition, one.rows, one.decisions) for one in found.parts]
    assert found.bytes == sum(table.bytes for table in found.tables) == sum(one.bytes for one in found.parts)

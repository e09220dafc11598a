"""`diff`: what differs between two savepoints, by table and partition.

State hashes say which partitions of which tables differ, and only those are read. If the savepoints have different
partition counts, a key may stand in any partition: then the table is compared as a whole.
"""

from collections.abc import AsyncIterator
from typing import Literal

import msgspec

from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.parquet import ChangelogRow
from portfolio_stream.savepoints.read import file_rows, load
from portfolio_stream.savepoints.state_hash import NOTHING

Change = Literal["added", "removed", "changed"]
KEYS_SHOWN = 1_000  # of a table and partition


class KeyChange(msgspec.Struct, frozen=True):
    change: Change
    #: the parts of the key
    key: tuple[str, ...]


class PartDifference(msgspec.Struct, frozen=True, kw_only=True):
    """Where a table differs. `partition` is None if the whole table was compared."""

    partition: int | None
    #: keys that only the second savepoint has
    added: int
    #: keys that only the first savepoint has
    removed: int
    changed: int
    #: if asked for: the first KEYS_SHOWN
    keys: tuple[KeyChange, ...] = ()


class TableDifference(msgspec.Struct, frozen=True, kw_only=True):
    table: str
    #: of the first and the second savepoint
    rows: tuple[int, int]
    state_hash: tuple[str, str]
    #: empty if the table is the same
    parts: tuple[PartDifference, ...]

    @property
    def is_same(self) -> bool:
        return self.state_hash[0] == self.state_hash[1]


class SavepointDifference(msgspec.Struct, frozen=True, kw_only=True):
    first: str
    second: str
    #: next source offsets by partition; None: the savepoint does not have the partition
    offsets: dict[int, tuple[int | None, int | None]]
    #: by name, also those that are the same
    tables: tuple[TableDifference, ...]

    @property
    def is_same(self) -> bool:
        """Whether the tables are the same."""
        return all(table.is_same for table in self.tables)


async def diff(objects: Objects, first: str, second: str, *, with_keys: bool = False) -> SavepointDifference:
    """Compare two savepoints. Raises SavepointMissing, SavepointTorn or SavepointTampered, which name the culprit."""
    one, other = await load(objects, first), await load(objects, second)
    partitions = sorted(one.offsets.keys() | other.offsets.keys())
    names = sorted({*one.tables, *other.tables})
    return SavepointDifference(
        first=one.id,
        second=other.id,
        offsets={number: (one.offsets.get(number), other.offsets.get(number)) for number in partitions},
        tables=tuple([await _table(objects, one, other, name, with_keys) for name in names]),
    )


async def _table(objects: Objects, one: Manifest, other: Manifest, name: str, with_keys: bool) -> TableDifference:
    whole = (one.state_hash.get(name, NOTHING), other.state_hash.get(name, NOTHING))
    places: list[int | None] = list(range(one.partitions)) if one.partitions == other.partitions else [None]
    parts = [
        await _compare(objects, one, other, name, place, with_keys)
        for place in places
        if whole[0] != whole[1] and (place is None or _hash(one, name, place) != _hash(other, name, place))
    ]
    return TableDifference(
        table=name,
        rows=(one.rows.get(name, 0), other.rows.get(name, 0)),
        state_hash=whole,
        parts=tuple(parts),
    )


def _hash(manifest: Manifest, table: str, partition: int) -> str:
    return manifest.parts[partition].state_hash.get(table, NOTHING)


async def _compare(
    objects: Objects, one: Manifest, other: Manifest, table: str, partition: int | None, with_keys: bool
) -> PartDifference:
    counts: dict[Change, int] = {"added": 0, "removed": 0, "changed": 0}
    keys: list[KeyChange] = []
    async for change, key in _changes(
        _in_order(objects, one, table, partition), _in_order(objects, other, table, partition)
    ):
        counts[change] += 1
        if with_keys and len(keys) < KEYS_SHOWN:
            parts = key[len(table.encode()) + 1 :].decode(errors="replace").split("\x00")
            keys.append(KeyChange(change, tuple(parts)))
    return PartDifference(partition=partition, keys=tuple(keys), **counts)


async def _changes(
    one: AsyncIterator[ChangelogRow], other: AsyncIterator[ChangelogRow]
) -> AsyncIterator[tuple[Change, bytes]]:
    """Walk along two sequences of rows, each in the order of its keys."""
    left, right = await anext(one, None), await anext(other, None)
    while left is not None and right is not None:
        if left[0] < right[0]:
            yield "removed", left[0]
            left = await anext(one, None)
        elif right[0] < left[0]:
            yield "added", right[0]
            right = await anext(other, None)
        else:
            if left[1] != right[1]:
                yield "changed", left[0]
            left, right = await anext(one, None), await anext(other, None)
    while left is not None:
        yield "removed", left[0]
        left = await anext(one, None)
    while right is not None:
        yield "added", right[0]
        right = await anext(other, None)


async def _in_order(
    objects: Objects, manifest: Manifest, table: str, partition: int | None
) -> AsyncIterator[ChangelogRow]:
    """A table's rows of a partition, or of all partitions, in the order of their keys."""
    numbers = range(manifest.partitions) if partition is None else (partition,)
    sources = [_table_rows(objects, manifest, table, number) for number in numbers]
    heads = [(row, number) for number, source in enumerate(sources) if (row := await anext(source, None)) is not None]
    while heads:
        row, number = min(heads)
        yield row
        heads.remove((row, number))
        following = await anext(sources[number], None)
        if following is not None:
            heads.append((following, number))


async def _table_rows(objects: Objects, manifest: Manifest, table: str, partition: int) -> AsyncIterator[ChangelogRow]:
    for file in manifest.parts[partition].files:
        if file.table == table:
            async for some in file_rows(objects, manifest.id, file):
                for row in some:
                    yield row

"""Write a savepoint: each partition's part by the partition's owner, and then the manifest by whoever sees all parts.

1. A part's data files are put first, then `partitions/NN.json`, if there is none. The first part of a partition counts.
   A second writer removes its own files and gets the first one's part.
2. `complete` puts the manifest, if there is none, after all files that the parts name are there. It removes the data
   files that no part names, which a dead attempt left.
3. So a crash at any moment leaves a savepoint without a manifest, which every command calls torn, or a whole one. Both
   functions can be called again at any time.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256

from arro3.core import RecordBatch, Schema

from portfolio_stream.errors import SavepointIncomplete, SavepointTampered, StateUnreadable
from portfolio_stream.savepoints.format_text import format_text
from portfolio_stream.savepoints.manifest import (
    FORMAT_TEXT,
    LATEST,
    MANIFEST,
    FileEntry,
    Head,
    Manifest,
    PartitionPart,
    checked_id,
    data_path,
    encode_json,
    part_path,
    pretty,
    read_manifest,
    read_part,
    utc_text,
)
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.ordered import OrderedRows
from portfolio_stream.savepoints.parquet import ChangelogRow, RowForm, batch_of, file_of, schema_of
from portfolio_stream.savepoints.read import newest_complete
from portfolio_stream.savepoints.state_hash import StateHash, row_hasher

META_KEY = b"\x00META"  # describes a changelog's partition; the part and the manifest say the same in fields
FILE_BYTES = 64 << 20  # of a file's rows before compression: a writer holds one file and one row group in memory


async def write_part(
    objects: Objects,
    *,
    savepoint: str,
    partition: int,
    offset: int,
    changelog_topic_id: str,
    changelog_offset: int,
    outputs: Mapping[str, int],
    fold: str,
    rows: Iterable[ChangelogRow],
    form: RowForm,
    progress: Callable[[int], None] = lambda _rows: None,
) -> PartitionPart:
    """Write one partition's part and return it; if the partition has a part already, return that one.

    `rows` are keys and values as the changelog has them, in the order of the keys; META may be among them, and is left
    out. `progress` is called with the number of rows that are in files so far. Raises SavepointStoreFailed, and
    StateUnreadable for a row that no worker wrote.
    """
    checked_id(savepoint)
    found = await objects.get(f"{savepoint}/{part_path(partition)}")
    if found is not None:
        return read_part(savepoint, partition, found)
    writer = _PartWriter(objects, savepoint, partition, offset, form)
    await writer.write(rows, progress)
    part = PartitionPart(
        savepoint=savepoint,
        partition=partition,
        offset=offset,
        changelog_topic_id=changelog_topic_id,
        changelog_offset=changelog_offset,
        outputs=dict(outputs),
        fold=fold,
        files=tuple(writer.files),
        rows=writer.state.rows,
        state_hash=writer.state.hashes,
        moved=tuple(writer.moved),
    )
    if await objects.put_new(f"{savepoint}/{part_path(partition)}", pretty(part)):
        return part
    winner = await _part(objects, savepoint, partition)
    if winner is None:  # the savepoint has just been deleted
        raise SavepointIncomplete(savepoint, [partition])
    named = {file.path for file in winner.files}
    await objects.delete([f"{savepoint}/{file.path}" for file in part.files if file.path not in named])
    return winner


async def complete(objects: Objects, head: Head, completed_at: str | None = None) -> Manifest:
    """Make the savepoint complete and return its manifest. A manifest that is there already counts.

    Raises SavepointIncomplete if a partition has no part yet.
    """
    checked_id(head.id)
    found = await objects.get(f"{head.id}/{MANIFEST}")
    if found is None:
        parts = await _whole_parts(objects, head)
        fields = {name: getattr(head, name) for name in Head.__struct_fields__}
        manifest = Manifest(**fields, completed_at=completed_at or utc_text(), parts=parts)
        await objects.put(f"{head.id}/{FORMAT_TEXT}", format_text(manifest).encode())
        await objects.put_new(f"{head.id}/{MANIFEST}", pretty(manifest))
        found = await objects.get(f"{head.id}/{MANIFEST}")
        if found is None:  # it has just been deleted
            raise SavepointIncomplete(head.id, list(range(head.partitions)))
    manifest = read_manifest(head.id, found)
    await point_to_latest(objects)
    return manifest


async def point_to_latest(objects: Objects) -> None:
    """Let latest.json name the newest complete savepoint. It is for scripts: nothing here reads it."""
    pointed: str | None = ""
    newest = await newest_complete(objects)
    while newest != pointed:  # another savepoint became complete meanwhile, whose writer pointed to it first
        if newest is None:
            await objects.delete([LATEST])
        else:
            await objects.put(LATEST, encode_json({"id": newest}) + b"\n")
        newest, pointed = await newest_complete(objects), newest


async def missing_parts(objects: Objects, savepoint: str, partitions: int) -> list[int]:
    """The partitions that have no part yet."""
    there = {entry.path for entry in await objects.list(f"{checked_id(savepoint)}/partitions")}
    return [number for number in range(partitions) if f"{savepoint}/{part_path(number)}" not in there]


class _PartWriter:
    """Writes the data files of a part, and remembers what the part says of them."""

    def __init__(self, objects: Objects, savepoint: str, partition: int, offset: int, form: RowForm) -> None:
        self._objects = objects
        self._savepoint = savepoint
        self._partition = partition
        self._offset = offset
        self._form = form
        self.files: list[FileEntry] = []
        self.moved: list[ChangelogRow] = []
        self.state = StateHash()

    async def write(self, rows: Iterable[ChangelogRow], progress: Callable[[int], None]) -> None:
        ordered = OrderedRows(rows)
        while (name := ordered.table()) is not None:
            if name:
                await self._write_table(ordered, name, progress)
            else:
                self.moved += [row for row in ordered.take(name) if row[0] != META_KEY]

    async def _write_table(self, ordered: OrderedRows, name: bytes, progress: Callable[[int], None]) -> None:
        table = _name_of(name)
        number = 0
        schema = schema_of(self._form.columns(table))
        while ordered.table() == name:
            before = ordered.taken
            content = file_of(schema, self._batches(ordered, schema, name, table))
            count = ordered.taken - before
            digest = sha256(content).hexdigest()
            path = data_path(table, self._partition, number, self._offset, digest)
            await self._objects.put(f"{self._savepoint}/{path}", content)
            self.files.append(FileEntry(path=path, table=table, rows=count, bytes=len(content), sha256=digest))
            number += 1
            progress(sum(file.rows for file in self.files))

    def _batches(self, ordered: OrderedRows, schema: Schema, name: bytes, table: str) -> Iterator[RecordBatch]:
        """The next FILE_BYTES of the table's rows. One loop, because a call for each row would cost a tenth more."""
        form, hash_of, own = self._form.form, row_hasher(name), len(name) + 1
        size = 0
        while size < FILE_BYTES and (rows := ordered.take(name)):
            parts, texts, keys, values = [], [], [], []
            total = 0
            for key, value in rows:
                key_of_table = key[own:]
                total += hash_of(key_of_table, value)
                names, text = form(table, key_of_table, value)
                parts.append(names)
                texts.append(text)
                keys.append(key)
                values.append(value)
            self.state.add_sum(name, total, len(rows))
            size += 2 * sum(map(len, keys)) + sum(map(len, texts)) + sum(map(len, values))
            yield batch_of(schema, parts, texts, keys, values)


def _name_of(name: bytes) -> str:
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise StateUnreadable("the name of a table") from None


async def _part(objects: Objects, savepoint: str, partition: int) -> PartitionPart | None:
    found = await objects.get(f"{savepoint}/{part_path(partition)}")
    return None if found is None else read_part(savepoint, partition, found)


async def _whole_parts(objects: Objects, head: Head) -> tuple[PartitionPart, ...]:
    """All parts, after a look whether their files are there. Removes the data files that no part names."""
    found = [await _part(objects, head.id, number) for number in range(head.partitions)]
    parts = tuple(part for part in found if part is not None)
    if len(parts) < head.partitions:
        raise SavepointIncomplete(head.id, [number for number, part in enumerate(found) if part is None])
    there = {entry.path: entry.bytes for entry in await objects.list(f"{head.id}/data")}
    named = {f"{head.id}/{file.path}": file.bytes for part in parts for file in part.files}
    for path, size in named.items():
        if there.get(path) != size:
            raise SavepointTampered(head.id, path.partition("/")[2], "it is missing or has another size")
    await objects.delete(sorted(there.keys() - named.keys()))
    return parts

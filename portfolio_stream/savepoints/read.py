"""Read savepoints: which ones there are, a manifest, and the rows of a partition.

Everything that is read is checked first: a manifest by its rules (`manifest`), a data file by its SHA-256.
"""

from collections.abc import AsyncIterator
from hashlib import sha256

from portfolio_stream.errors import SavepointMissing, SavepointTampered, SavepointTorn
from portfolio_stream.savepoints.manifest import MANIFEST, FileEntry, Manifest, checked_id, is_id, read_manifest
from portfolio_stream.savepoints.objects import ObjectEntry, Objects
from portfolio_stream.savepoints.parquet import ChangelogRow, rows_in

NEWEST = "latest"


async def load(objects: Objects, savepoint: str) -> Manifest:
    """Returns the manifest of a savepoint; `latest`: of the newest complete one.

    Raises SavepointMissing, SavepointTorn if the savepoint has no manifest, and SavepointTampered.
    """
    wanted = await _newest(objects) if savepoint == NEWEST else checked_id(savepoint)
    content = await objects.get(f"{wanted}/{MANIFEST}")
    if content is not None:
        return read_manifest(wanted, content)
    if await objects.list(wanted):
        raise SavepointTorn(wanted)
    raise SavepointMissing(wanted, objects.location)


async def rows(objects: Objects, manifest: Manifest, partition: int) -> AsyncIterator[list[ChangelogRow]]:
    """Yields keys and values as the changelog has them, also the rows that belong to no table.

    No row of a file is given before the whole file has been checked. Raises SavepointTampered, which names the file.
    """
    part = manifest.parts[partition]
    if part.moved:
        yield list(part.moved)
    for file in part.files:
        content = await checked_file(objects, manifest.id, file)
        count = 0
        try:
            for some in rows_in(content):
                count += len(some)
                yield some
        except ValueError as error:
            raise SavepointTampered(manifest.id, file.path, f"it cannot be read: {error}") from error
        if count != file.rows:
            raise SavepointTampered(manifest.id, file.path, f"it has {count} rows instead of {file.rows}")


async def checked_file(objects: Objects, savepoint: str, file: FileEntry) -> bytes:
    content = await objects.get(f"{savepoint}/{file.path}")
    if content is None:
        raise SavepointTampered(savepoint, file.path, "it is missing")
    if len(content) != file.bytes:
        raise SavepointTampered(savepoint, file.path, f"it has {len(content)} bytes instead of {file.bytes}")
    if sha256(content).hexdigest() != file.sha256:
        raise SavepointTampered(savepoint, file.path, "its SHA-256 is another one")
    return content


def by_savepoint(entries: list[ObjectEntry]) -> dict[str, list[ObjectEntry]]:
    """The objects of each savepoint. What is in no savepoint's folder is a stranger's."""
    found: dict[str, list[ObjectEntry]] = {}
    for entry in entries:
        savepoint, _, path = entry.path.partition("/")
        if path and is_id(savepoint):
            found.setdefault(savepoint, []).append(entry)
    return found


def has_manifest(savepoint: str, entries: list[ObjectEntry]) -> bool:
    return any(entry.path == f"{savepoint}/{MANIFEST}" for entry in entries)


async def _newest(objects: Objects) -> str:
    found = by_savepoint(await objects.list())
    complete = [savepoint for savepoint, entries in found.items() if has_manifest(savepoint, entries)]
    if not complete:
        raise SavepointMissing(None, objects.location)
    return max(complete)

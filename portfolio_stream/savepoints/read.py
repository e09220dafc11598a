"""Read savepoints: which ones there are, a manifest, and the rows of a partition.

Everything that is read is checked first: a manifest by its rules (`manifest`), a data file by its SHA-256.
"""

from collections.abc import AsyncIterator
from hashlib import sha256
from typing import Literal

import msgspec

from portfolio_stream.errors import SavepointMissing, SavepointTampered, SavepointTorn
from portfolio_stream.savepoints.manifest import (
    MANIFEST,
    FileEntry,
    Manifest,
    SavepointReason,
    begun_at,
    checked_id,
    is_id,
    read_manifest,
    utc_text,
)
from portfolio_stream.savepoints.objects import ObjectEntry, Objects
from portfolio_stream.savepoints.parquet import ChangelogRow, rows_in

NEWEST = "latest"

SavepointState = Literal["complete", "torn", "damaged"]


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """A savepoint in a list. Of one without a readable manifest only the first fields are known."""

    id: str
    #: torn: there is no manifest, because it is being written or its writer has ended. damaged: see `reason_damaged`
    state: SavepointState
    #: UTC
    begun_at: str
    #: of all its objects
    bytes: int
    #: when its newest object was put, in seconds since 1970
    modified: float
    reason_damaged: str | None = None
    reason: SavepointReason | None = None
    generation: int | None = None
    completed_at: str | None = None
    partitions: int | None = None
    rows: int | None = None
    fold: str | None = None


async def savepoints(objects: Objects) -> list[Summary]:
    """All savepoints, the newest first, also those that are not complete."""
    found = by_savepoint(await objects.list())
    return [await _summary(objects, savepoint, found[savepoint]) for savepoint in sorted(found, reverse=True)]


async def load(objects: Objects, savepoint: str) -> Manifest:
    """Returns the manifest of a savepoint; `latest`: of the newest complete one.

    Raises SavepointMissing, SavepointTorn if the savepoint has no manifest, and SavepointTampered.
    """
    wanted = await newest_complete(objects) if savepoint == NEWEST else checked_id(savepoint)
    if wanted is None:
        raise SavepointMissing(None, objects.location)
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
        async for some in file_rows(objects, manifest.id, file):
            yield some


async def file_rows(objects: Objects, savepoint: str, file: FileEntry) -> AsyncIterator[list[ChangelogRow]]:
    """The rows of one data file. Raises SavepointTampered if the file is not as the manifest says."""
    content = await _checked_content(objects, savepoint, file)
    prefix, count = f"{file.table}\x00".encode(), 0
    try:
        for some in rows_in(content):
            if not all([key.startswith(prefix) for key, _ in some]):
                raise ValueError("it has rows of another table")
            count += len(some)
            yield some
    except ValueError as error:
        raise SavepointTampered(savepoint, file.path, f"its rows cannot be read: {error}") from error
    if count != file.rows:
        raise SavepointTampered(savepoint, file.path, f"it has {count} rows instead of {file.rows}")


async def _checked_content(objects: Objects, savepoint: str, file: FileEntry) -> bytes:
    content = await objects.get(f"{savepoint}/{file.path}")
    if content is None:
        raise SavepointTampered(savepoint, file.path, "it is missing", is_missing=True)
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


async def newest_complete(objects: Objects) -> str | None:
    """Returns the newest savepoint that has a manifest."""
    found = by_savepoint(await objects.list())
    return max((savepoint for savepoint, entries in found.items() if has_manifest(savepoint, entries)), default=None)


async def _summary(objects: Objects, savepoint: str, entries: list[ObjectEntry]) -> Summary:
    known = Summary(
        id=savepoint,
        state="torn",
        begun_at=utc_text(begun_at(savepoint)),
        bytes=sum(entry.bytes for entry in entries),
        modified=max(entry.modified for entry in entries),
    )
    if not has_manifest(savepoint, entries):
        return known
    try:
        manifest = await load(objects, savepoint)
    except SavepointTampered as error:
        return msgspec.structs.replace(known, state="damaged", reason_damaged=error.reason)
    except (SavepointTorn, SavepointMissing):  # it is being deleted
        return known
    return msgspec.structs.replace(
        known,
        state="complete",
        reason=manifest.reason,
        generation=manifest.generation,
        completed_at=manifest.completed_at,
        partitions=manifest.partitions,
        rows=sum(manifest.rows.values()),
        fold=manifest.fold,
    )

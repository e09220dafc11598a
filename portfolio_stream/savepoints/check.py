"""`verify`: whether everything of a savepoint is there, and is as it was written.

The manifest is compared with the parts beside it. Each data file is compared with the manifest: its size, its SHA-256,
its number of rows. The rows are compared with the state hash of their table and partition, and must stand in the order
of their keys. What nobody names is stray: another program's query would read a stray data file too.
"""

from collections.abc import Callable
from typing import Literal, NamedTuple

import msgspec

from portfolio_stream.errors import SavepointMissing, SavepointTampered, SavepointTorn
from portfolio_stream.savepoints.manifest import (
    FORMAT_TEXT,
    MANIFEST,
    FileEntry,
    Manifest,
    PartitionPart,
    part_path,
    read_part,
)
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import file_rows, load
from portfolio_stream.savepoints.state_hash import StateHash, row_hasher

Fault = Literal["torn", "tampered", "missing", "stray"]


class SavepointFault(msgspec.Struct, frozen=True):
    kind: Fault
    #: within the savepoint
    path: str
    reason: str


class SavepointCheck(msgspec.Struct, frozen=True, kw_only=True):
    savepoint: str
    #: that were read whole
    files: int
    rows: int
    bytes: int
    faults: tuple[SavepointFault, ...]

    @property
    def is_whole(self) -> bool:
        return not self.faults


class CheckProgress(NamedTuple):
    bytes: int
    of_bytes: int


async def verify(
    objects: Objects, savepoint: str, progress: Callable[[CheckProgress], None] = lambda _done: None
) -> SavepointCheck:
    """Check a savepoint; `latest`: the newest complete one. Raises SavepointMissing if there is none of this name.

    Reads every file, one at a time.
    """
    checker = _Checker(objects, progress)
    try:
        manifest = await load(objects, savepoint)
    except SavepointTorn as error:
        checker.add("torn", MANIFEST, "it is missing: the savepoint is being written, or its writer has ended")
        return checker.result(error.savepoint)
    except SavepointTampered as error:
        checker.add("tampered", error.path, error.reason)
        return checker.result(error.savepoint)
    await checker.check(manifest)
    return checker.result(manifest.id)


class _Checker:
    def __init__(self, objects: Objects, progress: Callable[[CheckProgress], None]) -> None:
        self._objects = objects
        self._progress = progress
        self._faults: list[SavepointFault] = []
        self._files = self._rows = self._bytes = 0

    def add(self, kind: Fault, path: str, reason: str) -> None:
        self._faults.append(SavepointFault(kind, path, reason))

    def result(self, savepoint: str) -> SavepointCheck:
        faults = tuple(self._faults)
        return SavepointCheck(savepoint=savepoint, files=self._files, rows=self._rows, bytes=self._bytes, faults=faults)

    async def check(self, manifest: Manifest) -> None:
        there = {entry.path.removeprefix(f"{manifest.id}/") for entry in await self._objects.list(manifest.id)}
        if not there:
            raise SavepointMissing(manifest.id, self._objects.location)
        named = {MANIFEST, FORMAT_TEXT}
        for part in manifest.parts:
            named |= {part_path(part.partition), *(file.path for file in part.files)}
            await self._check_part(manifest, part)
            await self._check_rows(manifest, part)
        if FORMAT_TEXT not in there:
            self.add("missing", FORMAT_TEXT, "it is missing; the state is whole without it")
        for path in sorted(there - named):
            self.add("stray", path, "nothing of the savepoint names it")

    async def _check_part(self, manifest: Manifest, part: PartitionPart) -> None:
        """Two objects say the same of a part: whoever changes one of them is found by the other."""
        path = part_path(part.partition)
        content = await self._objects.get(f"{manifest.id}/{path}")
        if content is None:
            self.add("missing", path, "it is missing")
            return
        try:
            if read_part(manifest.id, part.partition, content) != part:
                self.add("tampered", path, f"it differs from {MANIFEST}")
        except SavepointTampered as error:
            self.add("tampered", path, error.reason)

    async def _check_rows(self, manifest: Manifest, part: PartitionPart) -> None:
        state = StateHash()
        is_whole = True
        for file in part.files:
            is_whole = await self._add_rows(state, manifest, file) and is_whole
            self._progress(CheckProgress(self._bytes, manifest.bytes))
        if is_whole and state.hashes != part.state_hash:
            self.add("tampered", part_path(part.partition), "the rows of its files have another state hash")

    async def _add_rows(self, state: StateHash, manifest: Manifest, file: FileEntry) -> bool:
        table = file.table.encode()
        hash_of, own = row_hasher(table), len(table) + 1
        last, total = b"", 0
        try:
            async for some in file_rows(self._objects, manifest.id, file):
                for key, value in some:
                    if key <= last:
                        raise SavepointTampered(manifest.id, file.path, "its rows are not in the order of their keys")
                    last = key
                    total += hash_of(key[own:], value)
        except SavepointTampered as error:
            self.add("missing" if error.is_missing else "tampered", error.path, error.reason)
            return False
        finally:
            self._bytes += file.bytes
        state.add_sum(table, total, file.rows)
        self._files += 1
        self._rows += file.rows
        return True

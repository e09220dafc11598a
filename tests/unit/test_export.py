"""An export writes the parts of a savepoint out of a copy of the store; here in the caller's loop."""

from pathlib import Path

import pytest

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.database import RocksCopy
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.jobs.copies import copies_of
from portfolio_stream.jobs.exporting import ExportProgress, InProcessExporter
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.savepoints.write import missing_parts
from tables.row_form import TableRows
from tests.unit.state_copies import SAVEPOINT, check, copied


async def test_an_export_writes_each_part_of_a_copy(tmp_path: Path) -> None:
    """Tables go into files, operators' decisions into the part, and META into neither."""
    objects, told = MemoryObjects(), list[ExportProgress]()
    exporter = InProcessExporter(objects, RocksCopy, TableRows({}))
    written = [part async for part in exporter.export(await copied(tmp_path), SAVEPOINT, told.append)]
    assert [0, 1] == [part.partition for part in written]
    for part in written:
        check(part)
    assert [(0, 3), (1, 3)] == [(progress.partition, progress.rows) for progress in told]
    assert [] == await missing_parts(objects, SAVEPOINT, 2)


async def test_a_damaged_copy_is_never_a_part(tmp_path: Path) -> None:
    """RocksDB tells a damaged block from the end of the rows."""
    copy = await copied(tmp_path, rows=5_000)
    (file,) = copy.folder.glob("*.sst")
    content = bytearray(file.read_bytes())
    content[200:260] = bytes(60)
    file.write_bytes(content)
    objects = MemoryObjects()
    with pytest.raises(StoreFailed, match="copy"):
        await anext(InProcessExporter(objects, RocksCopy, TableRows({})).export(copy, SAVEPOINT))
    assert [0, 1] == await missing_parts(objects, SAVEPOINT, 2)


async def test_leftover_copies_of_a_killed_worker_are_removed(tmp_path: Path) -> None:
    """The next process of the identity removes them. The store itself stays."""
    identity = claim(tmp_path, "w")
    await copied(identity.folder)
    (identity.folder / "copy").rename(identity.folder / "copies")
    assert not copies_of(identity).exists()
    assert (identity.folder / "store" / "CURRENT").exists()
    release(identity)

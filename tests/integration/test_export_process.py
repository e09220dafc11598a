"""An export in a child process: what it writes, and how it ends when the child, the reader or the worker does."""

import asyncio
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path

import pytest

from portfolio_stream.errors import ExportFailed, StoreFailed
from portfolio_stream.exactly_once.database import RocksCopy
from portfolio_stream.exactly_once.operations import CopiedPartition, StateCopy
from portfolio_stream.jobs.export_process import ChildExporter
from portfolio_stream.jobs.exporting import ExportProgress, InProcessExporter
from portfolio_stream.savepoints.objects import MemoryObjects, open_objects
from portfolio_stream.savepoints.write import missing_parts
from tables.row_form import TableRows
from tests.unit.state_copies import SAVEPOINT, check, copied

ROOT = Path(__file__).parents[2]


async def test_a_child_process_writes_each_part_of_a_copy(tmp_path: Path) -> None:
    """Tables go into files, operators' decisions into the part, and META into neither. The child is gone afterwards."""
    exporter, told = ChildExporter(str(tmp_path / "savepoints")), list[ExportProgress]()
    written = [part async for part in exporter.export(await copied(tmp_path), SAVEPOINT, told.append)]
    assert [0, 1] == [part.partition for part in written]
    for part in written:
        check(part)
    assert [(0, 3), (1, 3)] == [(progress.partition, progress.rows) for progress in told]
    assert [] == await missing_parts(open_objects(str(tmp_path / "savepoints")), SAVEPOINT, 2)
    assert exporter.pid is None


async def test_both_exporters_write_the_same(tmp_path: Path) -> None:
    """So what the simulation proves of one holds for the other."""
    copy = await copied(tmp_path)
    exporter = InProcessExporter(MemoryObjects(), RocksCopy, TableRows({}))
    inside = [part async for part in exporter.export(copy, SAVEPOINT)]
    child = ChildExporter(str(tmp_path / "savepoints"))
    assert inside == [part async for part in child.export(copy, SAVEPOINT)]


async def test_the_error_of_a_child_reaches_the_operator(tmp_path: Path) -> None:
    """With its cause and its action, and no traceback."""
    copy = StateCopy(tmp_path / "nothing", {0: CopiedPartition(0, "c", 0, {}, "f")}, {})
    with pytest.raises(ExportFailed, match=r"local store at .*nothing failed") as failed:
        await anext(ChildExporter(str(tmp_path)).export(copy, SAVEPOINT))
    assert StoreFailed(tmp_path, "").action == failed.value.action


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("import os; os.kill(os.getpid(), 9)", "exit code -9"),
        ("print('{\"part\"', end='')", "exit code 0"),
        ("", "exit code 0"),
    ],
)
async def test_a_child_that_dies_fails_the_export(tmp_path: Path, code: str, reason: str) -> None:
    """Also if it says that all is well, but a part is missing."""
    copy = StateCopy(tmp_path, {0: CopiedPartition(0, "c", 0, {}, "f")}, {})
    exporter = ChildExporter(str(tmp_path), (sys.executable, "-c", code))
    with pytest.raises(ExportFailed, match=reason):
        await anext(exporter.export(copy, SAVEPOINT))


async def test_the_child_stands_back_behind_its_worker(tmp_path: Path) -> None:
    """It runs when nobody else wants its core, in the worker's session. Ctrl-C of a terminal does not reach it."""
    exporter = ChildExporter(str(tmp_path / "savepoints"))
    async with aclosing(exporter.export(await copied(tmp_path), SAVEPOINT)) as parts:
        await anext(parts)
        pid = exporter.pid or 0
        assert (19, os.SCHED_IDLE) == (os.getpriority(os.PRIO_PROCESS, pid), os.sched_getscheduler(pid))
        assert (os.getsid(0), pid) == (os.getsid(pid), os.getpgid(pid))


async def test_a_closed_export_kills_its_child(tmp_path: Path) -> None:
    """And the next export begins at once."""
    exporter = ChildExporter(str(tmp_path / "savepoints"))
    copy = await copied(tmp_path)
    async with aclosing(exporter.export(copy, SAVEPOINT)) as parts:
        await anext(parts)
        pid = exporter.pid
    assert pid is not None and exporter.pid is None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert 2 == len([part async for part in exporter.export(copy, SAVEPOINT)])


#: exports a copy, says which process is the child, and stands still
PARENT = """
import asyncio, sys
from pathlib import Path
from portfolio_stream.exactly_once.operations import CopiedPartition, StateCopy
from portfolio_stream.jobs.export_process import ChildExporter

async def main(folder):
    copy = StateCopy(folder / "copy", {p: CopiedPartition(50, "c", 90, {}, "f") for p in range(8)}, {})
    exporter = ChildExporter(str(folder / "savepoints"))
    running = asyncio.create_task(anext(exporter.export(copy, "20261129T203512Z-4f2a9c")))
    while exporter.pid is None:
        await asyncio.sleep(0.001)
    print(exporter.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main(Path(sys.argv[1])))
"""


async def test_a_child_ends_with_its_killed_parent(tmp_path: Path) -> None:
    """kill -9 of the worker: no export goes on without it, and it has written no part of a partition it had begun."""
    await copied(tmp_path, partitions=8, rows=60_000)
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PARENT, str(tmp_path), cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    await parent.wait()
    async with asyncio.timeout(10):
        while is_alive(pid):  # noqa: ASYNC110  it is no child of this process
            await asyncio.sleep(0.01)
    assert await missing_parts(open_objects(str(tmp_path / "savepoints")), SAVEPOINT, 8)


def is_alive(pid: int) -> bool:
    """A zombie, which nobody has waited for, is dead."""
    try:
        return ") Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False

"""Exports in a child process: reading and packing a million rows takes seconds of CPU, which the worker's loop has not.

1. One export runs at a time: each takes a core, and the memory of a file.
2. The child ends with this process (see `export_child`), and when its export is closed. Ctrl-C of a terminal does not
   reach the child, which has a process group of its own.
3. The child has the session of this process. Linux shares the cores out to sessions first (autogroup): in a session of
   its own the child would get as much as the worker, whatever its nice value is.
"""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import ExportFailed
from portfolio_stream.exactly_once.operations import StateCopy
from portfolio_stream.jobs.export_lines import ExportFailure, ExportOrder, Line, decode_line, encode
from portfolio_stream.jobs.exporting import Export, TellProgress, ignore
from portfolio_stream.savepoints.manifest import PartitionPart

COMMAND = (sys.executable, "-m", "portfolio_stream.jobs.export_child")
END_SECONDS = 5.0  # of Python's own end, after the last line
LINE_BYTES = 64 << 20  # of a part with many decisions of operators


class ChildExporter:
    def __init__(self, location: str, command: Sequence[str] = COMMAND) -> None:
        """`location`: where savepoints are kept, as `open_objects` takes it."""
        self._location = location
        self._command = command
        self._lock = asyncio.Lock()
        #: process id of the child; None if no export runs
        self.pid: int | None = None

    async def export(
        self, copied: StateCopy, savepoint: str, tell: TellProgress = ignore
    ) -> AsyncGenerator[PartitionPart, None]:
        """See Exporter. Raises ExportFailed."""
        order = ExportOrder(export=Export.of(copied, savepoint), location=self._location)
        async with self._lock:
            child = await self._start()
            self.pid = child.pid
            assert child.stdin is not None and child.stdout is not None  # noqa: S101  both are pipes
            missing, failed = set(copied.parts), None
            try:
                child.stdin.write(encode(order) + b"\n")
                while line := await child.stdout.readline():
                    news = _read(line)
                    if news.progress is not None:
                        tell(news.progress)
                    elif news.part is not None:
                        missing.discard(news.part.partition)
                        yield news.part
                    elif news.failure is not None:
                        failed = news.failure
                code = await _ended(child)
                if missing:
                    raise _failed(failed, code)
            finally:
                if child.returncode is None:
                    child.kill()
                await child.wait()
                self.pid = None

    async def _start(self) -> Process:
        try:
            return await asyncio.create_subprocess_exec(
                *self._command, stdin=PIPE, stdout=PIPE, limit=LINE_BYTES, process_group=0
            )
        except OSError as error:  # no memory, or too many processes
            raise ExportFailed(f"its process could not be started: {error.strerror}") from error


async def _ended(child: Process) -> int | None:
    """Wait for the end of a child whose output has ended. Returns its exit code, or None if it does not end.

    A kill in this moment may take the exit code away from asyncio, which then warns of an unknown child.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            await child.wait()
    return child.returncode


def _read(line: bytes) -> Line:
    """Returns a line without news if the child was killed in the middle of the line."""
    try:
        return decode_line(line)
    except UNDECODABLE:
        return Line()


def _failed(failure: ExportFailure | None, code: int | None) -> ExportFailed:
    if failure is not None:
        return ExportFailed(failure.cause.rstrip("."), failure.action)
    return ExportFailed(f"its process ended with exit code {code}")

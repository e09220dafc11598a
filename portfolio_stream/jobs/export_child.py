"""The child process of an export: reads a copy of the store, writes the parts of a savepoint, and tells of it in lines.

    python -m portfolio_stream.jobs.export_child      an `ExportOrder` on standard input, as one line

1. It runs when nobody else wants its core (SCHED_IDLE, where the system has it), and has nice 19. On two busy cores the
   worker's p99 rose by 1.1 times during an export; with nice 19 alone it rose by 2.2 times, because such a process is
   not interrupted at once. Linux also serves its disk requests after those of the worker.
2. It ends when its standard input ends, which is when the worker ends, however that comes. The pipe tells that on every
   system, and also if the worker was killed before the child had started.
"""

import asyncio
import os
import sys
import threading
from contextlib import aclosing

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.exactly_once.database import RocksCopy
from portfolio_stream.jobs.export_lines import ExportFailure, ExportOrder, Line, decode_order, encode
from portfolio_stream.jobs.exporting import ExportProgress, write_parts
from portfolio_stream.savepoints.objects import end_process, open_objects
from tables.catalog import TABLES
from tables.row_form import TableRows

NICE = 19
FAILED, PARENT_GONE = 1, 3  # exit codes


def main() -> int:
    _stand_back()
    order = sys.stdin.buffer.readline()
    if not order.endswith(b"\n"):
        return PARENT_GONE
    threading.Thread(target=_end_with_parent, daemon=True, name="parent").start()
    try:
        asyncio.run(_export(decode_order(order)))
    except PortfolioStreamError as error:
        _tell(Line(failure=ExportFailure.of(error)))
        return FAILED
    return 0


def _stand_back() -> None:
    os.nice(NICE)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


async def _export(order: ExportOrder) -> None:
    objects = open_objects(order.location)
    async with aclosing(write_parts(order.export, objects, RocksCopy, TableRows(TABLES), _tell_progress)) as written:
        async for part in written:
            _tell(Line(part=part))


def _tell_progress(progress: ExportProgress) -> None:
    _tell(Line(progress=progress))


def _tell(line: Line) -> None:
    sys.stdout.buffer.write(encode(line) + b"\n")
    sys.stdout.buffer.flush()


def _end_with_parent() -> None:
    while os.read(0, 1):  # sys.stdin has a lock, on which the interpreter's end would fail
        """The parent writes nothing more."""
    os._exit(PARENT_GONE)


if __name__ == "__main__":
    end_process(main())

"""Writes the parts of a savepoint out of a copy of the store, one partition after the other.

`export_process` does that in a child process, beside the worker. `InProcessExporter` does it in the caller's loop, for
the simulation: without a thread, and in the same order whenever it runs.
"""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Protocol

import msgspec

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.database import Cursor
from portfolio_stream.exactly_once.operations import CopiedPartition, StateCopy
from portfolio_stream.exactly_once.recent import Row
from portfolio_stream.exactly_once.store import copied_rows
from portfolio_stream.savepoints.manifest import PartitionPart
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.parquet import RowForm
from portfolio_stream.savepoints.write import write_part


class ExportProgress(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    #: of this partition, in the savepoint's files so far
    rows: int


TellProgress = Callable[[ExportProgress], None]


def ignore(progress: ExportProgress) -> None:
    """Nobody follows the progress."""


class Exporter(Protocol):
    """Writes parts of a savepoint out of a copy of the store."""

    def export(
        self, copied: StateCopy, savepoint: str, tell: TellProgress = ignore
    ) -> AsyncGenerator[PartitionPart, None]:
        """Write the parts, and give each part when it is written.

        Closing the generator ends the export: read it in `contextlib.aclosing`. Parts that were written remain. Raises
        PortfolioStreamError.
        """
        ...


class Copied(Protocol):
    """An open copy of the store."""

    def cursor(self) -> Cursor: ...
    def close(self) -> None: ...


class Export(msgspec.Struct, frozen=True, kw_only=True):
    """What is written: the partitions of a copy, as parts of a savepoint."""

    savepoint: str
    #: of the copy
    folder: str
    parts: dict[int, CopiedPartition]

    @classmethod
    def of(cls, copied: StateCopy, savepoint: str) -> "Export":
        return cls(savepoint=savepoint, folder=str(copied.folder), parts=dict(copied.parts))


async def write_parts(
    export: Export, objects: Objects, open_copy: Callable[[Path], Copied], form: RowForm, tell: TellProgress
) -> AsyncGenerator[PartitionPart, None]:
    """Write the parts in the order of their partitions.

    Raises SavepointStoreFailed, StateUnreadable, and StoreFailed for a copy that cannot be read.
    """
    folder = Path(export.folder)
    try:
        copy = open_copy(folder)
    except Exception as error:  # rocksdict raises bare ones
        raise StoreFailed(folder, str(error)) from error
    with closing(copy):
        for partition, copied in sorted(export.parts.items()):

            def tell_rows(rows: int, partition: int = partition) -> None:
                tell(ExportProgress(partition=partition, rows=rows))

            yield await write_part(
                objects,
                savepoint=export.savepoint,
                partition=partition,
                offset=copied.offset,
                changelog_topic_id=copied.changelog_topic_id,
                changelog_offset=copied.changelog_offset,
                outputs=copied.outputs,
                fold=copied.fold,
                rows=_rows(folder, copy, partition),
                form=form,
                progress=tell_rows,
            )


def _rows(folder: Path, copy: Copied, partition: int) -> Iterator[Row]:
    try:
        yield from copied_rows(copy.cursor(), partition)
    except Exception as error:  # rocksdict raises bare ones
        raise StoreFailed(folder, str(error)) from error


class InProcessExporter:
    def __init__(self, objects: Objects, open_copy: Callable[[Path], Copied], form: RowForm) -> None:
        self._objects = objects
        self._open_copy = open_copy
        self._form = form

    def export(
        self, copied: StateCopy, savepoint: str, tell: TellProgress = ignore
    ) -> AsyncGenerator[PartitionPart, None]:
        """See Exporter."""
        return write_parts(Export.of(copied, savepoint), self._objects, self._open_copy, self._form, tell)

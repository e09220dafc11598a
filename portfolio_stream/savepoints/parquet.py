"""The rows of a table as a Parquet file, and back.

Columns: the parts of the key as text, `value` as JSON text, `raw_key` and `raw_value` as the changelog has them. Equal
rows give equal bytes.
"""

from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Protocol, TypeVar

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema, Table
from arro3.io import read_parquet, write_parquet

COMPRESSION = "zstd(3)"
GROUP_ROWS = 65_536  # rows of a row group: a reader that wants one key decodes one group
READ_ROWS = 8_192  # that are decoded at a time

_TEXT = DataType.string()
_BYTES = DataType.binary()
_PANIC = "PanicException"  # of a Rust library: a BaseException that cannot be imported

T = TypeVar("T")
ChangelogRow = tuple[bytes, bytes]


class RowForm(Protocol):
    """How rows look to people. It raises StateUnreadable for a row that no worker wrote."""

    def columns(self, table: str) -> tuple[str, ...]:
        """Names of the key's parts."""
        ...

    def form(self, table: str, key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
        """The parts of a table's own key, and the value as JSON text in UTF-8."""
        ...


class Columns:
    """Rows of one table on their way into a file."""

    def __init__(self, names: tuple[str, ...]) -> None:
        fields = [*(Field(name, _TEXT, nullable=False) for name in (*names, "value"))]
        fields += [Field(name, _BYTES, nullable=False) for name in ("raw_key", "raw_value")]
        self._schema = Schema(fields)
        self._batches: list[RecordBatch] = []
        self._parts: list[tuple[str, ...]] = []
        self._texts: list[bytes] = []
        self._keys: list[bytes] = []
        self._values: list[bytes] = []
        self.rows = 0

    def add(self, parts: tuple[str, ...], text: bytes, key: bytes, value: bytes) -> None:
        self._parts.append(parts)
        self._texts.append(text)
        self._keys.append(key)
        self._values.append(value)

    @property
    def waiting(self) -> int:
        """Rows that no batch has yet."""
        return len(self._keys)

    def batch(self) -> None:
        """Move the waiting rows into Arrow's arrays, which need less memory."""
        if not self._keys:
            return
        arrays = [Array(part, type=_TEXT) for part in zip(*self._parts, strict=True)]
        arrays.append(Array(self._texts, type=_BYTES).cast(_TEXT))
        arrays += [Array(column, type=_BYTES) for column in (self._keys, self._values)]
        self._batches.append(RecordBatch.from_arrays(arrays, schema=self._schema))
        self.rows += len(self._keys)
        for column in (self._parts, self._texts, self._keys, self._values):
            column.clear()

    def file(self) -> bytes:
        """The file with all rows."""
        self.batch()
        file = BytesIO()
        table = Table.from_batches(self._batches, schema=self._schema)
        write_parquet(table, file, compression=COMPRESSION, max_row_group_size=GROUP_ROWS)
        return file.getvalue()


def rows_in(file: bytes) -> Iterator[list[ChangelogRow]]:
    """Keys and values as the changelog has them. Raises ValueError for a file that is none of ours."""
    reader = _read(lambda: read_parquet(BytesIO(file), batch_size=READ_ROWS))
    while (rows := _read(lambda: _next_rows(reader))) is not None:
        yield rows


def _next_rows(reader: RecordBatchReader) -> list[ChangelogRow] | None:
    batch = next(reader, None)
    if batch is None:
        return None
    rows = list(zip(batch["raw_key"].to_pylist(), batch["raw_value"].to_pylist(), strict=True))
    if not all([type(key) is bytes and type(value) is bytes for key, value in rows]):
        raise ValueError("keys and values are no bytes")
    return rows


def _read(read: Callable[[], T]) -> T:
    try:
        return read()
    except BaseException as error:
        if isinstance(error, Exception) or type(error).__name__ == _PANIC:
            raise ValueError(str(error)) from error
        raise

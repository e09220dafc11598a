"""The rows of a table as a Parquet file, and back.

Columns: the parts of the key as text, `value` as JSON text, `raw_key` and `raw_value` as the changelog has them. Equal
rows give equal bytes.
"""

from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
from typing import Protocol, TypeVar

from arro3.core import Array, DataType, Field, RecordBatch, RecordBatchReader, Schema
from arro3.io import read_parquet, write_parquet

COMPRESSION = "zstd(1)"  # of our tables: 2 % more bytes than level 3, in two thirds of the time
#: a dictionary of values that all differ costs both
_DICTIONARIES: dict[str | Sequence[str], bool] = {"value": False, "raw_key": False, "raw_value": False}
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


def schema_of(names: tuple[str, ...]) -> Schema:
    texts = [Field(name, _TEXT, nullable=False) for name in (*names, "value")]
    return Schema([*texts, *(Field(name, _BYTES, nullable=False) for name in ("raw_key", "raw_value"))])


def batch_of(
    schema: Schema, parts: list[tuple[str, ...]], texts: list[bytes], keys: list[bytes], values: list[bytes]
) -> RecordBatch:
    """The columns of some rows."""
    arrays = [Array(part, type=_TEXT) for part in zip(*parts, strict=True)]
    arrays.append(Array(texts, type=_BYTES).cast(_TEXT))
    arrays += [Array(column, type=_BYTES) for column in (keys, values)]
    return RecordBatch.from_arrays(arrays, schema=schema)


def file_of(schema: Schema, batches: Iterator[RecordBatch]) -> bytes:
    """Pulls one batch after the other, so that only the rows of a group are in memory, besides the file."""
    failed: list[Exception] = []

    def kept() -> Iterator[RecordBatch]:
        try:
            yield from batches
        except Exception as error:  # Arrow would raise another one, with only its text
            failed.append(error)
            raise

    file = BytesIO()
    try:
        reader = RecordBatchReader.from_batches(schema, kept())
        write_parquet(
            reader,
            file,
            compression=COMPRESSION,
            column_dictionary_enabled=_DICTIONARIES,
            max_row_group_size=GROUP_ROWS,
        )
    except Exception:
        if failed:
            raise failed[0] from None
        raise
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

"""Reads the record batches that aiokafka refuses: to Kafka a header's name is bytes, and Java's client takes any.

As there, what is no UTF-8 in a name becomes U+FFFD. One record with such a name would otherwise stop its partition for
good, with every record of its batch.
"""

from struct import Struct
from typing import Any, SupportsIndex

import aiokafka.consumer.fetcher as fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy

_BATCH_START = Struct(">qi")  # base offset, and how many bytes follow


class _Lenient(bytearray):
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, "replace")


class KeptRecords(fetcher.MemoryRecords):  # type: ignore[misc]
    """What one fetch brought of a partition, and its bytes: aiokafka's C code gives them to nobody."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.data = data


def read_leniently(records: KeptRecords, base_offset: int) -> list[Any]:
    """The records of one of its batches, by aiokafka's Python code. Raises as that does if it is corrupt."""
    start = 0
    while start < len(records.data):
        offset, length = _BATCH_START.unpack_from(records.data, start)
        end = start + _BATCH_START.size + length
        if offset == base_offset:
            batch = _DefaultRecordBatchPy(bytearray(records.data[start:end]))
            batch._maybe_uncompress()
            batch._buffer = _Lenient(batch._buffer)
            return list(batch)
        start = end
    raise ValueError(f"no batch at offset {base_offset}")


fetcher.MemoryRecords = KeptRecords

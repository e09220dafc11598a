"""Reads and writes header names that are not UTF-8. To Kafka a name is bytes, and Java's client accepts any bytes.

In Python a name is a str. Each byte that is not UTF-8 becomes a lone surrogate (PEP 383), so `bytes_of` returns exactly
the original bytes. aiokafka's C code neither reads nor writes such a name. Its Python code does, with the subclasses
here.
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint_py

Headers = Sequence[tuple[str, bytes | None]]

MAGIC, NO_COMPRESSION = 2, 0


def bytes_of(name: str) -> bytes:
    """Returns the name as Kafka stores it."""
    return name.encode(errors="surrogateescape")


def is_text(name: str) -> bool:
    """Whether the name is UTF-8.

    Never give another name to a producer's send(): send() raises, and stop() then waits for ever for an empty batch.
    """
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


class _Lenient(bytearray):
    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        found = super().__getitem__(index)
        return _Lenient(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "surrogateescape") -> str:
        return super().decode(encoding, "surrogateescape")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    def _read_msg(self, decode_varint: Any = decode_varint_py) -> Any:
        """Read a record. aiokafka's C varint, its default, would read beyond the end of a cut batch."""
        return super()._read_msg(decode_varint)


def lenient_batch(data: bytearray, position: int, index: int) -> Any:
    """Returns an iterator over the records of an uncompressed batch. It begins at record `index`, at byte `position`.

    A record takes 10 us; with aiokafka's C code it takes less than 1.
    """
    batch = _LenientBatch(data)
    batch._buffer = _Lenient(batch._buffer)
    batch._pos, batch._next_record_index = position, index
    return batch


class _Name(str):
    """A name that aiokafka's Python code encodes into its original bytes."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return bytes_of(str(self))


def batch_of_one(
    timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers, *, is_transactional: bool
) -> Any:
    """Returns a batch builder with one record, whose header names may be any bytes."""
    builder = _DefaultRecordBatchBuilderPy(MAGIC, NO_COMPRESSION, int(is_transactional), -1, -1, 0, 0)
    builder.append(0, timestamp, key, value, [(_Name(name), content) for name, content in headers])
    return builder


def sendable_batch_of_one(producer: Any, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
    """Returns a batch of one record for `send_batch` of aiokafka's producer. The timestamp is the time of this call."""
    made = batch_of_one(None, key, value, headers, is_transactional=False)
    batch = producer.create_batch()
    batch._builder, batch._relative_offset = made, 1
    batch._set_producer_state = made.set_producer_state  # aiokafka's own method needs a builder of its C code
    batch.close()
    return batch

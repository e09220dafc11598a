"""Header names that are no UTF-8: to Kafka a header's name is bytes, and Java's client takes any.

A name is a str here; each of its bytes that is no UTF-8 stands in it as a lone surrogate (PEP 383), so `bytes_of` gives
the very bytes back. aiokafka's C code neither reads nor writes such a name; its Python code does, with a little help.
"""

from collections.abc import Sequence
from typing import Any, SupportsIndex

from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy, _DefaultRecordBatchPy
from aiokafka.record.util import decode_varint_py

Headers = Sequence[tuple[str, bytes | None]]

MAGIC, NO_COMPRESSION = 2, 0


def bytes_of(name: str) -> bytes:
    """As it stands in Kafka."""
    return name.encode(errors="surrogateescape")


def is_text(name: str) -> bool:
    """False for a name that is no UTF-8.

    A producer's send() must not meet one: it raises, and its stop waits for ever for an empty batch.
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
        """aiokafka's C varint, the default, reads beyond the end of what is cut."""
        return super()._read_msg(decode_varint)


def lenient_batch(data: bytearray, position: int, index: int) -> Any:
    """An iterator over the records of an uncompressed batch, from the one at byte `position`, its `index`th, on.

    A record costs 10 us, where aiokafka's C code takes less than one.
    """
    batch = _LenientBatch(data)
    batch._buffer = _Lenient(batch._buffer)
    batch._pos, batch._next_record_index = position, index
    return batch


class _Name(str):
    """What aiokafka's Python code encodes as it is."""

    __slots__ = ()

    def encode(self, *_: object) -> bytes:
        return bytes_of(str(self))


def batch_of_one(
    timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers, *, is_transactional: bool
) -> Any:
    """A builder that holds one record, whatever its headers' names."""
    builder = _DefaultRecordBatchBuilderPy(MAGIC, NO_COMPRESSION, int(is_transactional), -1, -1, 0, 0)
    builder.append(0, timestamp, key, value, [(_Name(name), content) for name, content in headers])
    return builder


def sendable_batch_of_one(producer: Any, key: bytes | None, value: bytes | None, headers: Headers) -> Any:
    """The same for aiokafka's producer, to be given to its send_batch; its timestamp is the time of this call."""
    made = batch_of_one(None, key, value, headers, is_transactional=False)
    batch = producer.create_batch()
    batch._builder, batch._relative_offset = made, 1
    batch._set_producer_state = made.set_producer_state  # aiokafka's own asks for its C code
    batch.close()
    return batch

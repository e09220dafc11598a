"""Record batches as strangers can make them: small on the wire and large once decompressed, or with odd header names.

A broker takes each of them: what it checks is right.
"""

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
CHUNK = 1 << 20


def varint(number: int) -> bytes:
    out = bytearray()
    encode_varint(number, out.append)
    return bytes(out)


def record(index: int, key: bytes, value: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """One record of a batch."""
    return b"".join(_record(index, key, len(value), lambda _: [value], headers))


def spaces(size: int) -> Iterator[bytes]:
    for at in range(0, size, CHUNK):
        yield b" " * min(CHUNK, size - at)


def _record(
    index: int,
    key: bytes,
    size: int,
    value: Callable[[int], Iterable[bytes]],
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> Iterator[bytes]:
    listed = [varint(len(name)) + name + varint(len(content)) + content for name, content in headers]
    tail = varint(len(listed)) + b"".join(listed)
    head = b"\x00" + varint(0) + varint(index) + varint(len(key)) + key + varint(size)
    yield varint(len(head) + size + len(tail)) + head
    yield from value(size)
    yield tail


def bomb(records: int, size: int, codec: str = "zstd", key: bytes = b"P1") -> bytes:
    """A batch of `records` values of `size` spaces each; memory stays small while it is made."""
    parts = (part for index in range(records) for part in _record(index, key, size, spaces))
    return batch_of(records, _packed(parts, codec), codec)


def batch_of(records: int, content: bytes, codec: str | None = None, base_offset: int = 0) -> bytes:
    """A v2 batch, its CRC right; `content` is compressed already."""
    attributes = 0 if codec is None else CODECS[codec]
    body = struct.pack(">hiqqqhii", attributes, records - 1, 5, 5, -1, -1, -1, records) + content
    return struct.pack(">qiibI", base_offset, len(body) + 9, -1, 2, calc_crc32c(body)) + body


def packed(content: bytes, codec: str) -> bytes:
    return _packed([content], codec)


def _packed(parts: Iterable[bytes], codec: str) -> bytes:
    if codec == "snappy":
        return _xerial(b"".join(parts))
    if codec == "gzip":
        squeeze = zlib.compressobj(9, wbits=31)
        return b"".join([*map(squeeze.compress, parts), squeeze.flush()])
    squeeze = _COMPRESSORS[codec]()
    out = bytearray()
    for number, part in enumerate(parts):
        squeeze.compress(part)
        if number % 64 == 0:
            out += bytes(squeeze.flush())
    return bytes(out + bytes(squeeze.finish()))


_COMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "zstd": cramjam.zstd.Compressor,
    "lz4": lambda: cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False),
}


def _xerial(content: bytes) -> bytes:
    """As Java's snappy writes it, in blocks."""
    blocks = [bytes(cramjam.snappy.compress_raw(content[at : at + CHUNK])) for at in range(0, len(content), CHUNK)]
    return b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)


async def send(bootstrap_servers: str, topic: str, partition: int, data: bytes) -> int:
    """A raw batch by Produce, as any client can; its base offset."""
    records = struct.unpack_from(">i", data, 57)[0]
    async with AIOKafkaProducer(
        bootstrap_servers=bootstrap_servers, compression_type="zstd", max_request_size=1 << 20
    ) as producer:
        builder: Any = producer.create_batch()
        builder.append(timestamp=None, key=None, value=b"")
        builder.close()
        builder._build = lambda: data
        builder.record_count = lambda: records
        sent = await (await producer.send_batch(builder, topic, partition=partition))
        return int(sent.offset)

"""Write a picture with at most 256 colours: a page has few, besides the soft edges of its letters."""

import struct
import zlib
from collections import Counter
from pathlib import Path

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST_COLOURS = 256
STEP = 8  # colours that differ by less in each part count as one


def shrink(file: Path) -> None:
    """Replace the browser's PNG (8 bits for each of red, green and blue) by one with a palette."""
    width, height, rows = _rows(file.read_bytes())
    rounded = [bytes(min(255, (value + STEP // 2) // STEP * STEP) for value in row) for row in rows]
    pixels = [[row[at : at + 3] for at in range(0, len(row), 3)] for row in rounded]
    palette = [colour for colour, _ in Counter(one for row in pixels for one in row).most_common(MOST_COLOURS)]
    numbers = {colour: number for number, colour in enumerate(palette)}
    for colour in {one for row in pixels for one in row} - numbers.keys():
        numbers[colour] = min(range(len(palette)), key=lambda number: _distance(palette[number], colour))
    body = b"".join(b"\0" + bytes(numbers[one] for one in row) for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"PLTE", b"".join(palette)), (b"IDAT", zlib.compress(body, 9)), (b"IEND", b""))
    file.write_bytes(SIGNATURE + b"".join(_chunk(kind, content) for kind, content in chunks))


def _rows(png: bytes) -> tuple[int, int, list[bytes]]:
    """Returns width, height, and the bytes of each row without their filters (PNG specification, section 9)."""
    width, height, depth, colour_type = struct.unpack(">IIBB", png[16:26])
    assert (8, 2) == (depth, colour_type), "the browser makes other pictures now"
    packed, at = b"", len(SIGNATURE)
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        if png[at + 4 : at + 8] == b"IDAT":
            packed += png[at + 8 : at + 8 + length]
        at += length + 12
    content, stride = zlib.decompress(packed), width * 3
    rows, above = [], bytearray(stride)
    for begin in range(0, height * (stride + 1), stride + 1):
        above = _unfiltered(content[begin], bytearray(content[begin + 1 : begin + 1 + stride]), above)
        rows.append(bytes(above))
    return width, height, rows


def _unfiltered(kind: int, row: bytearray, above: bytearray) -> bytearray:
    for at in range(len(row)):
        left, corner = (row[at - 3], above[at - 3]) if at >= 3 else (0, 0)
        up = above[at]
        row[at] = (row[at] + (0, left, up, (left + up) // 2, _paeth(left, up, corner))[kind]) & 255
    return row


def _paeth(left: int, up: int, corner: int) -> int:
    guess = left + up - corner
    return min((left, up, corner), key=lambda one: abs(guess - one))


def _distance(one: bytes, other: bytes) -> int:
    return sum(abs(a - b) for a, b in zip(one, other, strict=True))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

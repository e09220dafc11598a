"""The rows of seen_events. They stay bytes in the views: most often the fold only asks whether there is a row.

A row is `>BQQ16s`: the format 3, the sequence, the source offset, and 128 bits of SHA-256 of the event's bytes. A row
of format 2 is a msgpack array with the same members, whose fingerprint is BLAKE2b. The fold never rewrites such a row:
it removes the row, or replaces it when the event_id is accepted again.
"""

from hashlib import sha256
from struct import Struct
from typing import Any, Final, Literal

import msgspec

from portfolio_stream.domain.deduplication import FINGERPRINT_BYTES, older_fingerprint

_FORMAT: Final = 3
_row: Final = Struct(f">BQQ{FINGERPRINT_BYTES}s")
_pack: Final[Any] = _row.pack
_unpack: Final[Any] = _row.unpack
_LENGTH: Final = 33  # of a row
_older: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[2], int, int, bytes]).decode


def fingerprint(value: bytes) -> bytes:
    """Returns 128 bits of SHA-256 of an event's bytes: other bytes never have the same fingerprint."""
    return sha256(value, usedforsecurity=False).digest()[:FINGERPRINT_BYTES]


def seen_row(sequence: int, offset: int, print_: bytes) -> bytes:
    row: bytes = _pack(_FORMAT, sequence, offset, print_)
    return row


def read_row(stored: bytes) -> bytes:
    """Returns the row. Raises an error for bytes that are none."""
    if not is_of_format_3(stored):
        _older(stored)
    return stored


def is_of_format_3(row: bytes) -> bool:
    return len(row) == _LENGTH and row[0] == _FORMAT


def sequence_of(row: bytes) -> int:
    sequence: int = (_unpack(row) if is_of_format_3(row) else _older(row))[1]
    return sequence


def offset_of(row: bytes) -> int:
    offset: int = (_unpack(row) if is_of_format_3(row) else _older(row))[2]
    return offset


def fingerprint_of(row: bytes) -> bytes:
    print_: bytes = (_unpack(row) if is_of_format_3(row) else _older(row))[3]
    return print_


def is_same_event(row: bytes, value: bytes) -> bool:
    """Whether the row is of an event with these bytes."""
    print_ = fingerprint(value) if is_of_format_3(row) else older_fingerprint(value)
    return fingerprint_of(row) == print_

"""Recognise a repeated event by its event_id and a fingerprint of its bytes, within the portfolio's window."""

from hashlib import blake2b
from typing import final

import msgspec

FINGERPRINT_BYTES = 16


@final
class SeenEvent(msgspec.Struct, frozen=True, gc=False):
    """An accepted event_id: the event's sequence in its portfolio, its offset, and a fingerprint of its bytes."""

    sequence: int
    #: the source record's offset
    offset: int
    fingerprint: bytes


def fingerprint(value: bytes) -> bytes:
    """Returns 128 bits of BLAKE2b of an event's bytes: other bytes never have the same fingerprint."""
    return blake2b(value, digest_size=FINGERPRINT_BYTES).digest()


def is_in_window(seen: SeenEvent, sequence: int, window: int) -> bool:
    """Whether the entry is among the portfolio's latest `window` accepted events; `sequence` is that of the latest."""
    return seen.sequence > sequence - window

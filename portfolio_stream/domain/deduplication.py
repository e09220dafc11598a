"""How a re-sent event is recognised: by its event_id and a fingerprint of its bytes, within the portfolio's window."""

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
    """Return 128 bits of BLAKE2b of an event's bytes, so that other bytes never pass for a re-send."""
    return blake2b(value, digest_size=FINGERPRINT_BYTES).digest()


def is_in_window(seen: SeenEvent, sequence: int, window: int) -> bool:
    """Whether the entry is among the last `window` of the first `sequence` accepted events."""
    return seen.sequence > sequence - window

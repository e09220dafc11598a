"""Recognise a repeated event by its event_id and a fingerprint of its bytes, within the portfolio's window."""

from hashlib import blake2b, sha256

FINGERPRINT_BYTES = 16


def fingerprint(value: bytes) -> bytes:
    """Returns 128 bits of SHA-256 of an event's bytes: other bytes never have the same fingerprint."""
    return sha256(value, usedforsecurity=False).digest()[:FINGERPRINT_BYTES]


def older_fingerprint(value: bytes) -> bytes:
    """Returns 128 bits of BLAKE2b of an event's bytes, as the entries of format 2 have them."""
    return blake2b(value, digest_size=FINGERPRINT_BYTES).digest()


def is_in_window(entry: int, sequence: int, window: int) -> bool:
    """Whether the event of sequence `entry` is among the portfolio's latest `window` accepted events.

    `sequence` is that of the latest.
    """
    return entry > sequence - window

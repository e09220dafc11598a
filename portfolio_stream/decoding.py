"""Decode JSON and msgpack that a stranger may have written.

1. msgspec raises more than its own errors for hostile bytes: for a text that is no UTF-8, and for JSON that is nested
   too deeply. UNDECODABLE names all of these errors.
2. msgspec reads larger integers than it writes. So WireCount or WirePartition is the type of each number that a worker
   passes on.

This module is apart from `foreign` because it imports msgspec, which a command's `--help` does without.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

import msgspec

T = TypeVar("T")

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

#: an offset or a number of things; -1: none. Readers of JSON take no larger integer exactly, and sums still fit
WireCount = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 53) - 1)]
#: a partition's number has two bytes in the store's keys, and the largest of these numbers is reserved
WirePartition = Annotated[int, msgspec.Meta(ge=0, le=65_534)]


def decoded(decode: Callable[[bytes], T], content: bytes) -> T | None:
    """Returns what `decode`, a decoder of msgspec's, makes of the content. Returns None if it cannot be decoded."""
    try:
        return decode(content)
    except UNDECODABLE:
        return None

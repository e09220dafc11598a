"""Reading what another process answers: never more than a bound of it, and whatever is in it.

Anybody may have written an answer, so its JSON may be nested deeper than msgspec reads, and its integers may be larger
than msgspec writes: `decoded` knows the first, and what a worker passes on is declared as Count.
"""

from collections.abc import Callable
from typing import Annotated, TypeVar

import aiohttp
import msgspec

from portfolio_stream.undecodable import UNDECODABLE

T = TypeVar("T")

#: an offset, or how many; -1: none. JSON's readers take no larger integer exactly, and sums of these can be written too
Count = Annotated[int, msgspec.Meta(ge=-1, le=(1 << 53) - 1)]
#: the store's keys have two bytes for it, and keep the last one
Partition = Annotated[int, msgspec.Meta(ge=0, le=65_534)]

ANSWER_BYTES = 32 << 20  # a portfolio of 100,000 positions; a page has 1,000 rows
_PIECE_BYTES = 64 << 10


class AnswerTooLarge(Exception):
    """The rest of it was not read."""


async def read_bounded(reply: aiohttp.ClientResponse, most: int = ANSWER_BYTES) -> bytes:
    """The body. Raises AnswerTooLarge, and what aiohttp raises; with a session that does not decompress."""
    body = bytearray()
    async for piece in reply.content.iter_chunked(_PIECE_BYTES):
        body += piece
        if len(body) > most:
            reply.close()
            raise AnswerTooLarge(f"the answer is larger than {most} bytes")
    return bytes(body)


def decoded(decode: Callable[[bytes], T], body: bytes) -> T | None:
    """What `decode`, a decoder of msgspec's, makes of the body; None if the body is no such value."""
    try:
        return decode(body)
    except UNDECODABLE:
        return None

"""Reading what another process answers, and never more than a bound of it."""

import aiohttp

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

"""The answers of other processes to our requests, as values, and the functions that read an answer.

Anybody may listen at an address. So an answer may be too long, may not be HTTP, or may not come from a worker.
"""

import errno
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import aiohttp
import msgspec

ANSWER_BYTES = 32 << 20  # a portfolio of 100,000 positions; a page has 1,000 rows
_PIECE_BYTES = 64 << 10

#: worker: the peer has proved which member it is
#: silent: no answer came
#: gone: nobody listens at the address
#: elsewhere: another worker answers at the address
#: other_token: the peer answers like a worker, but its proof is wrong
#: refusing: the peer refuses our question, as a worker of another version may
#: stranger: the peer is no worker
PeerKind = Literal["worker", "silent", "gone", "elsewhere", "other_token", "refusing", "stranger"]


class AnswerTooLarge(Exception):
    """An answer is longer than its bound; the rest of the answer was not read."""


class ProvedIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's answer to a challenge."""

    worker: str
    member: str
    #: None if the worker has no token
    proof: str | None = None


@dataclass(frozen=True, slots=True)
class Peer:
    """Our knowledge of the process at a member's address."""

    kind: PeerKind
    #: one sentence without a full stop, for the client; empty for a worker
    detail: str = ""


@dataclass(frozen=True, slots=True)
class PeerAnswer:
    """A worker's answer to a request."""

    status: int
    content_type: str
    body: bytes


async def read_bounded(reply: aiohttp.ClientResponse, most: int = ANSWER_BYTES) -> bytes:
    """Read the body of a reply, at most `most` bytes. The session must not decompress bodies.

    Raises AnswerTooLarge, and the errors of aiohttp.
    """
    body = bytearray()
    async for piece in reply.content.iter_chunked(_PIECE_BYTES):
        body += piece
        if len(body) > most:
            reply.close()
            raise AnswerTooLarge(f"the answer is larger than {most} bytes")
    return bytes(body)


def silence_of(error: BaseException, address: str, seconds: float) -> Peer:
    """Say why no answer came from the address: `error` ended the request."""
    if isinstance(error, TimeoutError):
        return Peer("silent", f"no answer from {address} within {seconds:g} s")
    if isinstance(error, aiohttp.ClientConnectorError):
        if error.os_error.errno == errno.ECONNREFUSED:
            return Peer("gone", f"nobody listens at {address}")
        return Peer("silent", f"{address} cannot be reached")
    if isinstance(error, aiohttp.ClientResponseError | ValueError):
        return stranger(address)
    return Peer("silent", f"the connection to {address} broke")


def stranger(address: str) -> Peer:
    """Say that no worker answers at the address."""
    return Peer("stranger", f"what answers at {address} is no worker of this version")


def refusal(address: str, answer: PeerAnswer) -> Peer:
    """Say who refused our question. A worker refuses with a problem document."""
    if answer.status == HTTPStatus.MISDIRECTED_REQUEST:
        return Peer("elsewhere", f"what answers at {address} listens under another name")
    if answer.content_type.startswith("application/problem+json"):
        detail = f"what answers at {address} refuses our question with {answer.status}"
        return Peer("refusing", f"{detail}, as a worker of another version may")
    return stranger(address)

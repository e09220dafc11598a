"""Signs the requests between workers and proves the answers, so that no secret travels. Pure.

1. The key is derived from PORTFOLIO_WEB_TOKEN and the group's name. Nobody ever sends the token or the key. A stranger
   with one message, such as the answer to his own challenge, can try tokens on his own machine. The derivation makes
   each try slow; only a long random token makes the tries too many (settings.SHORTEST_TOKEN).
2. A message is a request, an answer or an identity. Each kind begins with its own context, so no message passes for one
   of another kind.
3. Each field of a message follows its length, so two different lists of fields never give the same bytes.
4. A request names its recipient, its time and a nonce. So a stranger who catches the request cannot send it to another
   worker, send it later or send it twice (signed_access.py refuses it). The nonce binds an answer to its request.
"""

import hmac
import re
import secrets
from collections.abc import Iterable
from functools import lru_cache
from hashlib import pbkdf2_hmac, sha256
from typing import NamedTuple
from urllib.parse import quote, unquote

SCHEME = "Portfolio-HMAC-SHA256"  # the scheme in the header Authorization
PROOF = "X-Portfolio-Proof"  # the header of an answer to a signed request
NONCE = re.compile(r"[0-9a-f]{32}")

_KEY = b"portfolio-stream: key of requests between workers, version 2, group "
_REQUEST = b"portfolio-stream: request, version 1"
_ANSWER = b"portfolio-stream: answer, version 1"
_IDENTITY = b"portfolio-stream: identity, version 1"
_CREDENTIALS = re.compile(
    rf"{SCHEME} sender=([A-Za-z0-9._~%-]{{1,3100}}),time=([0-9]{{1,15}}),nonce=({NONCE.pattern})"
    ",signature=([0-9a-f]{64})"
)
_LENGTH_BYTES = 8
DERIVATION_ROUNDS = 200_000  # they take 0.1 s: once at a worker's start, and at each try of a stranger


class SignedRequest(NamedTuple):
    """The parts of a request that a signature covers."""

    method: str
    #: path and query, percent-encoded as on the wire
    target: str
    #: the two headers that change the answer; None if the request does not have the header
    forwarded: str | None
    partitions: str | None
    body: bytes
    #: the name of the worker that asks, for logs
    sender: str
    #: the host:port of the worker that is asked, as the sender knows it
    recipient: str
    #: milliseconds since 1970
    time: int
    nonce: str


class Credentials(NamedTuple):
    """The content of the header Authorization of a signed request."""

    sender: str
    time: int
    nonce: str
    signature: str


@lru_cache(maxsize=8)  # several parts of a worker derive the same key at the start
def derive_key(token: str, group: str) -> bytes:
    return pbkdf2_hmac("sha256", token.encode(), _KEY + group.encode(), DERIVATION_ROUNDS)


def new_nonce() -> str:
    return secrets.token_hex(16)


def sign(key: bytes, request: SignedRequest) -> str:
    """Returns the value of the header Authorization."""
    sender = quote(request.sender, safe="")
    signature = _signature(key, request)
    return f"{SCHEME} sender={sender},time={request.time},nonce={request.nonce},signature={signature}"


def credentials(authorization: str | None) -> Credentials | None:
    """Reads a header of `sign`. Returns None if the header is missing or has another form."""
    found = _CREDENTIALS.fullmatch(authorization or "")
    return None if found is None else Credentials(unquote(found[1]), int(found[2]), found[3], found[4])


def is_signature(key: bytes, request: SignedRequest, signature: str) -> bool:
    return _is_equal(_signature(key, request), signature)


def prove_answer(key: bytes, nonce: str, status: int, content_type: str, body: bytes) -> str:
    """Returns the value of the header PROOF: the sender has the key, and nobody has changed the answer."""
    return _digest(key, _ANSWER, _texts(nonce, str(status), content_type, sha256(body).hexdigest())).hex()


def is_answer(key: bytes, proof: str | None, nonce: str, status: int, content_type: str, body: bytes) -> bool:
    return _is_equal(prove_answer(key, nonce, status, content_type, body), proof or "")


def prove_identity(key: bytes, nonce: str, address: str, member_id: str, instance_id: str) -> str:
    """Returns a proof that the sender has the key, and is this member at this address, for the challenge `nonce`."""
    return _digest(key, _IDENTITY, _texts(nonce, address, member_id, instance_id)).hex()


def is_identity(key: bytes, proof: str | None, nonce: str, address: str, member_id: str, instance_id: str) -> bool:
    return _is_equal(prove_identity(key, nonce, address, member_id, instance_id), proof or "")


def _signature(key: bytes, request: SignedRequest) -> str:
    fields = _texts(
        request.method,
        request.target,
        *_optional(request.forwarded),
        *_optional(request.partitions),
        sha256(request.body).hexdigest(),
        request.sender,
        request.recipient,
        str(request.time),
        request.nonce,
    )
    return _digest(key, _REQUEST, fields).hex()


def _optional(text: str | None) -> tuple[str, str]:
    """Returns two fields that tell a missing header from an empty one."""
    return ("absent", "") if text is None else ("present", text)


def _texts(*texts: str) -> list[bytes]:
    return [text.encode(errors="surrogateescape") for text in texts]


def _digest(key: bytes, context: bytes, fields: Iterable[bytes]) -> bytes:
    message = b"".join(len(field).to_bytes(_LENGTH_BYTES) + field for field in (context, *fields))
    return hmac.digest(key, message, "sha256")


def _is_equal(expected: str, given: str) -> bool:
    return hmac.compare_digest(expected.encode(), given.encode(errors="replace"))

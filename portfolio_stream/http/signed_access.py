"""Accepts a signed request only from a worker with our token, for us, if it is fresh and was never seen before."""

import time
from collections import deque

from aiohttp import web

from portfolio_stream.http import signatures
from portfolio_stream.http.signatures import Credentials, SignedRequest

FORWARDED = "X-Portfolio-Forwarded"
PARTITIONS = "X-Portfolio-Partitions"  # with FORWARDED: the partitions to answer for, separated by commas

AUDITOR = "auditor"  # the recipient `verify --follow`, which does not know by which address workers reach it
WATCHER = "watcher"  # the recipient `watch`, for the same reason

LIFE_SECONDS = 30.0  # how long a signature holds: the clocks of two hosts may differ by so much
NONCES_KEPT = 100_000  # in a minute: 1,600 requests a second, more than a worker answers; some 20 MB

NOT_OURS = (
    "The request's signature is none of this worker's: the PORTFOLIO_WEB_TOKEN of the two workers differs, or the "
    "request was signed for another address."
)
SEEN = "The signed request was sent a second time."
TOO_MANY = "This worker has taken as many signed requests in a minute as it can remember."


class SignedAccess:
    """Checks the signed requests to one recipient: a host:port that peers use, or a name that all senders use."""

    def __init__(self, key: bytes, recipient: str) -> None:
        self._key = key
        self._recipient = recipient
        self._seen: set[str] = set()
        #: (monotonic seconds until which the nonce is remembered, nonce), in the order of arrival
        self._order: deque[tuple[float, str]] = deque()

    def request(self, request: web.BaseRequest, given: Credentials) -> SignedRequest:
        """Returns the parts of a request without a body that the signature must cover."""
        return SignedRequest(
            method=request.method,
            target=request.raw_path,
            forwarded=_joined(request, FORWARDED),
            partitions=_joined(request, PARTITIONS),
            body=b"",
            sender=given.sender,
            recipient=self._recipient,
            time=given.time,
            nonce=given.nonce,
        )

    def is_ours(self, request: SignedRequest, given: Credentials) -> bool:
        """Whether a worker with our token has signed the request for us. Only such a worker gets a proof."""
        return signatures.is_signature(self._key, request, given.signature)

    def refusal(self, given: Credentials) -> str | None:
        """Returns why a rightly signed request is refused, or None. Remembers the nonce of an accepted request."""
        age = time.time() - given.time / 1000
        if abs(age) > LIFE_SECONDS:
            return (
                f"By this worker's clock the request was signed {_ago(age)}, and a signature holds for "
                f"{LIFE_SECONDS:.0f} s: set the clocks of both hosts."
            )
        now = time.monotonic()
        while self._order and self._order[0][0] < now:
            self._seen.discard(self._order.popleft()[1])
        if given.nonce in self._seen:
            return SEEN
        if len(self._seen) >= NONCES_KEPT:
            return TOO_MANY
        self._seen.add(given.nonce)
        self._order.append((now + 2 * LIFE_SECONDS, given.nonce))  # a signature of a clock that is ahead holds so long
        return None

    def prove(self, response: web.Response, nonce: str, *, is_head: bool) -> None:
        """Add the proof to the answer."""
        body = b"" if is_head else bytes(response.body or b"")  # type: ignore[arg-type]  # no handler streams to a worker
        content_type = response.headers.get("Content-Type", "")
        response.headers[signatures.PROOF] = signatures.prove_answer(
            self._key, nonce, response.status, content_type, body
        )


def _joined(request: web.BaseRequest, name: str) -> str | None:
    values = request.headers.getall(name, [])
    return ",".join(values) if values else None


def _ago(seconds: float) -> str:
    return f"{seconds:.0f} s ago" if seconds >= 0 else f"{-seconds:.0f} s in the future"

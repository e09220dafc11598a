"""Which signed requests are taken: those of a worker with our token, meant for us, fresh, and never seen before."""

import time
from collections import deque

from aiohttp import web

from portfolio_stream.http import signatures
from portfolio_stream.http.signatures import Credentials, SignedRequest

FORWARDED = "X-Portfolio-Forwarded"
PARTITIONS = "X-Portfolio-Partitions"  # beside FORWARDED: those that are meant, with commas

AUDITOR = "auditor"  # the recipient of what workers ask `verify --follow`: it does not know by which address

LIFE_SECONDS = 30.0  # of a signature: clocks of two hosts may differ by so much, and it is sent at once
NONCES_KEPT = 100_000  # of a minute at most: 1,600 signed requests a second, more than a worker answers; some 20 MB

NOT_OURS = (
    "The request's signature is none of this worker's: the PORTFOLIO_WEB_TOKEN of the two workers differs, or the "
    "request was signed for another address."
)
SEEN = "The signed request was sent a second time."
TOO_MANY = "This worker has taken as many signed requests in a minute as it can remember."


class SignedAccess:
    """For one recipient: the host:port that peers use, or a name that all who ask use."""

    def __init__(self, key: bytes, recipient: str) -> None:
        self._key = key
        self._recipient = recipient
        self._seen: set[str] = set()
        #: (monotonic seconds until which it must be remembered, nonce), in the order in which they came
        self._order: deque[tuple[float, str]] = deque()

    def request(self, request: web.BaseRequest, given: Credentials) -> SignedRequest:
        """What the signature must cover of a request without a body."""
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
        """Whether a worker with our token has signed it for us: only then is anything proved to it."""
        return signatures.is_signature(self._key, request, given.signature)

    def refusal(self, given: Credentials) -> str | None:
        """Why a request with a right signature is not taken. One that is taken is remembered."""
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
        self._order.append((now + 2 * LIFE_SECONDS, given.nonce))  # one of a clock that is ahead holds for so long
        return None

    def prove(self, response: web.Response, nonce: str, *, is_head: bool) -> None:
        """Give the answer its proof."""
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

"""Sends requests to other workers, but only after their address has proved that a worker is there.

1. A client id names an address, which may belong to anybody. First the address gets a random challenge at a fixed path,
   at most one in CHALLENGE_SECONDS. The address must prove which member of the group it is. Until then it gets no
   secret and no path of a client.
2. Each request is signed, and each answer has a proof (signatures.py). After an answer without a proof, the address
   must prove itself again.
3. Requests follow no redirect, and every answer is bounded.
4. A caller waits for a challenge at most as long as for an answer, however many addresses are silent.
5. A caller that knows no member id (the empty one) asks whichever worker listens at the address.
6. Without PORTFOLIO_WEB_TOKEN nobody can prove anything. Then only loopback addresses are asked, and a process that
   answers with the member's id counts as the member.
"""

import asyncio
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from http import HTTPStatus

import aiohttp
import msgspec
from yarl import URL

from portfolio_stream.decoding import decoded
from portfolio_stream.http import signatures
from portfolio_stream.http.access import IDENTITY_PATH
from portfolio_stream.http.addresses import is_loopback
from portfolio_stream.http.answers import (
    ANSWER_BYTES,
    AnswerTooLarge,
    Peer,
    PeerAnswer,
    ProvedIdentity,
    read_bounded,
    refusal,
    silence_of,
    stranger,
)
from portfolio_stream.http.resolver import OwnThreads
from portfolio_stream.http.signed_access import FORWARDED, PARTITIONS
from portfolio_stream.kafka.members import Owner

log = logging.getLogger(__name__)

CHALLENGE_SECONDS = 2.0  # between two challenges of one address
GONE_SECONDS = 0.5  # between two challenges while nobody listens there: a worker may be starting again
ANSWER_SECONDS = 1.0  # for the answer to a challenge, which costs a worker nothing
FORGOTTEN_SECONDS = 60.0  # after its last challenge, an address that no member names is forgotten
SHORTEST_SECONDS = 1e-9  # to aiohttp, 0 means no bound
CHALLENGES_AT_ONCE = 8  # silent addresses must not take all connections
IDENTITY_BYTES = 4096


@dataclass(slots=True)
class _Address:
    """The last answer from an address."""

    #: which member it says it is; only for the kinds worker and other_token
    member_id: str | None
    peer: Peer
    #: monotonic seconds of the last challenge
    challenged: float = float("-inf")


_UNKNOWN = Peer("silent", "it was not asked yet")
_PROVED = Peer("worker")
OTHER_TOKEN = "its PORTFOLIO_WEB_TOKEN differs from ours (all workers need the same), or it is no worker"
NO_TOKEN = Peer("other_token", "without PORTFOLIO_WEB_TOKEN this worker asks loopback addresses alone")
_decode = msgspec.json.Decoder(ProvedIdentity).decode


class Peers:
    """Sends requests to all other workers in one HTTP session. `sender` is our own name, for their logs."""

    def __init__(self, token: str | None, group: str, sender: str) -> None:
        self._key = None if token is None else signatures.derive_key(token, group)
        self._sender = sender
        self._session: aiohttp.ClientSession | None = None
        self._addresses: dict[str, _Address] = {}
        #: the running challenge of each address: one at a time
        self._challenges: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(CHALLENGES_AT_ONCE)

    async def start(self) -> None:
        self._resolver = OwnThreads()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=self._resolver),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
        )

    async def stop(self) -> None:
        challenges = list(self._challenges.values())
        for challenge in challenges:
            challenge.cancel()
        await asyncio.gather(*challenges, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            await self._resolver.close()

    def keep(self, workers: Collection[Owner]) -> None:
        """Forget the proofs of addresses that no member has now, and after FORGOTTEN_SECONDS the addresses."""
        addresses = {worker.address for worker in workers}
        for address in self._addresses.keys() - addresses:
            known = self._addresses[address]
            if known.peer is _PROVED:
                known.member_id, known.peer = None, _UNKNOWN
            if time.monotonic() - known.challenged > FORGOTTEN_SECONDS:
                del self._addresses[address]

    def doubt(self, worker: Owner) -> None:
        """Let the worker's address prove itself again."""
        self._addresses.pop(worker.address, None)

    async def identify(self, worker: Owner, seconds: float | None = None) -> Peer:
        """Returns who answers at the worker's address. Sends a challenge unless the worker has proved itself there.

        After `seconds`, returns the knowledge of that moment.
        """
        if self._key is None and not is_loopback(worker.address):
            return NO_TOKEN
        if (known := self._known(worker)).kind == "worker":
            return known
        challenge = self._challenges.get(worker.address) or self._challenged(worker)
        if challenge is not None:
            await asyncio.wait({challenge}, timeout=seconds)
            if challenge.done() and not challenge.cancelled():
                challenge.result()
        return self._known(worker)

    def _challenged(self, worker: Owner) -> asyncio.Task[None] | None:
        """Begin a challenge. It goes on if its caller leaves. Returns None if the last challenge was a moment ago."""
        address = self._addresses.setdefault(worker.address, _Address(None, _UNKNOWN))
        pause = GONE_SECONDS if address.peer.kind == "gone" else CHALLENGE_SECONDS
        if time.monotonic() - address.challenged < pause:
            return None
        task = asyncio.create_task(self._take_proof(worker), name="challenge")
        self._challenges[worker.address] = task
        task.add_done_callback(lambda _: self._challenges.pop(worker.address))
        return task

    async def _take_proof(self, worker: Owner) -> None:
        member_id, peer = await self._challenge(worker.address)
        address = self._addresses.setdefault(worker.address, _Address(None, _UNKNOWN))
        before, address.challenged = address.peer, time.monotonic()
        address.member_id, address.peer = member_id, peer
        self._log(worker, before, peer)

    async def ask(
        self,
        worker: Owner,
        target: str,
        method: str = "GET",
        *,
        seconds: float,
        is_hop: bool = True,
        partitions: str | None = None,
    ) -> PeerAnswer | Peer:
        """Returns a proved answer, or a Peer that says why there is none. `target`: path and query, percent-encoded.

        With `is_hop` the worker does not forward the request again. `partitions` names the partitions to answer for.
        """
        until = time.monotonic() + seconds
        peer = await self.identify(worker, seconds)
        if peer.kind != "worker":
            return peer
        try:
            url = URL(f"http://{worker.address}{target}", encoded=True)
            nonce = signatures.new_nonce()
            hop = {FORWARDED: "1"} if is_hop else {}
            meant = {} if partitions is None else {PARTITIONS: partitions}
            headers = {**hop, **meant, "Accept-Encoding": "identity"}
            if self._key is not None:
                headers["Authorization"] = authorization(
                    self._key, method, url, headers, sender=self._sender, recipient=worker.address, nonce=nonce
                )
            left = max(until - time.monotonic(), SHORTEST_SECONDS)
            answer, proof = await self._fetch(url, method, headers, left)
        except TimeoutError as error:  # the worker may be busy: its proof still holds
            return silence_of(error, worker.address, seconds)
        except (aiohttp.ClientError, ValueError) as error:  # ValueError: the target has no form of a URL
            return self._lost(worker, silence_of(error, worker.address, seconds))
        except AnswerTooLarge as error:
            return Peer("silent", str(error))
        if self._key is None:
            return answer
        body = b"" if method == "HEAD" else answer.body
        if signatures.is_answer(self._key, proof, nonce, answer.status, answer.content_type, body):
            return answer
        detail = f"its answer with status {answer.status} has no valid proof: {OTHER_TOKEN}"
        return self._lost(worker, Peer("other_token", detail))

    async def _challenge(self, address: str) -> tuple[str | None, Peer]:
        nonce = signatures.new_nonce()
        url = URL(f"http://{address}{IDENTITY_PATH}?nonce={nonce}", encoded=True)
        try:
            async with self._slots:
                plain = {"Accept-Encoding": "identity"}
                answer, _ = await self._fetch(url, "GET", plain, ANSWER_SECONDS, IDENTITY_BYTES)
        except (TimeoutError, aiohttp.ClientError, ValueError) as error:
            return None, silence_of(error, address, ANSWER_SECONDS)
        except AnswerTooLarge:
            return None, stranger(address)
        if answer.status != HTTPStatus.OK:
            return None, refusal(address, answer)
        told = decoded(_decode, answer.body)
        if told is None:
            return None, stranger(address)
        if self._key is None or signatures.is_identity(self._key, told.proof, nonce, address, told.member, told.worker):
            return told.member, _PROVED
        return told.member, Peer("other_token", OTHER_TOKEN)

    def _known(self, worker: Owner) -> Peer:
        address = self._addresses.get(worker.address)
        if address is None:
            return _UNKNOWN
        if worker.member_id and address.member_id is not None and address.member_id != worker.member_id:
            return Peer("elsewhere", f"another worker listens at {worker.address}")
        return address.peer

    def _lost(self, worker: Owner, peer: Peer) -> Peer:
        """Forget the proof of the worker's address. The address may prove itself again at once."""
        address = self._addresses.get(worker.address)
        if address is not None and address.peer is _PROVED:
            address.member_id, address.peer, address.challenged = None, peer, float("-inf")
            self._log(worker, _PROVED, peer)
        return peer

    def _log(self, worker: Owner, before: Peer, now: Peer) -> None:
        """Log a change of what we know about the worker's address."""
        if before != now:
            level = logging.INFO if now.kind in ("worker", "silent", "gone") else logging.WARNING
            log.log(
                level, "peer worker=%s address=%s kind=%s detail=%s",
                worker.instance_id, worker.address, now.kind, now.detail,
            )  # fmt: skip

    async def _fetch(
        self, url: URL, method: str, headers: Mapping[str, str], seconds: float, most: int = ANSWER_BYTES
    ) -> tuple[PeerAnswer, str | None]:
        """Raises TimeoutError, ClientError and AnswerTooLarge."""
        if self._session is None or self._session.closed:
            raise aiohttp.ClientConnectionError("the worker stops")
        timeout = aiohttp.ClientTimeout(total=seconds)
        async with self._session.request(method, url, headers=headers, timeout=timeout, allow_redirects=False) as reply:
            body = await read_bounded(reply, most)
        content_type = reply.headers.get("Content-Type", "")
        return PeerAnswer(reply.status, content_type, body), reply.headers.get(signatures.PROOF)


def authorization(
    key: bytes, method: str, url: URL, headers: Mapping[str, str], *, sender: str, recipient: str, nonce: str
) -> str:
    """Returns the header Authorization of a request without a body that is sent now."""
    request = signatures.SignedRequest(
        method=method,
        target=url.raw_path_qs,
        forwarded=headers.get(FORWARDED),
        partitions=headers.get(PARTITIONS),
        body=b"",
        sender=sender,
        recipient=recipient,
        time=int(time.time() * 1000),
        nonce=nonce,
    )
    return signatures.sign(key, request)

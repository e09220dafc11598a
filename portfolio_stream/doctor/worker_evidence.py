"""Evidence that workers give over HTTP.

A member of the group may claim any address. So the members get signed requests, and only after their address has proved
itself (http/peers.py). The token itself goes to one address alone: a --web-address that the operator named.
"""

import asyncio
import errno
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
from yarl import URL

from portfolio_stream.decoding import decoded
from portfolio_stream.doctor.evidence import GroupEvidence, Listening, Unseen, WorkerAnswers
from portfolio_stream.doctor.findings import Private, say
from portfolio_stream.http import signatures
from portfolio_stream.http.access import IDENTITY_PATH
from portfolio_stream.http.addresses import DEFAULT_PORT, authority
from portfolio_stream.http.answers import AnswerTooLarge, Peer, PeerAnswer, ProvedIdentity, read_bounded
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import Owner
from portfolio_stream.settings import Settings

SENDER = "doctor"  # our name in the workers' logs
ANSWER_SECONDS = 4.0  # of one request; /partitions asks all workers, and takes 2 s at the most
IDENTITY_BYTES = 4096
ANSWER_BYTES = 8 << 20
#: what a worker tells about itself and the group
HEALTH, WORKER, METRICS, PARTITIONS = "/health/ready", "/worker", "/metrics", "/partitions"
EVENTS = "/events?limit=1000"
PATHS = (HEALTH, WORKER, METRICS, PARTITIONS)
#: a worker's addresses that mean every address of the machine
UNSPECIFIED = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_decode = msgspec.json.Decoder(ProvedIdentity).decode


@asynccontextmanager
async def _session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False) as session:
        yield session


async def listening_at(address: str) -> Listening:
    """Who answers at host:port: a worker, another program, or nobody. Sends a question without a secret."""
    url = URL(f"http://{address}{IDENTITY_PATH}?nonce={signatures.new_nonce()}", encoded=True)
    try:
        async with _session() as session:
            answer = await _get(session, url, {}, IDENTITY_BYTES)
    except aiohttp.ClientConnectorError as error:
        is_free = error.os_error.errno == errno.ECONNREFUSED
        return Listening(address, "nobody" if is_free else "unreachable")
    except TimeoutError:
        return Listening(address, "unreachable")
    except (aiohttp.ClientError, AnswerTooLarge, ValueError):
        return Listening(address, "other")
    told = decoded(_decode, answer.body)
    if answer.status == HTTPStatus.OK and told is not None:
        return Listening(address, "worker", told.worker)
    is_worker = answer.content_type.startswith("application/problem+json")
    return Listening(address, "worker" if is_worker else "other")


async def look_at_ports(settings: Settings) -> tuple[Listening, ...]:
    host = UNSPECIFIED.get(settings.web_host, settings.web_host)
    return (await listening_at(authority(host, settings.web_port or DEFAULT_PORT)),)


async def ask_members(
    settings: Settings, group: GroupEvidence, paths: Sequence[str] = PATHS
) -> tuple[WorkerAnswers, ...]:
    """Ask every member that claims to be a worker, all at once. Each address must prove itself first."""
    workers = sorted({member.worker for member in group.members if member.worker is not None}, key=_order)
    peers = Peers(settings.web_token, settings.group, SENDER)
    await peers.start()
    try:
        asked = [_ask_member(peers, worker, f"worker {at}", paths) for at, worker in enumerate(workers, 1)]
        return tuple(await asyncio.gather(*asked))
    finally:
        await peers.stop()


def _order(worker: Owner) -> tuple[str, str, str]:
    return worker.address, worker.instance_id, worker.member_id


async def _ask_member(peers: Peers, worker: Owner, label: str, paths: Sequence[str]) -> WorkerAnswers:
    peer = await peers.identify(worker, ANSWER_SECONDS)
    told: Sequence[PeerAnswer | Peer] = ()
    if peer.kind == "worker":
        told = await asyncio.gather(*(peers.ask(worker, path, seconds=ANSWER_SECONDS, is_hop=False) for path in paths))
    found, missing = _sorted(dict(zip(paths, told, strict=False)))
    return WorkerAnswers(
        label=label, name=worker.instance_id, address=worker.address, peer=peer, answers=found, missing=missing
    )


async def ask_address(web_address: str, token: str | None, paths: Sequence[str]) -> tuple[WorkerAnswers, ...]:
    """Ask the worker at a URL. Give a token only for a URL that the operator named."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    base = web_address.rstrip("/")
    async with _session() as session:
        told = await asyncio.gather(*(_ask_url(session, f"{base}{path}", headers) for path in paths))
    found, missing = _sorted(dict(zip(paths, told, strict=True)))
    names = (answer.get("worker") for answer in found.values() if isinstance(answer, dict))
    name = next((one for one in names if isinstance(one, str)), "a worker")
    address = URL(base).authority
    if not found:
        raise Unseen(say("no worker answers at {address}", address=Private(base)))
    return (WorkerAnswers(label="worker 1", name=name, address=address, peer=None, answers=found, missing=missing),)


async def ask_port(settings: Settings, group: Unseen, paths: Sequence[str]) -> tuple[WorkerAnswers, ...]:
    """Ask the worker of these settings, if one runs, when Kafka does not tell the group's members.

    The answer may come from another program, so it gets no token. Raises `group` if no worker answers.
    """
    (port,) = await look_at_ports(settings)
    if port.kind != "worker":
        raise group
    open_paths = paths if settings.web_token is None else [HEALTH]
    return await ask_address(f"http://{port.address}", None, open_paths)


async def _ask_url(session: aiohttp.ClientSession, url: str, headers: Mapping[str, str]) -> PeerAnswer | Peer:
    try:
        return await _get(session, URL(url, encoded=True), headers, ANSWER_BYTES)
    except (TimeoutError, aiohttp.ClientError, AnswerTooLarge, ValueError) as error:
        return Peer("silent", f"no answer ({type(error).__name__})")


async def _get(session: aiohttp.ClientSession, url: URL, headers: Mapping[str, str], most: int) -> PeerAnswer:
    """Follows no redirect. Raises TimeoutError, ClientError and AnswerTooLarge."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    given = {"Accept-Encoding": "identity", **headers}
    async with session.get(url, headers=given, timeout=timeout, allow_redirects=False) as reply:
        body = await read_bounded(reply, most)
    return PeerAnswer(reply.status, reply.headers.get("Content-Type", ""), body)


def _sorted(told: Mapping[str, PeerAnswer | Peer]) -> tuple[dict[str, Any], dict[str, str]]:
    """The contents by path, and why the other paths have none. A 503 of /health has a content too."""
    found: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for path, answer in told.items():
        if isinstance(answer, Peer):
            missing[path] = answer.detail
        elif answer.status != HTTPStatus.OK and (path, answer.status) != (HEALTH, HTTPStatus.SERVICE_UNAVAILABLE):
            missing[path] = f"it answered {answer.status}"
        elif "json" in answer.content_type:
            try:
                found[path] = json.loads(answer.body)
            except (ValueError, RecursionError):
                missing[path] = "the answer is no JSON"
        else:
            found[path] = answer.body.decode(errors="replace")
    return found, missing

"""Asks another worker for a value of its own, or says why it tells none."""

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from portfolio_stream.decoding import decoded
from portfolio_stream.http.answers import Peer
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import Owner
from portfolio_stream.web.group import Silence

T = TypeVar("T")


async def told_by(
    peers: Peers, worker: Owner, path: str, decode: Callable[[bytes], T], *, seconds: float
) -> T | Silence:
    """Returns what the worker answers to GET `path`, within `seconds`."""
    answer = await peers.ask(worker, path, seconds=seconds)
    if isinstance(answer, Peer):
        return Silence("gone" if answer.kind in ("gone", "elsewhere") else "silent", answer.detail)
    if answer.status != HTTPStatus.OK:
        return Silence("silent", f"it refused the request with {answer.status}")
    told = decoded(decode, answer.body)
    no_worker = f"the process that answers at {worker.address} is no worker of this version"
    return Silence("silent", no_worker) if told is None else told

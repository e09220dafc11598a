"""Forwards a request to a partition's owner, signed. Any failure there becomes a 503 here: the client may retry."""

import logging
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.decoding import decoded
from portfolio_stream.http.answers import Peer, PeerAnswer
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.problem import RETRY_AFTER_SECONDS, Problem, unavailable
from portfolio_stream.kafka.members import Owner

log = logging.getLogger(__name__)

TIMEOUT_SECONDS = 2.0
CHANGE_SECONDS = 8.0  # a change waits for the open transaction to end; a command waits 10 s for us
PASSED_ON = frozenset({HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT, HTTPStatus.SERVICE_UNAVAILABLE})


class _Told(msgspec.Struct):
    """The problem document of a worker."""

    detail: str = ""


_decode = msgspec.json.Decoder(_Told).decode


class Forwarding:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers

    async def ask(
        self, owner: Owner, raw_path: str, method: str = "GET", *, partitions: str | None = None
    ) -> web.Response | Problem:
        """Returns the owner's answer unchanged, or a Problem if the owner gave no answer that our client can use."""
        seconds = TIMEOUT_SECONDS if method == "GET" else CHANGE_SECONDS
        answer = await self._peers.ask(owner, raw_path, method, seconds=seconds, partitions=partitions)
        if isinstance(answer, Peer):
            log.info("owner did not answer worker=%s kind=%s", owner.instance_id, answer.kind)
            return unavailable(f"The partition's owner {owner.instance_id} does not answer: {answer.detail}.")
        if answer.status not in PASSED_ON:
            log.warning("owner refused a forwarded request worker=%s status=%d", owner.instance_id, answer.status)
            return unavailable(
                f"The partition's owner refused the forwarded request with {answer.status}. {_detail(answer)}".strip()
            )
        headers = {"Content-Type": answer.content_type}
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return web.Response(body=answer.body, status=answer.status, headers=headers)


def _detail(answer: PeerAnswer) -> str:
    told = decoded(_decode, answer.body)
    return "" if told is None else told.detail

"""Samples the workers' stacks when somebody looks at a flame graph, and keeps the samples for a while.

The first request begins a sampling of its workers and answers that it is under way. So a page that asks again and again
costs one sampling in KEPT_SECONDS.
"""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple, TypeGuard

import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.flink.figures import SeenWorker
from portfolio_stream.flink.flame import KINDS, flame_graph
from portfolio_stream.http.answers import Peer, PeerAnswer
from portfolio_stream.http.peers import Peers
from portfolio_stream.observe.stacks import StackSamples
from portfolio_stream.observe.steps import Step
from portfolio_stream.web.figures import STACKS_PATH, STACKS_SECONDS, THREADS_PATH, ThreadDump

log = logging.getLogger(__name__)

KEPT_SECONDS = 30.0
ANSWER_SECONDS = 5.0
#: Flink's words, in place of the time of the samples
DISABLED, PENDING = -1, -3
_decode_samples = msgspec.json.Decoder(StackSamples).decode
_decode_threads = msgspec.json.Decoder(ThreadDump).decode


class _Profile(NamedTuple):
    at: float
    samples: Sequence[StackSamples]


class Profiles:
    def __init__(self, peers: Peers) -> None:
        self._peers = peers
        #: by the ids of the workers
        self._kept: dict[tuple[str, ...], _Profile] = {}
        self._running: dict[tuple[str, ...], asyncio.Task[None]] = {}

    async def stop(self) -> None:
        for task in self._running.values():
            task.cancel()
        await asyncio.gather(*self._running.values(), return_exceptions=True)

    def flame_graph(self, workers: Sequence[SeenWorker], step: Step, kind: str) -> dict[str, Any]:
        """The graph of the newest samples; a sampling begins if they are old."""
        if kind not in KINDS or not any(worker.figures for worker in workers):
            return {"endTimestamp": DISABLED}
        key = tuple(worker.id for worker in workers)
        kept = self._kept.get(key)
        if kept is None or time.monotonic() - kept.at > KEPT_SECONDS:
            self._begin(key, workers)
        if kept is None:
            return {"endTimestamp": PENDING}
        stacks = [stack for one in kept.samples for stack in one.stacks]
        ended = max((one.ended_at for one in kept.samples), default=PENDING)
        return {"endTimestamp": ended, "data": flame_graph(stacks, step, kind)}

    def _begin(self, key: tuple[str, ...], workers: Sequence[SeenWorker]) -> None:
        if not self._running:  # one at a time: a second sampler would sample the first
            task = self._running[key] = asyncio.create_task(self._sample(key, workers), name="stacks")
            task.add_done_callback(lambda task: self._ended(key, task))

    def _ended(self, key: tuple[str, ...], task: "asyncio.Task[None]") -> None:
        del self._running[key]
        if not task.cancelled() and task.exception() is not None:
            log.error("stacks not sampled", exc_info=task.exception())

    async def _sample(self, key: tuple[str, ...], workers: Sequence[SeenWorker]) -> None:
        asked = [self._peers.ask(one.owner, STACKS_PATH, seconds=STACKS_SECONDS + ANSWER_SECONDS) for one in workers]
        answers = await asyncio.gather(*asked)
        told = [decoded(_decode_samples, one.body) for one in answers if _is_ok(one)]
        now = time.monotonic()
        self._kept = {one: kept for one, kept in self._kept.items() if now - kept.at < KEPT_SECONDS}
        self._kept[key] = _Profile(now, [one for one in told if one is not None])

    async def threads(self, worker: SeenWorker) -> Mapping[str, tuple[str, ...]] | None:
        """The frames of each thread of a worker now; None if it does not answer."""
        answer = await self._peers.ask(worker.owner, THREADS_PATH, seconds=ANSWER_SECONDS)
        told = decoded(_decode_threads, answer.body) if _is_ok(answer) else None
        return None if told is None else {one.thread: one.frames for one in told.threads}


def _is_ok(answer: PeerAnswer | Peer) -> TypeGuard[PeerAnswer]:
    return isinstance(answer, PeerAnswer) and answer.status == HTTPStatus.OK

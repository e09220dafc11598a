"""Remembers what went wrong in the workers, from their events: a worker that dies takes its own memory with it.

1. While the server runs, it reads each worker's new events every POLL_SECONDS, in one request.
2. It keeps the newest KEPT incidents. It also notes that a worker has a new process, or fell silent.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus

import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.flink.answers_exceptions import EXCEPTIONS, Incident
from portfolio_stream.flink.figures import SeenWorker
from portfolio_stream.flink.gathering import FigureGathering
from portfolio_stream.http.answers import PeerAnswer
from portfolio_stream.http.peers import Peers
from portfolio_stream.observe.ring import KEPT_EVENTS
from portfolio_stream.web import events as events_route

POLL_SECONDS = 5.0
ANSWER_SECONDS = 2.0
KEPT = 1_000


class ToldEvent(msgspec.Struct, frozen=True, kw_only=True):
    sequence: int
    time: str
    action: str
    level: str
    fields: dict[str, object] = {}


class ToldEvents(msgspec.Struct, frozen=True, kw_only=True):
    events: tuple[ToldEvent, ...]
    next: int
    process: str


_decode = msgspec.json.Decoder(ToldEvents).decode


class Incidents:
    def __init__(self, gathering: FigureGathering, peers: Peers) -> None:
        self._gathering = gathering
        self._peers = peers
        self._kept: deque[Incident] = deque(maxlen=KEPT)
        #: the process and the number of the newest event that was read, by the worker's id
        self._read: dict[str, tuple[str, int]] = {}
        #: whether each worker answered at the last look, by its id
        self._silent: dict[str, bool] = {}
        self._lock = asyncio.Lock()

    async def run(self) -> None:
        """Run until the task is cancelled."""
        while True:
            await self.newest()
            await asyncio.sleep(POLL_SECONDS)

    async def newest(self) -> Sequence[Incident]:
        """Read what is new, and return all that are kept."""
        async with self._lock:
            figures = await self._gathering.look()
            await asyncio.gather(*map(self._read_events, figures.workers))
            for worker in figures.workers:
                self._note_silence(worker, figures.at)
            here = {worker.id for worker in figures.workers}
            self._silent = {one: is_silent for one, is_silent in self._silent.items() if one in here}
        return tuple(self._kept)

    async def _read_events(self, worker: SeenWorker) -> None:
        if worker.figures is None:
            return
        process, number = self._read.get(worker.id, ("", 0))
        now = worker.figures.status.process
        if now == process and worker.figures.events <= number:
            return
        if now != process:
            self._note_restart(worker, process)
            number = 0
        target = f"{events_route.PATH}?after={number}&limit={KEPT_EVENTS}"
        answer = await self._peers.ask(worker.owner, target, seconds=ANSWER_SECONDS)
        if not isinstance(answer, PeerAnswer) or answer.status != HTTPStatus.OK:
            return
        told = decoded(_decode, answer.body)
        if told is None:
            return
        self._read[worker.id] = told.process, told.next
        self._kept.extend(incident(worker, event) for event in told.events if event.action in EXCEPTIONS)

    def _note_restart(self, worker: SeenWorker, before: str) -> None:
        assert worker.figures is not None  # noqa: S101  the caller has looked
        if before:
            text = f"worker restarted process={worker.figures.process.pid}"
            self._kept.append(_made(worker, worker.figures.process.started_at, "worker restarted", text))

    def _note_silence(self, worker: SeenWorker, at: float) -> None:
        is_silent, was_silent = worker.state == "silent", self._silent.get(worker.id)
        self._silent[worker.id] = is_silent
        if is_silent and was_silent is False:
            detail = getattr(worker.answer, "detail", "")
            self._kept.append(_made(worker, int(at * 1000), "worker silent", f"worker silent reason={detail}"))


def incident(worker: SeenWorker, event: ToldEvent) -> Incident:
    at = datetime.fromisoformat(event.time).timestamp()
    text = " ".join([event.action, *(f"{name}={shown(value)}" for name, value in event.fields.items())])
    partition = event.fields.get("partition")
    made = _made(worker, int(at * 1000), event.action, text)
    return made._replace(partition=partition if isinstance(partition, int) else None)


def shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.1f}"
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _made(worker: SeenWorker, time: int, action: str, text: str) -> Incident:
    return Incident(time, worker.owner.instance_id, worker.owner.address, worker.id, action, text)

"""GET /worker/history and GET /history: the last hours by minute, of this worker and of the whole group.

Each worker keeps its own minutes, and they are gone with its process. So the group's answer names the workers that its
minutes are of.
"""

import asyncio
import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.peers import Peers
from portfolio_stream.http.problem import json_response
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe.history import KEPT_MINUTES, MINUTE_SECONDS, GroupMinute, Histories, Minute, merged
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.web.group import Silence
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.roll_call import own
from portfolio_stream.web.routing import Routing
from portfolio_stream.web.told import told_by

PATH = "/worker/history"
GROUP_PATH = "/history"
ANSWER_SECONDS = 1.0  # 720 minutes are 0.2 MB, which a worker under load sends within milliseconds
OLDEST_SECONDS = (KEPT_MINUTES + 1) * MINUTE_SECONDS
AHEAD_SECONDS = 2 * MINUTE_SECONDS  # clocks of one cluster differ by less
MERGED_AT_ONCE = 30  # minutes of the group in one step of the event loop: a millisecond with eight workers


class WorkerHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /worker/history."""

    worker: str
    process: str
    #: upper bounds in seconds of the counts in `latency_counts`
    latency_bounds: tuple[float, ...]
    #: oldest first; the last one has begun and is not over
    minutes: tuple[Minute, ...]


class AbsentWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A member of the group whose minutes are not in the answer."""

    worker: str
    detail: str


class GroupHistory(msgspec.Struct, frozen=True, kw_only=True):
    """The body of GET /history."""

    #: the workers that the minutes are of
    workers: tuple[str, ...]
    #: members of the group that did not answer
    absent: tuple[AbsentWorker, ...]
    #: oldest first; a minute in which no worker ran is left out
    minutes: tuple[GroupMinute, ...]
    #: the worker that answers
    worker: str


_decode = msgspec.json.Decoder(WorkerHistory).decode


class Minutes:
    def __init__(self, engine: Engine, routing: Routing, peers: Peers, pulse: Pulse, address: str) -> None:
        self._engine = engine
        self._routing = routing
        self._peers = peers
        self._pulse = pulse
        self._address = address

    def routes(self) -> list[web.RouteDef]:
        return [web.get(PATH, self.show), web.get(GROUP_PATH, self.show_group)]

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self.now())

    async def show_group(self, request: web.Request) -> web.Response:
        return json_response(await self.look())

    def now(self) -> WorkerHistory:
        return WorkerHistory(
            worker=self._engine.identity.instance_id,
            process=self._engine.events.process,
            latency_bounds=self._engine.statistics.latencies.bounds,
            minutes=tuple(self._pulse.history.minutes()),
        )

    async def look(self) -> GroupHistory:
        """Ask every member of the group. While nobody knows the members, the answer is of this worker alone."""
        me = own(self._engine, self._address)
        others = [worker for worker in await self._members() if worker != me]
        answers = await asyncio.gather(*(self._ask(worker) for worker in others))
        histories = [self.now()]
        absent = []
        for worker, answer in zip(others, answers, strict=True):
            if isinstance(answer, Silence):
                absent.append(AbsentWorker(worker=worker.instance_id, detail=answer.detail))
            else:
                histories.append(msgspec.structs.replace(answer, worker=worker.instance_id))
        return GroupHistory(
            workers=tuple(sorted(one.worker for one in histories)),
            absent=tuple(absent),
            minutes=await _together(histories),
            worker=me.instance_id,
        )

    async def _members(self) -> Sequence[Owner]:
        if membership_of(self._engine) is None:
            return ()
        return [member.worker for member in await self._routing.members() or () if member.worker is not None]

    async def _ask(self, worker: Owner) -> WorkerHistory | Silence:
        return await told_by(self._peers, worker, PATH, _decode, seconds=ANSWER_SECONDS)


async def _together(histories: Sequence[WorkerHistory]) -> tuple[GroupMinute, ...]:
    """Merge in small steps, so that no commit waits."""
    now = time.time()
    parts = [Histories(one.latency_bounds, _believable(one.minutes, now)) for one in histories]
    made = []
    for minute in merged(parts):
        made.append(minute)
        if len(made) % MERGED_AT_ONCE == 0:
            await asyncio.sleep(0)
    return tuple(made)


def _believable(minutes: Sequence[Minute], now: float) -> list[Minute]:
    """The minutes of the last hours: any process may answer, and a minute of the year 3000 would be the newest one."""
    return [one for one in minutes[-KEPT_MINUTES:] if now - OLDEST_SECONDS < one.at < now + AHEAD_SECONDS]

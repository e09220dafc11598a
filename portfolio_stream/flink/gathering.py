"""Gathers the figures: from the workers over HTTP, from the group's coordinator, and from topics that are followed.

1. A look asks the coordinator, then all workers at once. It ends within 2 * LOOK_SECONDS, whoever is silent.
2. A look is kept for KEPT_SECONDS: a page of Flink's asks for a dozen answers at once.
3. The workers are: members of the group, those that the supervisor keeps, and those that have answered lately
   (web/in_sight.py).
4. Requests are signed: the token never travels (http/peers.py).
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from aiokafka.errors import KafkaError

from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.state import ControlState
from portfolio_stream.flink.figures import ClusterFigures, KnownWorker, SeenWorker
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.group import GroupClient
from portfolio_stream.kafka.members import GroupMember, Owner
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.web.group import Silence, WorkerLook, owners_of
from portfolio_stream.web.in_sight import LOOK_SECONDS, WorkersInSight, foreign_partitions
from portfolio_stream.web.status import WorkerStatus

outage_log = sparing(__name__)

KEPT_SECONDS = 0.5


@dataclass(frozen=True, kw_only=True, slots=True)
class Sources:
    """What the supervisor gives."""

    #: the job, whose topic is followed; None until Kafka has answered
    control: Callable[[], JobControl | None]
    #: why nobody knows the job; None if it is known, or is known not to have begun
    reason: Callable[[], str | None] = lambda: None
    #: the workers that the supervisor keeps
    workers: Callable[[], Sequence[KnownWorker]] = tuple
    #: its own log files, the newest first
    logs: Callable[[], Sequence[Path]] = tuple


class _GroupClient(NamedTuple):
    """The coordinator's client, for one connection to the job."""

    control: JobControl
    coordinators: Coordinators
    client: GroupClient


class FigureGathering:
    def __init__(self, group: str, topic: str, sources: Sources, peers: Peers, history: History) -> None:
        self._group = group
        self._topic = topic
        self._sources = sources
        self._in_sight = WorkersInSight(peers)
        self._history = history
        self._client: _GroupClient | None = None
        self._lock = asyncio.Lock()
        self._newest: ClusterFigures | None = None
        self._looked = float("-inf")
        #: the newest job state, and since when
        self._state: tuple[str | None, float] = (None, 0.0)

    async def look(self) -> ClusterFigures:
        async with self._lock:
            if self._newest is None or time.monotonic() - self._looked >= KEPT_SECONDS:
                self._newest = await self._look()
                self._looked = time.monotonic()
            return self._newest

    async def _look(self) -> ClusterFigures:
        control = self._sources.control()
        state = ControlState() if control is None else control.state
        members = None if control is None else await self._members(control)
        workers = await self._workers(members)
        looks = list(map(_look_at, workers))
        figures = ClusterFigures(
            at=time.time(),
            group=self._group,
            unknown=self._sources.reason(),
            job=state.job,
            generations=state.generations,
            operations=state.operations,
            workers=workers,
            held=owners_of(looks, foreign_partitions(members or ())),
            checkpoints=self._history.checkpoints() if self._history.is_ready else None,
            settings={} if state.job is None else state.job.settings,
        )
        if figures.state != self._state[0]:
            self._state = figures.state, figures.at
        return replace(figures, since=self._state[1])

    # -- the group

    async def _members(self, control: JobControl) -> Sequence[GroupMember] | None:
        """None while the coordinator does not answer."""
        if self._client is None or self._client.control is not control:
            coordinators = Coordinators(control.client, self._group, self._group)
            client = GroupClient(control.client, coordinators, group=self._group, topic=self._topic)
            self._client = _GroupClient(control, coordinators, client)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._client.client.members()
        except (TimeoutError, KafkaError, OSError) as error:
            self._client.coordinators.forget()
            outage_log.info("members unknown error=%s", type(error).__name__)
            return None

    # -- the workers

    async def _workers(self, members: Sequence[GroupMember] | None) -> list[SeenWorker]:
        known = {one.address: one for one in self._sources.workers() if one.address is not None}
        owners = {address: Owner(one.instance_id, address, "") for address, one in known.items()}
        seen = [
            SeenWorker(
                owner=one.owner,
                known=known.get(address),
                is_member=one.is_member,
                assigned=one.assigned,
                answer=one.answer,
                answered_at=one.answered_at,
            )
            for address, one in (await self._in_sight.look(members, owners)).items()
        ]
        in_sight = [one for one in seen if one.figures or one.is_member or (one.known and one.known.is_alive)]
        return sorted(in_sight, key=lambda one: (one.owner.instance_id, one.owner.address))


def _look_at(worker: SeenWorker) -> WorkerLook:
    answer = worker.answer if worker.figures is None else worker.figures.status
    assert isinstance(answer, Silence | WorkerStatus)  # noqa: S101  a worker that answers has a status
    return WorkerLook(worker=worker.owner, is_member=worker.is_member, assigned=worker.assigned, answer=answer)

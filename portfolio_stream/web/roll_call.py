"""Roll call: finds out every few seconds which members of the group are no workers, and which share an instance id.

1. A consumer with the workers' group id takes partitions that no worker then processes. The roll calls such a member
   foreign. It does so at once if the client id does not have the form of a worker's. Otherwise it does so after the
   member's address has proved nothing for FOREIGN_AFTER seconds.
2. The roll never calls a worker foreign that has proved itself once. If it is silent, it died: its session ends soon.
3. Requests are routed by member ids, so two workers with the same instance id both serve their partitions. The roll
   names them, because logs, metrics and pages cannot tell them apart.
"""

import asyncio
import logging
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.answers import Peer, PeerKind
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.members import (
    RENAME_ONE,
    STOP_IT,
    GroupMember,
    Owner,
    alike_named,
    escaped,
    namesakes_among,
)
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.routing import Routing

log = logging.getLogger(__name__)

CALL_SECONDS = 5.0  # a call costs one request to the coordinator, and one to each address without a proof
#: after so many seconds without a proof a member with a worker's client id is foreign
FOREIGN_AFTER: Mapping[PeerKind, float] = {
    "worker": math.inf,
    "other_token": math.inf,  # while the token is changed, this worker still processes its partitions
    "refusing": math.inf,  # a worker of another version processes its partitions too
    "stranger": 5.0,
    # a worker that died is a member until its session ends (45 s by Kafka's default)
    "silent": 60.0,
    "gone": 60.0,
    "elsewhere": 60.0,
}
NO_CLIENT_ID = "its client id is not <instance>@host:port"


@dataclass(frozen=True, slots=True)
class Foreigner:
    """A member of the group that is no worker."""

    member: GroupMember
    #: how we know that the member is no worker
    detail: str

    def __str__(self) -> str:
        return f"a member of the group is no worker ({self.detail}): {self.member}. {STOP_IT}"


def own(engine: Engine, address: str) -> Owner:
    """Returns this worker as its group knows it now: a running worker may take another member id."""
    return Owner(engine.identity.instance_id, address, engine.identity.current_member_id)


class Roll:
    """The result of the last call. If the coordinator does not answer, the result stays."""

    def __init__(self, engine: Engine, routing: Routing, peers: Peers, address: str) -> None:
        self._engine = engine
        self._routing = routing
        self._peers = peers
        self._address = address
        #: the ids of members that have proved themselves
        self._proved: set[str] = set()
        #: since when a member proves nothing, in monotonic seconds, by member id
        self._unproved: dict[str, float] = {}
        self._foreigners: tuple[Foreigner, ...] = ()
        #: the workers that share an instance id, by that id
        self._namesakes: Mapping[str, Sequence[Owner]] = {}
        #: a sentence for each worker that answers without a proof
        self._doubts: tuple[str, ...] = ()

    @property
    def _self(self) -> Owner:
        return own(self._engine, self._address)

    @property
    def foreigners(self) -> Sequence[Foreigner]:
        return self._foreigners

    @property
    def namesakes(self) -> int:
        """How many other workers have the instance id of this worker."""
        return max(0, len(self._namesakes.get(self._self.instance_id, ())) - 1)

    def foreign_partitions(self) -> Mapping[int, Foreigner]:
        return {partition: one for one in self._foreigners for partition in one.member.partitions}

    def reasons(self) -> tuple[str, ...]:
        """Returns why this worker is not ready: no worker processes some partitions of the group."""
        return tuple(str(one) for one in self._foreigners if one.member.partitions)

    def warnings(self) -> tuple[str, ...]:
        """Returns what an operator should correct, although the workers process all their partitions."""
        idle = [str(one) for one in self._foreigners if not one.member.partitions]
        alike = [f"{alike_named(workers)}. {RENAME_ONE}" for workers in self._namesakes.values()]
        return (*idle, *alike, *self._doubts)

    async def run(self) -> None:
        while True:
            await asyncio.sleep(CALL_SECONDS)
            if membership_of(self._engine) is not None:
                await self.call()

    async def call(self) -> None:
        members = await self._routing.members()
        if members is None:
            return
        workers = [one.worker for one in members if one.worker is not None and one.member_id != self._self.member_id]
        self._peers.keep(workers)
        peers = dict(zip(workers, await asyncio.gather(*map(self._peers.identify, workers)), strict=True))
        proved = [worker for worker, peer in peers.items() if peer.kind == "worker"]
        alike = await self._alike(proved)
        self._remember(members, proved)
        self._take_foreigners(members, peers)
        self._take_namesakes(alike)
        self._doubts = tuple(
            f"worker {worker.instance_id} at {worker.address} is asked for nothing: {peer.detail}."
            for worker, peer in peers.items()
            if peer.kind in ("other_token", "refusing")
        )

    async def _alike(self, proved: Sequence[Owner]) -> Mapping[str, Sequence[Owner]]:
        """Returns the workers that share an instance id, after a new challenge to each.

        One of them may be the former process of a restarted worker, which is a member until its session ends.
        """
        alike = namesakes_among([self._self, *proved])
        asked = [worker for workers in alike.values() for worker in workers if worker != self._self]
        for worker in asked:
            self._peers.doubt(worker)
        answers = await asyncio.gather(*map(self._peers.identify, asked))
        there = [worker for worker, peer in zip(asked, answers, strict=True) if peer.kind == "worker"]
        return namesakes_among([self._self, *there])

    def _remember(self, members: Sequence[GroupMember], proved: Sequence[Owner]) -> None:
        here = {member.member_id for member in members}
        self._proved = (self._proved & here) | {worker.member_id for worker in proved}
        since = {member_id: self._unproved.get(member_id, time.monotonic()) for member_id in here - self._proved}
        self._unproved = since

    def _take_foreigners(self, members: Sequence[GroupMember], peers: Mapping[Owner, Peer]) -> None:
        found = []
        for member in members:
            if member.worker is None:
                found.append(Foreigner(member, NO_CLIENT_ID))
            elif member.worker in peers and member.member_id not in self._proved:
                peer = peers[member.worker]
                if time.monotonic() - self._unproved[member.member_id] >= FOREIGN_AFTER[peer.kind]:
                    found.append(Foreigner(member, peer.detail))
        before = {(one.member.member_id, bool(one.member.partitions)) for one in self._foreigners}
        for one in found:
            if (one.member.member_id, bool(one.member.partitions)) not in before:  # one line, not one a rebalance
                log.warning(
                    "foreign member client_id=%s host=%s member_id=%s partitions=%s detail=%s action=%s",
                    *map(escaped, (one.member.client_id, one.member.host, one.member.member_id)),
                    ",".join(map(str, one.member.partitions)), one.detail, STOP_IT,
                )  # fmt: skip
        for member_id in {member_id for member_id, _ in before} - {one.member.member_id for one in found}:
            log.info("foreign member left member_id=%s", escaped(member_id))
        self._foreigners = tuple(found)

    def _take_namesakes(self, alike: Mapping[str, Sequence[Owner]]) -> None:
        for name in alike.keys() - self._namesakes.keys():
            log.warning("workers share an instance id: %s action=%s", alike_named(alike[name]), RENAME_ONE)
        self._namesakes = alike

"""A look at the whole group.

A look first asks the group's coordinator for the members, Kafka for the offsets and the auditor for its verdict, all at
once. Then the look asks every worker at once. Each of the two steps ends within LOOK_SECONDS, even if somebody does not
answer. So a dead worker does not hide the others.
"""

import asyncio
import time
from collections.abc import Mapping

import aiohttp
import msgspec
from aiokafka.errors import KafkaError

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http import signatures
from portfolio_stream.http.peers import Peers
from portfolio_stream.kafka.group import GroupClient, Offsets
from portfolio_stream.kafka.members import GroupMember, Owner
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.settings import Settings
from portfolio_stream.web import status, verdict
from portfolio_stream.web.group import GroupState, Ledger, Silence, WorkerLook
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.roll_call import Roll, own
from portfolio_stream.web.routing import Routing
from portfolio_stream.web.status import Status, WorkerStatus
from portfolio_stream.web.told import told_by

outage_log = sparing(__name__)

LOOK_SECONDS = 1.0  # the live view looks once a second; a worker under load answers in milliseconds
NO_OWNERS = "The group's coordinator does not answer: the owners shown are those that the workers name."
NO_LAG = "Kafka does not answer with offsets: the lag is unknown."
_decode = msgspec.json.Decoder(WorkerStatus).decode


class Watch:
    """Takes looks, and remembers workers of earlier looks. The group's rates are rates between looks of this watch."""

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        routing: Routing,
        status: Status,
        peers: Peers,
        roll: Roll,
        address: str,
    ) -> None:
        self._engine = engine
        self._routing = routing
        self._status = status
        self._auditor = settings.auditor
        self._peers = peers
        self._roll = roll
        token = settings.web_token
        self._key = None if token is None else signatures.derive_key(token, settings.group)
        self._address = address
        self._ledger = Ledger(engine.identity.instance_id, asks_for_token=settings.web_token is not None)

    async def look(self, session: aiohttp.ClientSession) -> GroupState:
        members, offsets, audit = await asyncio.gather(
            self._members(),
            self._offsets(),
            verdict.ask_auditor(session, self._auditor, self._key, self._engine.identity.instance_id),
        )
        looks = await self._looks(members)
        silent = [text for text, told in ((NO_OWNERS, members), (NO_LAG, offsets)) if told is None]
        problems = (*silent, *self._roll.reasons(), *self._roll.warnings())
        return self._ledger.feed(
            time.monotonic(),
            looks,
            partition_count=self._engine.partition_count,
            offsets=offsets,
            foreign={partition: str(one) for partition, one in self._roll.foreign_partitions().items()},
            problems=problems,
            audit=audit,
        )

    async def _members(self) -> tuple[GroupMember, ...] | None:
        if membership_of(self._engine) is None:
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._routing.members()
        except TimeoutError:
            return None

    async def _offsets(self) -> Mapping[int, Offsets] | None:
        engine = self._engine
        started, names = engine.started, engine.configuration
        if started is None:
            return None
        group = GroupClient(started.client, started.coordinators, group=names.group, topic=names.source_topic)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await group.offsets(range(engine.partition_count))
        except (TimeoutError, KafkaError, OSError) as error:
            started.coordinators.forget()
            outage_log.info("offsets unknown error=%s", type(error).__name__)
            return None

    async def _looks(self, members: tuple[GroupMember, ...] | None) -> list[WorkerLook]:
        """Look at each member that may be a worker, at each worker of earlier looks, and at this worker."""
        assigned = {member.worker: member.partitions for member in members or () if member.worker is not None}
        me = own(self._engine, self._address)
        asked = {*assigned, *self._ledger.workers, me}
        answers = dict(zip(asked, await asyncio.gather(*(self._ask(worker, me) for worker in asked)), strict=True))
        here = {worker for worker, answer in answers.items() if isinstance(answer, WorkerStatus)}
        alive = {worker.member_id for worker in here}
        names = {worker.instance_id for worker in here}

        def is_left(worker: Owner) -> bool:
            """True for an old address: the worker that had the address has started again at another one."""
            return worker not in here and (worker.member_id in alive or worker.instance_id in names)

        return [
            WorkerLook(
                worker=worker,
                is_member=members is None or worker in assigned,
                assigned=assigned.get(worker, ()),
                answer=answer,
            )
            for worker, answer in answers.items()
            if not is_left(worker)
        ]

    async def _ask(self, worker: Owner, me: Owner) -> WorkerStatus | Silence:
        if worker == me:
            return self._status.now()
        return await told_by(self._peers, worker, status.PATH, _decode, seconds=LOOK_SECONDS)

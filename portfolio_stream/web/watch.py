"""One look at the whole group: its coordinator, every worker, Kafka's offsets and the auditor are asked at once.

A look is over within LOOK_SECONDS, whoever does not answer: a dead worker must not hide the others.
"""

import asyncio
import errno
import logging
import time
from collections.abc import Mapping
from http import HTTPStatus

import aiohttp
import msgspec
from aiokafka.errors import KafkaError
from yarl import URL

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.group import Group, Member, Offsets, Owner
from portfolio_stream.settings import Settings
from portfolio_stream.web import status, verdict
from portfolio_stream.web.forwarding import Forwarding
from portfolio_stream.web.group import GroupState, Ledger, Look, Silence
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.routing import Routing
from portfolio_stream.web.status import Status, WorkerStatus

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0  # as often as a look is taken; a worker under load answers in milliseconds
NO_OWNERS = "The group's coordinator does not answer: owners are as the workers say."
NO_LAG = "Kafka does not tell offsets: the lag is unknown."


class Watch:
    def __init__(
        self, engine: Engine, settings: Settings, routing: Routing, status: Status, forwarding: Forwarding, address: str
    ) -> None:
        self._engine = engine
        self._routing = routing
        self._status = status
        self._auditor = settings.auditor
        self._token = settings.web_token
        self._headers = forwarding.headers
        self._self = Owner(engine.identity.instance_id, address)
        self._ledger = Ledger(engine.identity.instance_id, asks_for_token=settings.web_token is not None)

    async def look(self, session: aiohttp.ClientSession) -> GroupState:
        members, offsets, audit = await asyncio.gather(
            self._members(), self._offsets(), verdict.ask(session, self._auditor, self._token)
        )
        looks = await self._looks(session, members)
        problems = tuple(text for text, told in ((NO_OWNERS, members), (NO_LAG, offsets)) if told is None)
        return self._ledger.feed(
            time.monotonic(),
            looks,
            partition_count=self._engine.partition_count,
            offsets=offsets,
            problems=problems,
            audit=audit,
        )

    async def _members(self) -> tuple[Member, ...] | None:
        if membership_of(self._engine) is None:
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await self._routing.members()
        except TimeoutError:
            return None

    async def _offsets(self) -> Mapping[int, Offsets] | None:
        engine = self._engine
        if membership_of(engine) is None:
            return None
        names = engine.configuration
        group = Group(engine.client, engine.coordinators, group=names.group, topic=names.source_topic)
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await group.offsets(range(engine.partition_count))
        except (TimeoutError, KafkaError, OSError) as error:
            engine.coordinators.forget()
            log.info("offsets unknown error=%s", type(error).__name__)
            return None

    async def _looks(self, session: aiohttp.ClientSession, members: tuple[Member, ...] | None) -> list[Look]:
        """Of all members and of all workers that were there lately."""
        assigned = {member.worker: member.partitions for member in members or ()}
        asked = {*assigned, *self._ledger.workers, self._self}
        answers = dict(zip(asked, await asyncio.gather(*(self._ask(session, one) for one in asked)), strict=True))
        here = {worker.instance_id for worker, answer in answers.items() if isinstance(answer, WorkerStatus)}
        return [
            Look(
                worker=worker,
                is_member=members is None or worker in assigned,
                assigned=assigned.get(worker, ()),
                answer=answer,
            )
            for worker, answer in answers.items()
            if isinstance(answer, WorkerStatus) or worker.instance_id not in here  # else an address that it left
        ]

    async def _ask(self, session: aiohttp.ClientSession, worker: Owner) -> WorkerStatus | Silence:
        if worker == self._self:
            return self._status.now()
        try:
            timeout = aiohttp.ClientTimeout(total=LOOK_SECONDS)
            url = URL(f"http://{worker.address}{status.PATH}")
            async with session.get(url, headers=self._headers, timeout=timeout, allow_redirects=False) as reply:
                body = await reply.read()
            if reply.status != HTTPStatus.OK:
                return Silence("silent", f"it refused our question with {reply.status}")
            told = msgspec.json.decode(body, type=WorkerStatus)
        except TimeoutError:
            return Silence("silent", f"no answer from {worker.address} within {LOOK_SECONDS:g} s")
        except aiohttp.ClientConnectorError as error:
            if error.os_error.errno == errno.ECONNREFUSED:
                return Silence("gone", f"nobody listens at {worker.address}")
            return Silence("silent", f"{worker.address} cannot be reached")
        except aiohttp.ClientError:
            return Silence("silent", f"the connection to {worker.address} broke")
        except (msgspec.MsgspecError, ValueError):  # ValueError: not an address, or not UTF-8
            return Silence("silent", f"what answers at {worker.address} is no worker of this version")
        if told.worker != worker.instance_id:
            return Silence("gone", f"another worker listens at {worker.address}")
        return told

"""Asks the group coordinator which member owns a partition. The client id of a worker says where it listens.

Routing keeps an answer for a second. A caller that finds the answer wrong calls `forget`. A wrong owner costs a 503,
and never gives a wrong value: only the owner of a partition answers for it.
"""

import asyncio
import time
from collections.abc import Mapping

from aiokafka.errors import KafkaError

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.kafka.group import GroupClient
from portfolio_stream.kafka.members import GroupMember, holders_among
from portfolio_stream.kafka.quiet_logs import sparing

outage_log = sparing(__name__)

KEPT_SECONDS = 1.0  # a rebalance takes about as long; a busy worker asks the coordinator once a second
ANSWER_SECONDS = 2.0


class Routing:
    """Knows the members of the group. Ask it only after the engine has started."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._members: tuple[GroupMember, ...] | None = None
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def holder(self, partition: int) -> GroupMember | None:
        """Returns None if no member has the partition, or while the coordinator does not answer."""
        return (await self.holders()).get(partition)

    async def holders(self) -> Mapping[int, GroupMember]:
        """Returns the member that has each partition; nothing while the coordinator does not answer."""
        return holders_among(await self.members() or ())

    async def members(self) -> tuple[GroupMember, ...] | None:
        """Returns the members of the group; None while the coordinator does not answer."""
        async with self._lock:
            if time.monotonic() - self._asked >= KEPT_SECONDS:
                self._members = await self._ask()
                self._asked = time.monotonic()
        return self._members

    def forget(self) -> None:
        self._asked = float("-inf")

    async def _ask(self) -> tuple[GroupMember, ...] | None:
        started, names = self._engine.started, self._engine.configuration
        if started is None:
            return None
        group = GroupClient(started.client, started.coordinators, group=names.group, topic=names.source_topic)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await group.members()
        except (TimeoutError, KafkaError, OSError) as error:
            started.coordinators.forget()
            outage_log.info("owners unknown error=%s", type(error).__name__)
            return None

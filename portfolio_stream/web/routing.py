"""Which worker owns a partition: the group coordinator knows, and its members' client ids say where they listen.

An answer is kept for a moment; whoever finds it wrong forgets it. A wrong owner costs a 503, never a wrong value: only
the worker that owns a partition answers for it.
"""

import asyncio
import logging
import time
from dataclasses import dataclass
from typing import Any

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.wire import LOST, Lane, call, schema
from portfolio_stream.settings import GROUP

log = logging.getLogger(__name__)

_describe = schema("consumer_group_describe", 0)

KEPT_SECONDS = 1.0  # a rebalance takes about as long; a busy worker asks the coordinator once a second
ANSWER_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class Owner:
    """A worker, as its client id `<instance>@host:port` says."""

    instance_id: str
    address: str


class Routing:
    """Ask only when the engine has started."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._owners: dict[int, Owner] = {}
        self._asked = float("-inf")
        self._lock = asyncio.Lock()

    async def owner(self, partition: int) -> Owner | None:
        """None also while the coordinator does not answer."""
        async with self._lock:
            if time.monotonic() - self._asked >= KEPT_SECONDS:
                self._owners = await self._ask()
                self._asked = time.monotonic()
        return self._owners.get(partition)

    def forget(self) -> None:
        self._asked = float("-inf")

    async def _ask(self) -> dict[int, Owner]:
        engine = self._engine
        request = _describe.ConsumerGroupDescribeRequest(group_ids=(GROUP,), include_authorized_operations=False)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                node = await engine.coordinators.group()
                reply = await call(engine.client, node, Lane.RECOVERY, request)
        except (TimeoutError, *LOST) as error:
            engine.coordinators.forget()
            log.info("owners unknown error=%s", type(error).__name__)
            return {}
        if reply.groups[0].error_code.value:
            engine.coordinators.forget()
            log.info("owners unknown error=%s", reply.groups[0].error_code.name)
            return {}
        return owners_in(reply.groups[0], engine.configuration.source_topic)


def owners_in(group: Any, topic: str) -> dict[int, Owner]:
    """By the members' current assignment; members that say no address own nothing here."""
    owners: dict[int, Owner] = {}
    for member in group.members:
        instance_id, separator, address = member.client_id.rpartition("@")
        if not separator:
            continue
        for assigned in member.assignment.topic_partitions:
            if assigned.topic_name == topic:
                owners |= dict.fromkeys(assigned.partitions, Owner(instance_id, address))
    return owners

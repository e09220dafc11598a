"""Looks at the workers' group: its members, and the offsets of the source by partition."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from portfolio_stream.kafka.group import GroupClient, Offsets
from portfolio_stream.kafka.members import GroupMember
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.settings import Settings
from portfolio_stream.watcher.kafka_look import NOT_ANSWERED
from portfolio_stream.watcher.link import KafkaLink

outage_log = sparing(__name__)

LOOK_SECONDS = 2.0


class GroupLook(NamedTuple):
    """None: Kafka does not tell it now."""

    members: Sequence[GroupMember] | None = None
    #: by partition of the source
    offsets: Mapping[int, Offsets] | None = None


class GroupWatch:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._link = KafkaLink(settings)
        self._group: GroupClient | None = None

    async def stop(self) -> None:
        await self._link.stop()

    async def look(self) -> GroupLook:
        """Ends within 2 * LOOK_SECONDS."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                group, partitions = await self._connected()
        except NOT_ANSWERED as error:
            outage_log.info("group not asked error=%s", error)
            return GroupLook()
        members, offsets = await asyncio.gather(self._members(group), self._offsets(group, partitions))
        if members is None or offsets is None:
            await self._forget(group)
        return GroupLook(members, offsets)

    async def _connected(self) -> tuple[GroupClient, frozenset[int]]:
        client, settings = await self._link.client(), self._settings
        if self._group is None:
            coordinators = Coordinators(client, settings.group, settings.group)
            self._group = GroupClient(client, coordinators, group=settings.group, topic=settings.input_topic)
        if client.cluster.partitions_for_topic(settings.input_topic) is None:  # the topic may be new
            await client.force_metadata_update()
        return self._group, frozenset(client.cluster.partitions_for_topic(settings.input_topic) or ())

    async def _members(self, group: GroupClient) -> Sequence[GroupMember] | None:
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await group.members()
        except NOT_ANSWERED as error:
            outage_log.info("members unknown error=%s", type(error).__name__)
            return None

    async def _offsets(self, group: GroupClient, partitions: frozenset[int]) -> Mapping[int, Offsets] | None:
        if not partitions:  # the source does not exist yet
            return None
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                return await group.offsets(partitions)
        except NOT_ANSWERED as error:
            outage_log.info("offsets unknown error=%s", type(error).__name__)
            return None

    async def _forget(self, group: GroupClient) -> None:
        """Find coordinator and leaders again, next time."""
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await group.forget()
        except NOT_ANSWERED:
            return

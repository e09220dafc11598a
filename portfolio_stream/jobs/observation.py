"""Asks Kafka how a job stands: its topics and their logs, the group's members and offsets, the state in a changelog.

Every question goes through the engine's port, so it is asked in the simulation too. A question that gets no answer is
asked again for ANSWER_SECONDS, and then raises KafkaRefused.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Self, TypeVar

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import KafkaRefused, SourceHasGrown, TopicMissing, cause_of
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.fold_check import STEPS, newest_metas
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.jobs.facts import LogBounds
from portfolio_stream.kafka.cluster_id import cluster_id
from portfolio_stream.kafka.connections import Connections, Reader, connected_client
from portfolio_stream.kafka.member_lookup import MemberLookup
from portfolio_stream.kafka.members import GroupMember
from portfolio_stream.kafka.offset_lookup import (
    EARLIEST,
    LATEST,
    READ_COMMITTED,
    GroupPosition,
    group_offsets,
    log_offsets,
)
from portfolio_stream.kafka.reach import LOST, bootstrapped
from portfolio_stream.kafka.reader import FetchLimits
from portfolio_stream.kafka.topic_watch import TopicIdentity, describe
from portfolio_stream.kafka.wire import Coordinators

ANSWER_SECONDS = 30.0  # a cluster takes 2 to 9 s to see that a broker is dead
PAUSE_SECONDS = 0.2
MARKER_SECONDS = 0.01  # a marker is usually written after 3 ms
META_SECONDS = 60.0  # to find META of every partition: it is near the end, but the reader may wait for a leader
EVERYTHING = 1 << 62  # offsets before the end: the whole log
#: whole changelogs are read, and no event waits meanwhile
FETCH = FetchLimits(min_bytes=1, max_wait_ms=50, partition_bytes=4 << 20, fetch_bytes=8 << 20)

T = TypeVar("T")


class Observation:
    """A connection of its own. Use it as `async with`."""

    def __init__(self, connections: Connections, configuration: Configuration) -> None:
        """`configuration` names the group, the source and the outputs; its changelog is not used."""
        self.configuration = configuration
        self._connections = connections
        self._opened = AsyncExitStack()
        self._known: set[str] = set()

    async def __aenter__(self) -> Self:
        try:
            await self._open()
        except BaseException:
            await self._opened.aclose()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._opened.aclose()

    async def _open(self) -> None:
        conf = self.configuration
        self.client = await connected_client(self._connections, self._opened)
        self._coordinators = Coordinators(self.client, conf.group, conf.group)
        self._lookup = MemberLookup(self.client, self._coordinators, group=conf.group, topic=conf.source_topic)
        found = await self.topics(conf.source_topic, *conf.output_topics)
        for name in (conf.source_topic, *conf.output_topics):
            if name not in found:
                raise TopicMissing(name)
        #: of the source topic
        self.source = found[conf.source_topic]
        self.outputs = {name: found[name] for name in conf.output_topics}
        self.partitions = range(self.source.partitions)
        for name, output in self.outputs.items():
            if output.partitions < self.source.partitions:
                raise SourceHasGrown(conf.source_topic, self.source.partitions, name, output.partitions)

    async def ask(self, question: Callable[[], Awaitable[T]]) -> T:
        """The answer. Raises KafkaRefused if there is none within ANSWER_SECONDS."""
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            try:
                return await question()
            except (*LOST, kafka_errors.KafkaError) as error:
                if time.monotonic() > deadline:
                    raise KafkaRefused(cause_of(error)) from error
            self._coordinators.forget()
            await self.client.force_metadata_update()
            await asyncio.sleep(PAUSE_SECONDS)

    async def topics(self, *names: str) -> dict[str, TopicIdentity]:
        """The topics that exist, by name. From then on the client knows their leaders."""
        found = await self.ask(lambda: describe(self.client, names))
        if not found.keys() <= self._known:
            self._known |= found.keys()
            await self.ask(lambda: self.client.set_topics(sorted(self._known)))
        return found

    async def cluster_id(self) -> str:
        return await self.ask(lambda: cluster_id(self.client))

    # -- logs

    async def bounds(self, topic: str) -> dict[int, LogBounds]:
        """Of every partition of a topic that exists."""
        return await self.ask(lambda: self._bounds(topic))

    async def ended_bounds(self, topic: str) -> dict[int, LogBounds]:
        """Like `bounds`, of a topic to which nobody writes any more: waits until every transaction has its marker.

        A commit is answered before its markers are written. Raises KafkaRefused.
        """
        deadline = time.monotonic() + ANSWER_SECONDS
        while True:
            bounds = await self.bounds(topic)
            open_ones = [partition for partition, one in bounds.items() if one.stable < one.end]
            if not open_ones:
                return bounds
            if time.monotonic() > deadline:
                raise KafkaRefused(f"a transaction in {topic}-{open_ones[0]} does not end")
            await asyncio.sleep(MARKER_SECONDS)

    async def _bounds(self, topic: str) -> dict[int, LogBounds]:
        partitions = self.partitions
        starts = await log_offsets(self.client, topic, partitions, EARLIEST)
        stable = await log_offsets(self.client, topic, partitions, LATEST, READ_COMMITTED)
        ends = await log_offsets(self.client, topic, partitions, LATEST)
        known = starts.keys() & stable.keys() & ends.keys()
        if len(known) < len(partitions):
            raise kafka_errors.LeaderNotAvailableError(topic)
        return {partition: LogBounds(starts[partition], stable[partition], ends[partition]) for partition in partitions}

    async def offsets_since(self, moment_ms: int) -> dict[int, int]:
        """The first source offset whose record is not older, by partition; -1 if there is none."""

        async def since() -> dict[int, int]:
            found = await log_offsets(self.client, self.configuration.source_topic, self.partitions, moment_ms)
            if len(found) < len(self.partitions):
                raise kafka_errors.LeaderNotAvailableError(self.configuration.source_topic)
            return found

        return await self.ask(since)

    # -- the group

    async def members(self) -> tuple[GroupMember, ...]:
        async def members() -> tuple[GroupMember, ...]:
            try:
                return await self._lookup.members()
            except kafka_errors.GroupIdNotFound:
                return ()

        return await self.ask(members)

    async def positions(self, *, is_stable: bool) -> dict[int, GroupPosition]:
        """The group's offsets. With `is_stable`, without the partitions that a pending transaction holds."""

        async def positions() -> dict[int, GroupPosition]:
            conf = self.configuration
            return await group_offsets(
                self.client,
                await self._coordinators.group(),
                conf.group,
                conf.source_topic,
                self.partitions,
                is_stable=is_stable,
            )

        return await self.ask(positions)

    # -- the state

    async def reader(self, topic: str, opened: AsyncExitStack) -> Reader:
        """A started reader of all partitions of a topic that exists. `opened` closes it."""
        made = self._connections.reader(topic, len(self.partitions), FETCH)
        opened.push_async_callback(made.stop)
        await bootstrapped(made.start)
        return made

    async def metas(self, topic: str) -> Mapping[int, Meta]:
        """The newest META of each partition of a changelog that has a readable one."""
        async with AsyncExitStack() as opened:
            reader = await self.reader(topic, opened)

            async def metas() -> dict[int, Meta]:
                try:
                    async with asyncio.timeout(META_SECONDS):
                        return await newest_metas(self.client, reader, topic, self.partitions, (*STEPS, EVERYTHING))
                finally:
                    reader.pause(self.partitions)

            return await self.ask(metas)

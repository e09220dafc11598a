"""Brings the store of added partitions up to the changelog's end and says where to go on reading the source.

1. Wait for the group's stable offsets: a transaction that a former owner left pending decides first.
2. Only then take the changelog's read_uncommitted end, and replay to it at read_committed by fetch position.
3. META, out of the changelog, and the group's offset must agree. A broker that has just started may answer -1 for a
   while, so a difference is asked for again before it stops the partition. Nothing is ever guessed or reset.
"""

import asyncio
import logging
import math
import time
from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient

from portfolio_stream.errors import FoldMismatch
from portfolio_stream.exactly_once.offset_lookup import EARLIEST, LATEST, NO_OFFSET, group_offsets, log_offsets
from portfolio_stream.exactly_once.reader import BatchReader
from portfolio_stream.exactly_once.store import Meta, Position, Store, prefix_of
from portfolio_stream.exactly_once.wire import LOST, Coordinators

log = logging.getLogger(__name__)

UNSTABLE_POLL_SECONDS = 0.02  # the broker answers "unstable" at once, it does not wait for us
AGREEMENT_SECONDS = 15.0  # how long META and the group may differ after a broker's restart before we believe it
MAX_ABSENCE_SECONDS = 3.5 * 24 * 3600  # half of the changelog's delete.retention.ms: tombstones may be gone after it
WAIT_WARNING_SECONDS = 10.0  # twice the transaction time-out: whatever is pending should be decided
FETCH_WAIT_MS = 50


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The source topic as this cluster has it."""

    name: str
    topic_id: UUID
    partitions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A partition whose store holds all that is committed."""

    partition: int
    #: next source offset
    offset: int
    #: changelog records replayed
    replayed: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Halted:
    """A partition that an operator must look at; the others go on."""

    partition: int
    offset: int | None
    reason: str
    #: the source record that no fold takes, where it is one
    record: Any = None


class Recovery:
    def __init__(
        self,
        client: AIOKafkaClient,
        coordinators: Coordinators,
        store: Store,
        changelog: BatchReader,
        *,
        group: str,
        source: Source,
        changelog_topic: str,
        changelog_topic_id: UUID,
        fold: str,
    ) -> None:
        self._client = client
        self._coordinators = coordinators
        self._store = store
        self._changelog = changelog
        self._group = group
        self._source = source
        self._changelog_topic = changelog_topic
        self._changelog_id = changelog_topic_id.hex
        self._fold = fold
        self._warned = time.monotonic()
        self._replaying = asyncio.Lock()  # one long-lived reader serves all

    async def recover(self, partitions: Collection[int]) -> AsyncIterator[Ready | Halted]:
        """Each partition as soon as it is decided. Raises StoreFailed, FoldMismatch."""
        left = set(partitions)
        self._warned = time.monotonic()
        deadline = math.inf  # from the first disagreement on: a long replay or an absent broker must not use it up
        while left:
            try:
                offsets = await self._stable_offsets(left)
                replayed = await self._replay(offsets)
                bounds = await self._bounds(replayed)
            except (*LOST, kafka_errors.KafkaError) as error:
                log.info("recovery waits for the brokers error=%s", type(error).__name__)
                self._coordinators.forget()
                await self._client.force_metadata_update()
                offsets, replayed, bounds = {}, {}, {}
            for partition, (first, end) in bounds.items():
                decided = self._decide(
                    partition, offsets[partition], first, end, replayed, is_last_try=time.monotonic() > deadline
                )
                if decided is None:
                    deadline = min(deadline, time.monotonic() + AGREEMENT_SECONDS)
                    continue
                left.discard(partition)
                yield decided
            if left:
                self._warn_of_wait(left, "their offsets")
                await asyncio.sleep(UNSTABLE_POLL_SECONDS)

    def _warn_of_wait(self, partitions: Collection[int], what: str) -> None:
        """A transaction that Kafka never ends would hold a partition for ever: an operator must see it."""
        if time.monotonic() - self._warned > WAIT_WARNING_SECONDS:
            self._warned = time.monotonic()
            log.warning(
                "recovery waits partitions=%s for=%s; if it lasts, look for an open transaction with "
                "kafka-transactions find-hanging and abort it",
                sorted(partitions),
                what,
            )

    def _decide(
        self, partition: int, group: int, first: int, end: int, replayed: Mapping[int, int], *, is_last_try: bool
    ) -> Ready | Halted | None:
        """None: ask again."""
        meta = self._store.meta(partition)
        problem = self._problem(meta, group)
        if meta is not None and meta.fold != self._fold:
            raise FoldMismatch(partition, meta.fold, self._fold)
        offset = first if meta is None else meta.offset
        if problem is None and not first <= offset <= end:
            problem = f"the next offset {offset} is outside the source log {first}..{end}"
        if problem is None or (is_last_try and group == NO_OFFSET and self._same_source(meta)):
            return Ready(partition=partition, offset=offset, replayed=replayed.get(partition, 0))
        return Halted(partition=partition, offset=offset, reason=problem) if is_last_try else None

    def _problem(self, meta: Meta | None, group: int) -> str | None:
        if meta is None:
            return None if group == NO_OFFSET else f"the group's offset is {group}, but the changelog has no state"
        if not self._same_source(meta):
            return (
                f"the state belongs to a source topic with id {meta.topic_id} and {meta.partitions} partitions, "
                f"the topic has id {self._source.topic_id.hex} and {self._source.partitions}"
            )
        if meta.offset != group:
            return f"the group's offset is {group}, but the state's is {meta.offset}"
        return None

    def _same_source(self, meta: Meta | None) -> bool:
        return meta is not None and (meta.topic_id, meta.partitions) == (
            self._source.topic_id.hex,
            self._source.partitions,
        )

    async def _stable_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        """Committed offsets (NO_OFFSET for none) of the partitions that no pending transaction holds."""
        coordinator = await self._coordinators.group()
        return await group_offsets(
            self._client, coordinator, self._group, self._source.name, partitions, is_stable=True
        )

    async def _replay(self, partitions: Collection[int]) -> dict[int, int]:
        """Changelog records replayed by partition, up to the end that stood when it began."""
        if not partitions:
            return {}
        async with self._replaying:
            ends = await log_offsets(self._client, self._changelog_topic, partitions, LATEST)
            starts = {partition: await self._usable_position(partition, ends[partition]) for partition in ends}
            todo = {partition for partition in ends if starts[partition] < ends[partition]}
            replayed = dict.fromkeys(ends, 0)
            for partition in todo:
                self._changelog.resume(partition, starts[partition])
            try:
                while todo:
                    self._warn_of_wait(todo, "the changelog's end")
                    await self._replay_fetch(replayed)
                    for partition in list(todo):
                        if await self._changelog.position(partition) >= ends[partition]:
                            todo.discard(partition)
                            self._changelog.pause((partition,))
            finally:
                self._changelog.pause(todo)
            return replayed

    async def _replay_fetch(self, replayed: dict[int, int]) -> None:
        for partition, batches in (await self._changelog.fetch(FETCH_WAIT_MS)).items():
            prefix = prefix_of(partition)
            for batch in batches:
                items = [(prefix + record.key, record.value) for record in batch]
                position = Position(topic_id=self._changelog_id, offset=batch[-1].offset + 1)
                await self._store.write(items, {partition: position})
                replayed[partition] += len(items)

    async def _usable_position(self, partition: int, end: int) -> int:
        """Where the replay starts; a store that cannot be continued is wiped first."""
        position = self._store.position(partition)
        if position is None:
            await self._store.wipe(partition)
            return 0
        absent = self._store.seconds_since_written()
        if position.topic_id == self._changelog_id and position.offset <= end and absent < MAX_ABSENCE_SECONDS:
            return position.offset
        log.warning("store wiped partition=%d position=%d end=%d absent=%.0f", partition, position.offset, end, absent)
        await self._store.wipe(partition)
        return 0

    async def _bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        if not partitions:
            return {}
        firsts = await log_offsets(self._client, self._source.name, partitions, EARLIEST)
        ends = await log_offsets(self._client, self._source.name, partitions, LATEST)
        return {partition: (firsts[partition], ends[partition]) for partition in firsts.keys() & ends.keys()}

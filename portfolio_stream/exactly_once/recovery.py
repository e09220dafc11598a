"""Brings the store of added partitions up to the changelog's end and says where to go on reading the source.

1. Wait for the group's stable offsets: a former owner may have left a transaction pending, and its outcome decides.
2. Only then replay the changelog to the end that it has now (`replay`).
3. META, which comes from the changelog, and the group's offset must agree. A broker that has just started may answer -1
   for a while, so recovery asks again before a difference halts the partition. Recovery guesses and resets no offset.
4. An offset names the generation of the job that committed it. A newer one than the engine's ends the engine's
   membership: it recovers again with the newer generation's changelog.
5. META must name the changelog topic that exists now. A topic that was deleted and made again under a worker holds only
   the records since then, and they are no whole state.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import FoldMismatch, StateUnreadable
from portfolio_stream.exactly_once.orders import GenerationReplaced
from portfolio_stream.exactly_once.repeat import Repeat, repeat_of
from portfolio_stream.exactly_once.repeat_check import with_repeat_problems
from portfolio_stream.exactly_once.replay import ChangelogReplay, Replayed
from portfolio_stream.exactly_once.replay_progress import ReplayProgress
from portfolio_stream.exactly_once.store import Meta, Store
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, NO_OFFSET, MemberEpoch, group_offsets, log_offsets
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators
from portfolio_stream.observe.events import RecoveryOutage, RecoveryWaits
from portfolio_stream.observe.ring import Tell, write

UNSTABLE_POLL_SECONDS = 0.02  # the broker answers "unstable" at once, and does not wait for the transaction
AGREEMENT_SECONDS = 15.0  # how long META and the group may differ, e.g. after a broker's restart
OUTAGE_POLL_SECONDS = 1.0
STABLE_OFFSETS = "the group's stable offsets; if it lasts: kafka-transactions find-hanging, then abort"
WAIT_WARNING_SECONDS = 10.0  # three times the transaction time-out: a pending transaction should be decided by then


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """The source topic as this cluster has it."""

    name: str
    topic_id: UUID
    partitions: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """A partition whose store holds everything that is committed."""

    partition: int
    #: next source offset
    offset: int
    #: changelog records replayed
    replayed: int
    #: there is a state, but the group has no offset: the offset expired, or somebody deleted it
    lacks_group_offset: bool = False
    #: outputs that stand already, and that the fold gives once more
    repeat: Repeat | None = None
    #: source offsets, from `offset` on, of records that an operator has moved to the dead letters before
    decided: frozenset[int] = frozenset()


@dataclass(frozen=True, kw_only=True, slots=True)
class Halted:
    """A partition that an operator must look at. The other partitions go on."""

    partition: int
    offset: int | None
    reason: str
    #: the source record, or the batch, that cannot be committed; None if another cause halts the partition
    record: Any = None
    #: the group's offset, if it differs from the state's offset and nothing else halts the partition
    group_offset: int | None = None


class Recovery:
    def __init__(
        self,
        client: Client,
        coordinators: Coordinators,
        store: Store,
        replay: ChangelogReplay,
        *,
        group: str,
        member: Callable[[], MemberEpoch],
        source: Source,
        changelog_id: str,
        generation: int,
        fold: str,
        older_folds: Collection[str] = (),
        outputs: Collection[str] = (),
        tell: Tell = write,
    ) -> None:
        self._generation = generation
        self._client = client
        self._outputs = outputs
        self._coordinators = coordinators
        self._store = store
        self._replay = replay
        self._group = group
        self._member = member
        self._source = source
        self._changelog_id = changelog_id
        self._fold = fold
        self._readable_folds = frozenset((fold, *older_folds))
        self._tell = tell
        #: some partition's state was folded as here: a partition that was folded otherwise halts alone (`fold_check`)
        self.is_fold_known = False
        #: monotonic seconds, by partition: until then a disagreement is asked for again. The time runs from the first
        #: disagreement, so a long replay or an absent broker does not use it up.
        self._deadlines: dict[int, float] = {}
        self._warned = time.monotonic()

    @property
    def progress(self) -> ReplayProgress:
        return self._replay.progress

    async def recover(
        self, partitions: Collection[int], taken_over: Collection[int] = ()
    ) -> AsyncIterator[Ready | Halted]:
        """Give each partition as soon as it is decided. Raises StoreFailed, FoldMismatch, GenerationReplaced.

        Another recovery had begun with the partitions of `taken_over`: their time of waiting goes on.
        """
        left = set(partitions)
        new = left.difference(taken_over)
        self._replay.begin(new)
        self._deadlines = {partition: at for partition, at in self._deadlines.items() if partition not in new}
        if new == left:
            self._warned = time.monotonic()
        while left:
            offsets, replayed, bounds = await self._look(left)
            disagreements: dict[int, str] = {}
            for partition, log_bounds in bounds.items():
                problem = self._problem(partition, offsets[partition], log_bounds, replayed[partition])
                is_last_try = is_over(self._deadlines.get(partition, math.inf))
                if problem is None or is_last_try:
                    left.discard(partition)
                    yield self.decide(partition, offsets[partition], log_bounds, replayed[partition], problem)
                else:
                    disagreements[partition] = problem
                    self._deadlines.setdefault(partition, time.monotonic() + AGREEMENT_SECONDS)
            if left and len(disagreements) == len(bounds):
                self._warn_of_wait(left, "; ".join(disagreements.values()) or STABLE_OFFSETS)
                await asyncio.sleep(UNSTABLE_POLL_SECONDS)

    async def _look(
        self, partitions: Collection[int]
    ) -> tuple[Mapping[int, int], Mapping[int, Replayed], Mapping[int, tuple[int, int]]]:
        """The stable group offsets, the replayed records and the bounds of the source log.

        Partitions of which Kafka cannot tell all three now are left out.
        """
        try:
            offsets = await self._stable_offsets(partitions)
            done = await self._replay.run(offsets, self._warn_of_wait, others=len(partitions) - len(offsets))
            replayed = await with_repeat_problems(self._client, self._store, self._outputs, done)
            bounds = await self._bounds(replayed)
        except (*LOST, kafka_errors.KafkaError) as error:
            self._tell(RecoveryOutage(error=type(error).__name__))
            self._coordinators.forget()
            await self._client.force_metadata_update()
            await asyncio.sleep(OUTAGE_POLL_SECONDS)
            return {}, {}, {}
        return offsets, replayed, bounds

    def _warn_of_wait(self, partitions: Collection[int], what: str) -> None:
        """Tell the operator now and then what recovery waits for: Kafka may never end a pending transaction."""
        if time.monotonic() - self._warned > WAIT_WARNING_SECONDS:
            self._warned = time.monotonic()
            self._tell(RecoveryWaits(partitions=tuple(sorted(partitions)), what=what))

    def _problem(self, partition: int, group: int, bounds: tuple[int, int], replayed: Replayed) -> str | None:
        """Why this partition may not go on; None if it may. Raises FoldMismatch."""
        if (of_state := self._state_problem(partition, replayed)) is not None:
            return of_state
        meta = self._store.meta(partition)
        if meta is None:
            return None if group == NO_OFFSET else f"the group's offset is {group}, but the changelog has no state"
        return disagreement(partition, meta, group, *bounds)

    def _state_problem(self, partition: int, replayed: Replayed) -> str | None:
        """Why the state in the store may not go on, apart from the group's offset. Raises FoldMismatch."""
        try:
            meta = self._store.meta(partition)
        except StateUnreadable as error:
            return str(error)
        if meta is not None and meta.fold in self._readable_folds:
            self.is_fold_known = True
        elif meta is not None:
            mismatch = FoldMismatch(partition, meta.fold, self._fold)
            if not self.is_fold_known:
                raise mismatch
            return f"{mismatch.cause} Other partitions were folded as here: somebody else wrote this one's META."
        if replayed.problem is not None:
            return replayed.problem
        return None if meta is None else self._foreign(meta)

    def _foreign(self, meta: Meta) -> str | None:
        if meta.changelog != self._changelog_id:
            return (
                f"the state up to offset {meta.offset} was written to a changelog with id {meta.changelog}, the topic "
                f"has id {self._changelog_id}: it was deleted and made again, and holds no whole state"
            )
        if (meta.topic_id, meta.partitions) != (self._source.topic_id.hex, self._source.partitions):
            return (
                f"the state belongs to a source topic with id {meta.topic_id} and {meta.partitions} partitions, "
                f"the topic has id {self._source.topic_id.hex} and {self._source.partitions}"
            )
        return None

    def decide(
        self, partition: int, group: int, bounds: tuple[int, int], replayed: Replayed, problem: str | None
    ) -> Ready | Halted:
        """Decide from where the partition goes on, when that is clear or was asked for long enough.

        If the group's offset stays absent, META decides.
        """
        try:
            meta = self._store.meta(partition)
        except StateUnreadable as error:
            return Halted(partition=partition, offset=bounds[0], reason=str(error))
        offset = bounds[0] if meta is None else meta.offset
        moved_to = None
        if problem is not None and meta is not None and self._state_problem(partition, replayed) is None:
            of_state = disagreement(partition, meta, meta.offset, *bounds)
            if group == NO_OFFSET:
                problem = of_state
            elif of_state is None:
                moved_to = group
        if problem is not None:
            return Halted(partition=partition, offset=offset, reason=problem, group_offset=moved_to)
        return Ready(
            partition=partition,
            offset=offset,
            replayed=replayed.records,
            lacks_group_offset=meta is not None and group == NO_OFFSET,
            repeat=None if meta is None else repeat_of(meta.repeat),
            decided=self._store.decided(partition, offset),
        )

    async def _stable_offsets(self, partitions: Collection[int]) -> dict[int, int]:
        """Committed offsets (NO_OFFSET for none) of the partitions that no pending transaction holds.

        Raises GenerationReplaced if an offset belongs to a newer generation: the state here is not its state.
        """
        coordinator = await self._coordinators.group()
        found = await group_offsets(
            self._client,
            coordinator,
            self._group,
            self._source.name,
            partitions,
            is_stable=True,
            member=self._member(),
        )
        newest = max((position.generation or 1 for position in found.values()), default=1)
        if newest > self._generation:
            raise GenerationReplaced(newest)
        return {partition: position.offset for partition, position in found.items()}

    async def _bounds(self, partitions: Collection[int]) -> dict[int, tuple[int, int]]:
        if not partitions:
            return {}
        firsts = await log_offsets(self._client, self._source.name, partitions, EARLIEST)
        ends = await log_offsets(self._client, self._source.name, partitions, LATEST)
        return {partition: (firsts[partition], ends[partition]) for partition in firsts.keys() & ends.keys()}


def disagreement(partition: int, meta: Meta, group: int, first: int, end: int) -> str | None:
    """How the state's offset differs from the group's offset, or lies outside of the source log; None: it does not."""
    if meta.offset != group:
        return (
            f"the group's offset is {group}, but the state's is {meta.offset}; if somebody else committed {group}, "
            f"`portfolio-stream partitions retry {partition} --from-state` goes on from the state, and "
            "`portfolio-stream offsets adopt` takes the state to the moved offset"
        )
    if not first <= meta.offset <= end:
        return f"the next offset {meta.offset} is outside the source log {first}..{end}"
    return None


def is_over(deadline: float) -> bool:
    """The monotonic second `deadline` has passed."""
    return time.monotonic() > deadline

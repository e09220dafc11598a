"""Follows the changelogs of partitions that other workers own, so that little is left to replay when Kafka moves them.

1. A standby partition is neither owned, nor folded, nor served by this worker. The store has its committed state, a
   moment old, and the changelog position of that moment. If Kafka gives the partition to this worker, an ordinary
   recovery goes on from that position.
2. This module writes nothing of a partition that the worker owns. `given_up` ends the writing before the partition is
   assigned.
3. The replay of the recovery does the work (`ChangelogReplay`), with a reader of its own. All of its checks hold: it
   reads committed records only, and wipes a store that cannot be continued.
4. Running partitions come first: the standbys read a little at a time, and rest in between.
5. Standbys are warm when one pass over all of them takes less than WARM_PASS_SECONDS. A worker that is new to a running
   group joins when its standbys are warm, or after WARMING_SECONDS. Until the worker joins, the owners go on with all
   partitions. When it has joined, partitions move to it, and stand still until it has replayed the rest.
6. If Kafka does not answer, the standbys wait and try again. The worker does not end, and joins the group without warm
   standbys. A disk that fails ends the worker, as everywhere.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Coroutine, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiokafka import errors as kafka_errors

from portfolio_stream.exactly_once.member_name import first_name
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.replay import ChangelogReplay, Replayed
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.exactly_once.standby_choice import standbys_of
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.member_lookup import MemberLookup
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import Tell, write

R = TypeVar("R")

LOOK_SECONDS = 3.0  # between two looks at the group's members: a new choice may come some seconds late
POLL_SECONDS = 0.5  # between two passes, when everything was read: about as much is left to replay at a takeover
BEHIND_SECONDS = 0.02  # between two passes, when more can be read at once
REST_SECONDS = 0.01  # two or three times what a fetch takes
#: the longest pass: it may wait for the end of a pending transaction, but the choice of partitions must not become old
PASS_SECONDS = 10.0
WARMING_SECONDS = 60.0  # a worker joins after this time also with cold standbys
WARM_PASS_SECONDS = 1.0  # about as many seconds of the changelogs are then left to replay
ANSWER_SECONDS = 2.0  # for a look; without an answer the former choice stays
OUTAGE_SECONDS = 1.0  # the pause after a pass that Kafka did not answer
REFUSED_SECONDS = 60.0  # until a changelog that gave no whole state is tried again


class Standbys:
    def __init__(
        self,
        replay: ChangelogReplay | None,
        group: MemberLookup,
        membership: Membership,
        partitions: Partitions,
        store: Store,
        *,
        copies: int,
        tell: Tell = write,
    ) -> None:
        """Without a `replay` nothing is followed."""
        self._replay = replay
        self._group = group
        self._member = membership
        self._partitions = partitions
        self._store = store
        self._copies = copies
        self._tell = tell
        #: partitions of which the group's members make this worker a standby, unless it owns them
        self.chosen: frozenset[int] = frozenset()
        #: the partitions that are followed now
        self.followed: frozenset[int] = frozenset()
        #: partitions that are about to be assigned
        self._barred: frozenset[int] = frozenset()
        #: monotonic seconds, by partition: until then a changelog that gave no whole state is left alone
        self._refused: dict[int, float] = {}
        self._pass: asyncio.Task[dict[int, Replayed]] | None = None
        self._looked = float("-inf")
        self._warm = asyncio.Event()
        if replay is None:
            self._warm.set()

    @property
    def is_warming(self) -> bool:
        """The worker waits with its join until its standbys are warm."""
        return not self._warm.is_set()

    def behind(self) -> dict[int, int]:
        """Changelog records between the store and the end that was last seen, by followed partition."""
        ends = {} if self._replay is None else self._replay.ends
        behind: dict[int, int] = {}
        for partition in sorted((self.followed - self._partitions.owned) & ends.keys()):
            position = self._store.position(partition)
            behind[partition] = max(0, ends[partition] - (0 if position is None else position.offset))
        return behind

    async def warmed(self) -> None:
        """Return when the worker may join the group."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._warm.wait(), WARMING_SECONDS)
        self._warm.set()

    @asynccontextmanager
    async def given_up(self, partitions: Collection[int]) -> AsyncIterator[None]:
        """Inside of this context nothing of `partitions` is written from here. They are assigned before it ends."""
        self._barred |= frozenset(partitions)
        try:
            if self.followed & self._barred:
                await cancelled(self._pass)
                await self._store.drained()
            yield
        finally:
            self._barred -= frozenset(partitions)

    async def run(self) -> None:
        """Follow until cancelled. Raises StoreFailed: the worker's own partitions have the same disk."""
        if self._replay is None:
            return
        while True:
            if time.monotonic() - self._looked > LOOK_SECONDS:
                await self._trying(self._look(), ANSWER_SECONDS)
                self._looked = time.monotonic()
            await asyncio.sleep(await self._trying(self._follow(self._replay), None) or OUTAGE_SECONDS)

    async def _trying(self, work: Coroutine[Any, Any, R], seconds: float | None) -> R | None:
        """The result of `work`; None if Kafka did not answer, or not within `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                return await work
        except (*LOST, kafka_errors.KafkaError) as error:
            self._tell(told.StandbyOutage(error=type(error).__name__))
            self._warm.set()
            with suppress(*LOST, kafka_errors.KafkaError):
                await self._group.forget()
            return None

    async def _look(self) -> None:
        """Ask for the group's members, and choose the partitions to follow. Raises one of LOST or a KafkaError."""
        try:
            members = await self._group.members()
        except kafka_errors.GroupIdNotFound:
            members = ()
        held = {first_name(member.member_id): member.partitions for member in members}
        me = first_name(self._member.member_id)
        self.chosen = frozenset()
        is_first = not any(held.values())  # no worker has any partition: this one joins at once, to own some
        if not is_first:
            self.chosen = standbys_of(me, held, copies=self._copies, partitions=len(self._partitions))
        if me in held or is_first:
            self._warm.set()  # if this worker is still a member, its partitions wait for it

    async def _follow(self, replay: ChangelogReplay) -> float:
        """Read the chosen partitions once. Returns how long to wait before the next pass."""
        wanted = self.wanted()
        if wanted != self.followed:
            self.followed = wanted
            self._tell(told.StandbysChanged(partitions=tuple(sorted(wanted))))
        started = time.monotonic()
        replayed: Mapping[int, Replayed] = {}
        if wanted:
            self._pass = asyncio.create_task(replay.run(dict.fromkeys(wanted, 0), _untold), name="standbys")
            try:
                await asyncio.wait((self._pass,), timeout=PASS_SECONDS)
            finally:
                await cancelled(self._pass)
            replayed = {} if self._pass.cancelled() else self._pass.result()
        now = time.monotonic()
        for partition, one in replayed.items():
            if one.problem is not None:
                self._refused[partition] = now + REFUSED_SECONDS
                self._tell(told.StandbyRefused(partition=partition, reason=one.problem))
        if wanted > replayed.keys():
            return BEHIND_SECONDS
        if now - started < WARM_PASS_SECONDS:
            self._warm.set()
        return POLL_SECONDS

    def wanted(self) -> frozenset[int]:
        """The chosen partitions, without those that this worker owns or will own, and without those refused lately."""
        now = time.monotonic()
        refused = frozenset(partition for partition, until in self._refused.items() if now < until)
        return self.chosen - self._partitions.owned - self._member.target - self._barred - refused


def rest_seconds(partitions: Partitions) -> float:
    """How long running partitions have the event loop after each fetch of the standbys; 0 if none runs."""
    return REST_SECONDS if partitions.served else 0.0


def _untold(partitions: Collection[int], what: str) -> None:
    """A standby may wait for as long as it takes."""

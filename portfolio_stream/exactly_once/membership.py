"""The group member (KIP-848): heartbeats in a task of their own, assignment by the broker.

1. A heartbeat never waits for a fold, the store or recovery; but a worker whose main loop stood still for the rebalance
   time-out stops beating, so that others take over.
2. A partition is given back (acknowledged) only after the engine settled what it had read of it.
3. UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH break the membership: `session` changes, and everything read under an older
   session is void, whatever epoch the member gets next.
4. A coordinator that still holds a membership of ours, of a process that was killed or of an epoch that we have lost,
   may refuse a join with FENCED_MEMBER_EPOCH until that one's session ends (KAFKA-19233: Kafka 4.0 to 4.2). We leave
   it, then join. So we do with a name that a join or a goodbye without an answer has spoilt (`member_name`).
5. A target is told once, when it changes, and else only to a beat with all fields (isFullRequest in Kafka's
   GroupMetadataManager). Such a one follows each beat that was not answered, and is sent now and then: a request that
   comes late may have changed the target, too, and was answered to nobody.
6. Whatever a beat names as owned has the target in it: the engine may begin with that while the beat is under way, and
   a partition that is not named is given away at once, without a revocation.
7. Who was expelled may have a successor with the same member id. A join or a goodbye of ours would be its: nothing is
   sent until the transaction coordinator has said that the identity is ours (`own`).
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import MembershipLost, PortfolioStreamError, StoreFailed, TopicReplaced
from portfolio_stream.exactly_once.member_name import MemberName
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.quiet_logs import sparing
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators, Lane, call, schema

log = logging.getLogger(__name__)
outage_log = sparing(__name__)

_heartbeat = schema("consumer_group_heartbeat", 1)

ANNOUNCE_SECONDS = 5.0  # between two beats with all fields
BEAT_SECONDS = 0.4  # a member may beat faster than it is asked to: a rebalance takes as many beats as it has steps
REBALANCE_TIMEOUT_SECONDS = 30.0  # how long a revoked partition may be held
FAILURE_PAUSE_SECONDS = 0.1  # a coordinator that has just moved answers at once, many times
EXPULSION_WINDOW_SECONDS = 10.0  # processes of one identity expel each other again and again
RIVAL_SECONDS = 2.0  # since the coordinator's last answer: below any session time-out, so it was no pause of ours
JOIN, LEAVE = 0, -1  # the member epochs that ask for a membership and say goodbye
FRESH_SECONDS = 2.0  # an ownership older than this is not served over HTTP; below the smallest session time-out


class Membership:
    def __init__(
        self,
        client: Client,
        coordinators: Coordinators,
        *,
        group: str,
        topic: str,
        topic_id: UUID,
        name: MemberName,
        progress: Callable[[], float],
        wake_engine: Callable[[], None],
    ) -> None:
        """`progress` gives the monotonic time of the main loop's last turn."""
        self._client = client
        self._coordinators = coordinators
        self._group = group
        self._topic = topic
        self._topic_id = topic_id
        self._progress = progress
        self._wake_engine = wake_engine
        self._name = name
        self.epoch = 0
        #: one unbroken membership; bumped when it breaks
        self.session = 0
        #: what the coordinator wants us to own
        self.target: frozenset[int] = frozenset()
        self._has_new_target = False  # not acknowledged yet
        #: what we have told it that we own
        self.owned: frozenset[int] = frozenset()
        self._announce = True  # the next beat carries all fields, as after a join
        self._announced = float("-inf")
        self._acknowledge = False
        self._must_leave = False  # what stands between us and a join
        self._is_ours = True  # the member id; its first join follows an InitProducerId of ours
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._last_answer = float("-inf")
        self._last_expulsion = float("-inf")
        self._left = False
        self.beats = 0

    @property
    def member_id(self) -> str:
        """Changes only while there is no membership, between a goodbye and the next join."""
        return self._name.value

    @property
    def is_fresh(self) -> bool:
        """The coordinator confirmed this membership so recently that nobody else can own our partitions.

        A main loop that stands still gives nothing back: it may be expelled while its beats are answered. The word of a
        broker that woke from a standstill, and has not heard of its successor yet, cannot be told from another.
        """
        now = time.monotonic()
        stands_still = now - self._progress() > REBALANCE_TIMEOUT_SECONDS - FRESH_SECONDS
        return self.epoch > 0 and not self._left and not stands_still and now - self._last_answer < FRESH_SECONDS

    def acknowledge(self, owned: frozenset[int]) -> None:
        """Tell the coordinator what is owned now: it hands revoked partitions on only after this."""
        if owned != self.owned or self._has_new_target:
            self.owned = owned
            self._has_new_target = False
            self._acknowledge = True
            self._wake.set()

    def own(self, session: int) -> None:
        """No other process had the identity in this session or later: join again, if that is to be done."""
        if session == self.session and not self._is_ours:
            self._is_ours = True
            self._wake.set()

    def disown(self) -> None:
        """Another process has the identity."""
        self._is_ours = False

    async def run(self) -> None:
        """Beat until cancelled. Raises MembershipLost or another PortfolioStreamError when beating is pointless."""
        while True:
            is_alive = time.monotonic() - self._progress() < REBALANCE_TIMEOUT_SECONDS
            if is_alive:
                await self._beat_quietly()
            self._wake.clear()
            has_news = self._is_ours and (self._acknowledge or self._announce)
            if not (is_alive and has_news):
                timer = asyncio.get_running_loop().call_later(BEAT_SECONDS, self._wake.set)
                await self._wake.wait()
                timer.cancel()

    async def beat(self) -> None:
        """One heartbeat now, e.g. to learn the newest epoch."""
        await self._beat()

    async def leave(self) -> None:
        """Give everything back at once, if it is ours; nothing is served from here on."""
        self._left = True
        with suppress(StoreFailed):  # it was answered; a name that stays unsettled costs the next process a goodbye
            await self._beat(leaving=True)

    async def _beat_quietly(self) -> None:
        try:
            await self._beat()
        except (*LOST, kafka_errors.KafkaError) as error:
            if isinstance(error, kafka_errors.BrokerResponseError) and not error.retriable:
                raise self._refused(type(error).__name__) from error
            outage_log.info("heartbeat unanswered error=%s", type(error).__name__)
            self._coordinators.forget()
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    async def _beat(self, *, leaving: bool = False) -> None:
        async with self._lock:  # the beat before may change the epoch: one that waited sends the new one
            if not self._is_ours:
                return
            is_goodbye = leaving or self._must_leave or self._name.is_spoilt
            epoch = LEAVE if is_goodbye else self.epoch
            sent = time.monotonic()
            announce = self._announce or sent - self._announced > ANNOUNCE_SECONDS
            acknowledge = self._acknowledge
            self._announce = self._acknowledge = False
            try:
                request = self._request(epoch, announce=announce, acknowledge=acknowledge)
                reply = await self._answer(request)
            except BaseException:
                self._announce = True  # its answer may have told a new target, which only such a beat is told again
                self._acknowledge |= acknowledge
                raise
            self.beats += 1
            if announce:
                self._announced = sent
            if not self._digest(reply, sent, leaving=is_goodbye):
                self._announce |= announce
                self._acknowledge |= acknowledge
                await asyncio.sleep(FAILURE_PAUSE_SECONDS)
                return
            if epoch in (JOIN, LEAVE):
                self._name.settle()
            if is_goodbye:
                self._must_leave, self._announce = False, True

    async def _answer(self, request: Any) -> Any:
        node = await self._coordinators.group()
        if request.member_epoch > JOIN:
            return await call(self._client, node, Lane.MEMBER, request)
        try:
            self._name.unsettle()
        except StoreFailed:
            if request.member_epoch == JOIN:
                raise
            # a full disk ends this worker: others shall not wait for its session, and no process can start on it
        try:
            return await call(self._client, node, Lane.MEMBER, request)
        except BaseException:
            self._name.spoil()
            raise

    def _request(self, epoch: int, *, announce: bool, acknowledge: bool) -> Any:
        held: tuple[Any, ...] = ()
        named = self.owned | self.target
        if named:
            held = (_heartbeat.TopicPartitions(topic_id=self._topic_id, partitions=tuple(sorted(named))),)
        return _heartbeat.ConsumerGroupHeartbeatRequest(
            group_id=self._group,
            member_id=self.member_id,
            member_epoch=epoch,
            rebalance_timeout=timedelta(seconds=REBALANCE_TIMEOUT_SECONDS) if announce else timedelta(milliseconds=-1),
            subscribed_topic_names=(self._topic,) if announce else None,
            server_assignor="uniform" if announce else None,
            topic_partitions=held if announce or acknowledge else None,
        )

    def _digest(self, reply: Any, sent: float, *, leaving: bool) -> bool:
        """Take the answer in; False if the same beat must be sent again."""
        error = reply.error_code
        if error is E.none:
            if not leaving:
                self._accept(reply, sent)
            return True
        if error in (E.unknown_member_id, E.fenced_member_epoch):
            if not leaving:
                self._expelled(error)
            return True
        if error in (E.not_coordinator, E.coordinator_not_available):
            self._coordinators.forget()
            return False
        if error is E.coordinator_load_in_progress:
            return False
        raise self._refused(f"{error.name} {reply.error_message or ''}".strip())

    def _accept(self, reply: Any, sent: float) -> None:
        self._last_answer = sent
        self.epoch = reply.member_epoch
        if reply.assignment is not None:
            if any(topic.topic_id != self._topic_id for topic in reply.assignment.topic_partitions):
                raise TopicReplaced(self._topic)
            target = frozenset(p for topic in reply.assignment.topic_partitions for p in topic.partitions)
            if target != self.target:
                self.target, self._has_new_target = target, True
                self._wake_engine()

    def _expelled(self, error: E) -> None:
        now = time.monotonic()
        log.warning("membership lost error=%s epoch=%d", error.name, self.epoch)
        if self.epoch == 0:
            self._must_leave = error is E.fenced_member_epoch
            self._announce = True
            return
        self.disown()
        if now - self._last_answer < RIVAL_SECONDS:
            if now - self._last_expulsion < EXPULSION_WINDOW_SECONDS:
                raise MembershipLost
            self._last_expulsion = now
        self.epoch = 0
        self.session += 1
        self.target = self.owned = frozenset()
        self._has_new_target = False
        self._announce = True
        self._wake.set()
        self._wake_engine()

    def _refused(self, reason: str) -> PortfolioStreamError:
        return PortfolioStreamError(
            f"The group coordinator refused the heartbeat: {reason}.",
            f"Check that group {self._group} has no members of the classic protocol and that this user may use it.",
        )

"""The group member (KIP-848): sends the heartbeats. The group coordinator assigns the partitions.

`membership_life` says which request comes next, and what each answer means. `beat_content` says what a request
carries. This module does what they say: I/O, time and waiting.

1. A heartbeat never waits for a fold, the store or recovery. But if the main loop stands still for the rebalance
   time-out, the worker stops its heartbeats, so that other workers take over.
2. A partition is given back (acknowledged) only after the engine settled what it had read of the partition.
3. UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH end the membership: `session` changes. Everything that was read under an
   older session is void, whatever epoch the member gets next.
4. An expelled worker sends nothing until the transaction coordinator has confirmed the identity (`own`).
5. A beat that waited for the beat before it decides its request and its epoch only when its turn comes.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from aiokafka import errors as kafka_errors
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import MembershipLost, PortfolioStreamError, StoreFailed, TopicReplaced
from portfolio_stream.exactly_once.beat_content import Assignment, Content, content_of, owed_after
from portfolio_stream.exactly_once.member_name import MemberName
from portfolio_stream.exactly_once.membership_life import (
    BEATS,
    SERVING,
    HeartbeatKind,
    MembershipEvent,
    NameChange,
    Next,
    after,
    first_state,
    meaning,
)
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators, Lane, call, schema
from portfolio_stream.observe.events import HeartbeatUnanswered, MemberExpelled, MemberJoined
from portfolio_stream.observe.kafka_counts import KafkaCounts
from portfolio_stream.observe.ring import Tell, write

_heartbeat = schema("consumer_group_heartbeat", 1)

BEAT_SECONDS = 0.4  # shorter than the coordinator asks for: a rebalance takes as many heartbeats as it has steps
#: A worker that has just joined waits for partitions that others give back, one heartbeat after the other
NEWCOMER_BEAT_SECONDS, NEWCOMER_SECONDS = 0.1, 3.0
REBALANCE_TIMEOUT_SECONDS = 30.0  # how long a worker may hold a revoked partition
FAILURE_PAUSE_SECONDS = 0.1  # a coordinator that has just moved answers at once, many times
EXPULSION_WINDOW_SECONDS = 10.0  # two processes of one identity expel each other again and again
RIVAL_SECONDS = 2.0  # since the coordinator's last answer: below each session time-out, so the worker did not pause
JOIN, LEAVE = 0, -1  # the member epochs of a join and of a goodbye
FRESH_SECONDS = 2.0  # no partition is served over HTTP on an older answer; below the smallest session time-out


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
        tell: Tell = write,
        counts: KafkaCounts | None = None,
    ) -> None:
        """`progress` gives the monotonic time of the main loop's last turn."""
        self._client = client
        self._coordinators = coordinators
        self._group = group
        self._topic = topic
        self._topic_id = topic_id
        self._progress = progress
        self._wake_engine = wake_engine
        self._tell = tell
        self.counts = KafkaCounts() if counts is None else counts
        self._name = name
        self.state = first_state(is_unsettled=name.is_unsettled)
        self.epoch = 0
        #: the number of this unbroken membership
        self.session = 0
        self._assignment = Assignment()
        #: what the next request must carry at least
        self._owed = Content.EVERYTHING
        #: monotonic seconds at which the last answered request with all fields was sent
        self._announced = float("-inf")
        self._wake = asyncio.Event()
        self._lock = asyncio.Lock()
        self._last_answer = float("-inf")
        #: monotonic seconds of the last join
        self._joined = float("-inf")
        self._last_expulsion = float("-inf")
        #: how many requests the coordinator has answered
        self.beats = 0

    @property
    def member_id(self) -> str:
        """The member id changes only while there is no membership, between a goodbye and the next join."""
        return self._name.value

    @property
    def target(self) -> frozenset[int]:
        """The partitions that the coordinator wants this worker to own."""
        return self._assignment.target

    @property
    def owned(self) -> frozenset[int]:
        """The partitions that this worker owns, as the engine has said."""
        return self._assignment.owned

    @property
    def is_fresh(self) -> bool:
        """The coordinator confirmed this membership so recently that no other worker can own these partitions.

        A main loop that stands still gives no partition back. So the coordinator may expel the worker although it
        answers the heartbeats. A broker that woke from a standstill may answer before it hears of its successor; the
        worker cannot tell such an answer from another.
        """
        now = time.monotonic()
        stands_still = now - self._progress() > REBALANCE_TIMEOUT_SECONDS - FRESH_SECONDS
        return self.state in SERVING and not stands_still and now - self._last_answer < FRESH_SECONDS

    def acknowledge(self, owned: frozenset[int]) -> None:
        """Tell the coordinator what this worker owns now. The coordinator hands revoked partitions on only then."""
        acknowledged = self._assignment.acknowledged(owned)
        if acknowledged != self._assignment:
            self._assignment = acknowledged
            self._owed = max(self._owed, Content.OWNED)
            self._wake.set()

    def own(self, session: int) -> None:
        """The transaction coordinator has confirmed the identity after `session` began.

        An expelled worker joins again. A confirmation from an older session says nothing.
        """
        if session == self.session:
            before = self.state
            self._meet(MembershipEvent.IDENTITY_CONFIRMED)
            if self.state is not before:
                self._wake.set()

    def disown(self) -> None:
        """Another process has the identity."""
        self._meet(MembershipEvent.IDENTITY_LOST)

    async def run(self) -> None:
        """Send heartbeats until cancelled. Raises MembershipLost or another PortfolioStreamError if the worker must
        end."""
        while True:
            is_alive = time.monotonic() - self._progress() < REBALANCE_TIMEOUT_SECONDS
            if is_alive:
                await self._beat_quietly()
            self._wake.clear()
            has_news = BEATS[self.state] is not HeartbeatKind.NONE and self._owed > Content.NOTHING
            if not (is_alive and has_news):
                timer = asyncio.get_running_loop().call_later(self._pause(), self._wake.set)
                await self._wake.wait()
                timer.cancel()

    def _pause(self) -> float:
        """Seconds until the next heartbeat."""
        return NEWCOMER_BEAT_SECONDS if time.monotonic() - self._joined < NEWCOMER_SECONDS else BEAT_SECONDS

    async def beat(self) -> None:
        """Send one request now, e.g. to learn the newest epoch. Sends nothing where the state allows no request."""
        async with self._lock:
            beat = BEATS[self.state]
            if beat is not HeartbeatKind.NONE:
                await self._send(beat, self._epoch_of(beat))

    async def leave(self) -> None:
        """Give everything back at once, unless another process may have the identity. Nothing is served from now on."""
        self._meet(MembershipEvent.LEAVE_ASKED)
        with suppress(StoreFailed):  # the goodbye was answered; an unsettled member id costs the next process a goodbye
            await self.beat()

    def remain(self) -> None:
        """Send nothing more, and serve nothing. The next process of this identity goes on with the membership.

        The coordinator gives the partitions to other workers only if no process has come when the session ends.
        """
        self._meet(MembershipEvent.REMAIN_ASKED)

    async def _beat_quietly(self) -> None:
        try:
            await self.beat()
        except (*LOST, kafka_errors.KafkaError) as error:
            if isinstance(error, kafka_errors.BrokerResponseError) and not error.retriable:
                raise self._refused(type(error).__name__) from error
            self._tell(HeartbeatUnanswered(error=type(error).__name__))
            self._coordinators.forget()
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    def _epoch_of(self, beat: HeartbeatKind) -> int:
        return {HeartbeatKind.JOIN: JOIN, HeartbeatKind.GOODBYE: LEAVE}.get(beat, self.epoch)

    async def _send(self, beat: HeartbeatKind, epoch: int) -> None:
        sent = time.monotonic()
        carried = content_of(beat, self._owed, sent - self._announced)
        self._owed = Content.NOTHING
        reply = await self._answer(beat, self._request(epoch, carried), carried)
        self.beats += 1
        if carried is Content.EVERYTHING:
            self._announced = sent
        event = meaning(beat, reply.error_code)
        if event is None:
            raise self._refused(f"{reply.error_code.name} {reply.error_message or ''}".strip())
        if event in (MembershipEvent.JOIN_ACCEPTED, MembershipEvent.HEARTBEAT_ACCEPTED):
            self._accept(reply, sent)
        elif event in (MembershipEvent.JOIN_UNKNOWN, MembershipEvent.JOIN_FENCED, MembershipEvent.EXPELLED):
            self._tell(MemberExpelled(error=reply.error_code.name, epoch=self.epoch))
            self.counts.expulsions += event is MembershipEvent.EXPELLED
            self.counts.fencings += reply.error_code is E.fenced_member_epoch
        self._carry_out(self._meet(event, carried))
        if event is MembershipEvent.MOVED:
            self._coordinators.forget()
        if event in (MembershipEvent.MOVED, MembershipEvent.LOADING):
            await asyncio.sleep(FAILURE_PAUSE_SECONDS)

    async def _answer(self, beat: HeartbeatKind, request: Any, carried: Content) -> Any:
        failure = MembershipEvent.FAILED
        try:
            node = await self._coordinators.group()
            if beat is not HeartbeatKind.HEARTBEAT:
                self._unsettle(beat)
                failure = MembershipEvent.UNANSWERED
            return await call(self._client, node, Lane.MEMBER, request)
        except BaseException:
            self._meet(failure, carried)
            raise

    def _unsettle(self, beat: HeartbeatKind) -> None:
        """Note in the identity file that a join or a goodbye is under way.

        A full disk prevents a join: the next process would not know of the join. A full disk does not prevent a
        goodbye: it ends this worker, other workers must not wait for its session, and no process can start on the disk.
        """
        try:
            self._name.unsettle()
        except StoreFailed:
            if beat is HeartbeatKind.JOIN:
                raise

    def _request(self, epoch: int, content: Content) -> Any:
        held: tuple[Any, ...] = ()
        if named := self._assignment.named:
            held = (_heartbeat.TopicPartitions(topic_id=self._topic_id, partitions=tuple(sorted(named))),)
        is_full = content is Content.EVERYTHING
        return _heartbeat.ConsumerGroupHeartbeatRequest(
            group_id=self._group,
            member_id=self.member_id,
            member_epoch=epoch,
            rebalance_timeout=timedelta(seconds=REBALANCE_TIMEOUT_SECONDS) if is_full else timedelta(milliseconds=-1),
            subscribed_topic_names=(self._topic,) if is_full else None,
            server_assignor="uniform" if is_full else None,
            topic_partitions=held if content >= Content.OWNED else None,
        )

    def _accept(self, reply: Any, sent: float) -> None:
        self._last_answer = sent
        if self.epoch == 0 < reply.member_epoch:
            self._tell(MemberJoined(epoch=reply.member_epoch))
            self._joined = sent
        self.epoch = reply.member_epoch
        if reply.assignment is not None:
            if any(topic.topic_id != self._topic_id for topic in reply.assignment.topic_partitions):
                raise TopicReplaced(self._topic)
            target = frozenset(p for topic in reply.assignment.topic_partitions for p in topic.partitions)
            if target != self.target:
                self.counts.rebalances += 1
                self._assignment = self._assignment.retargeted(target)
                self._wake_engine()

    def _meet(self, event: MembershipEvent, carried: Content = Content.NOTHING) -> Next:
        """Change the state as `event` demands."""
        following = after(self.state, event)
        self.state = following.state
        self._owed = owed_after(event, self._owed, carried)
        return following

    def _carry_out(self, following: Next) -> None:
        if following.name is not NameChange.NONE:
            self._name.settle(takes_next=following.name is NameChange.NEXT)
        if following.ends_session:
            self._end_session()

    def _end_session(self) -> None:
        """Void the membership. Raises MembershipLost if a rival process must be alive."""
        now = time.monotonic()
        if now - self._last_answer < RIVAL_SECONDS:
            if now - self._last_expulsion < EXPULSION_WINDOW_SECONDS:
                raise MembershipLost
            self._last_expulsion = now
        self.epoch = 0
        self.session += 1
        self._assignment = Assignment()
        self._wake.set()
        self._wake_engine()

    def _refused(self, reason: str) -> PortfolioStreamError:
        return PortfolioStreamError(
            f"The group coordinator refused the heartbeat: {reason}.",
            f"Check that group {self._group} has no members of the classic protocol and that this user may use it.",
        )

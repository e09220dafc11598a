"""Sends one transaction: offsets, then records, then EndTxn (KIP-890 transactions v2, KIP-447 fencing).

`protocol` says which step may follow and what each error means. This module sends only what `protocol` allows. When a
method returns or raises, no request is in flight: each request was answered, or its connection is closed and its effect
is unknown.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from itertools import count
from types import MappingProxyType
from typing import Any

from aiokafka import errors as kafka_errors
from aiokafka.structs import TopicPartition
from kio.schema.errors import ErrorCode as E

from portfolio_stream.errors import PortfolioStreamError, Superseded
from portfolio_stream.exactly_once.protocol import (
    FENCINGS,
    Action,
    Doubt,
    MembershipBroken,
    Refused,
    StaleEpoch,
    TransactionState,
    TransactionStep,
    action_for,
    after,
)
from portfolio_stream.exactly_once.transaction import Share
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.offset_lookup import metadata_of
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.wire import Coordinators, Lane, Node, call, schema
from portfolio_stream.observe.events import ProduceRefused, TransactionUnsettled
from portfolio_stream.observe.kafka_counts import KafkaCounts
from portfolio_stream.observe.ring import Tell, write

_init = schema("init_producer_id", 5)
_offsets = schema("txn_offset_commit", 5)
_produce = schema("produce", 12)
_end = schema("end_txn", 5)

#: The open transaction of a dead worker hides later outputs, and keeps its partitions from their next owner, for this
#: long. With the session of the embedded broker (3 s) both end together. A transaction is open for milliseconds. If the
#: brokers are away for longer, it is dropped and folded again
TRANSACTION_TIMEOUT_SECONDS = 3.0
#: three times TRANSACTION_TIMEOUT_SECONDS: the coordinator has aborted the transaction by then, or soon will
STEP_DEADLINE_SECONDS = 10.0
SETTLE_LOG_SECONDS = 5.0  # between two warnings about a transaction whose outcome is still unknown
REQUEST_BYTES = 16 << 20  # a broker takes 100 MiB (socket.request.max.bytes), but holds each request in its small heap
BACKOFF_SECONDS, BACKOFF_CAP_SECONDS = 0.001, 0.1  # the last transaction's markers are pending for 3 ms, p99 11 ms

#: the offset behind the last record that a transaction wrote to each partition
Endings = dict[TopicPartition, int]


class Writer:
    def __init__(
        self,
        client: Client,
        coordinators: Coordinators,
        *,
        group: str,
        transactional_id: str,
        tell: Tell = write,
        counts: KafkaCounts | None = None,
        extra_transitions: Mapping[tuple[TransactionState, TransactionStep], TransactionState] = MappingProxyType({}),
    ) -> None:
        """`extra_transitions`: see protocol.after."""
        self._extra = extra_transitions
        self._client = client
        self._coordinators = coordinators
        self._group = group
        self._tell = tell
        self.transactional_id = transactional_id
        self.state = TransactionState.BROKEN  # until start()
        self.producer_id, self.producer_epoch = -1, -1
        self._commit_sent = False
        #: monotonic seconds at which the coordinator last told how a transaction of this worker ended
        self.last_end = 0.0
        self.counts = KafkaCounts() if counts is None else counts

    async def start(self) -> None:
        """Fence the former process of this identity, and abort its open transaction. Call this once, at the start."""
        request = _init.InitProducerIdRequest(
            transactional_id=self.transactional_id,
            transaction_timeout=timedelta(seconds=TRANSACTION_TIMEOUT_SECONDS),
        )
        reply = await self._ask(TransactionStep.INIT, request, self._coordinators.transaction, _own_code, deadline=60.0)
        self.begin(reply)

    async def send_offsets(
        self, topic: str, shares: Sequence[Share], *, member_id: str, member_epoch: int, generation: int
    ) -> None:
        """Step 1: send the consumed offsets. The coordinator refuses a member that does not own the partitions.

        The offsets name `generation`, so a worker of an older generation does not go on from them. Without a member id
        the coordinator asks for no owner: only a switch of generations sends that, while the group is empty.
        Raises StaleEpoch (send the offsets again with a newer epoch), MembershipBroken or Doubt.
        """
        request = _offsets.TxnOffsetCommitRequest(
            transactional_id=self.transactional_id,
            group_id=self._group,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            generation_id=member_epoch,
            member_id=member_id,
            group_instance_id=None,
            topics=(
                _offsets.TxnOffsetCommitRequestTopic(
                    name=topic,
                    partitions=tuple(
                        _offsets.TxnOffsetCommitRequestPartition(
                            partition_index=share.partition,
                            committed_offset=share.position,
                            committed_metadata=metadata_of(generation),
                        )
                        for share in shares
                    ),
                ),
            ),
        )
        following = after(self.state, TransactionStep.OFFSETS)
        await self._ask(TransactionStep.OFFSETS, request, self._coordinators.group, _worst_code, lane=Lane.OFFSETS)
        self.state = following

    async def send_records(self, shares: Sequence[Share]) -> Endings:
        """Step 2: send all record batches. Returns the endings that a broker has told."""
        following = after(self.state, TransactionStep.PRODUCE, self._extra)
        rounds: list[dict[TopicPartition, bytes]] = []  # each partition has at most one batch in flight
        last_count: dict[TopicPartition, int] = {}
        for share in shares:
            for topic, batches in share.batches.items():
                target = TopicPartition(topic, share.partition)
                last_count[target] = batches.last_batch_records()
                for index, data in enumerate(batches.build(self.producer_id, self.producer_epoch)):
                    if index == len(rounds):
                        rounds.append({})
                    rounds[index][target] = data
        endings: Endings = {}
        for batch_round in rounds:
            for target, base in (await self._write(batch_round)).items():
                endings[target] = -1 if base < 0 else base + last_count[target]
        self.state = following
        return {target: ending for target, ending in endings.items() if ending >= 0}

    async def commit(self) -> None:
        """Step 3: commit. After a Doubt, only settle() can tell whether the transaction is committed."""
        after(self.state, TransactionStep.COMMIT)
        self._commit_sent = True
        reply = await self._ask(
            TransactionStep.COMMIT, self._end_request(committed=True), self._coordinators.transaction, _own_code
        )
        self.begin(reply)

    async def settle(self) -> None:
        """Ask the coordinator how the last transaction ended, until the coordinator answers. Then be READY.

        EndTxn(abort) with our own producer id and epoch is idempotent. Raises Superseded if another process has the
        identity.
        """
        if self.state is TransactionState.DEAD:
            raise Superseded(self.transactional_id)
        started = time.monotonic()
        warned = started
        is_begun = self.state is not TransactionState.READY
        while True:
            try:
                return await self._settle_once(is_begun=is_begun)
            except Doubt as unanswered:
                if time.monotonic() - warned > SETTLE_LOG_SECONDS:
                    warned = time.monotonic()
                    self._tell(TransactionUnsettled(seconds=warned - started, reason=str(unanswered)))

    async def _settle_once(self, *, is_begun: bool) -> None:
        request = self._end_request(committed=False)
        reply = await self._ask(TransactionStep.ABORT, request, self._coordinators.transaction, _own_code)
        if reply is None:  # EndTxn(commit) took effect: its answer brings the next producer id and epoch
            if not self._commit_sent:
                raise PortfolioStreamError("The coordinator reports a commit that this worker never sent.")
            request = self._end_request(committed=True)
            reply = await self._ask(TransactionStep.COMMIT, request, self._coordinators.transaction, _own_code)
        else:
            self.counts.aborts += is_begun
        self.begin(reply)

    def _end_request(self, *, committed: bool) -> Any:
        return _end.EndTxnRequest(
            transactional_id=self.transactional_id,
            producer_id=self.producer_id,
            producer_epoch=self.producer_epoch,
            committed=committed,
        )

    def begin(self, reply: Any) -> None:
        """Take the next producer id and epoch out of the coordinator's reply: a new transaction may begin."""
        self.producer_id, self.producer_epoch = reply.producer_id, reply.producer_epoch
        self.state = TransactionState.READY
        self._commit_sent = False
        self.last_end = time.monotonic()

    async def _ask(
        self,
        step: TransactionStep,
        request: Any,
        find: Callable[[], Awaitable[Node]],
        code: Callable[[Any], E],
        *,
        lane: Lane = Lane.TRANSACTION,
        deadline: float = STEP_DEADLINE_SECONDS,
    ) -> Any:
        """Send the same bytes until the answer is final. Returns the answer, or None for WON."""
        until = time.monotonic() + deadline
        for attempt in count():
            try:
                reply = await call(self._client, await find(), lane, request)
                error = code(reply)
            except (*LOST, kafka_errors.KafkaError):
                self._coordinators.forget()
                reply, error = None, E.coordinator_not_available
            action = action_for(step, error)
            if action is Action.DONE:
                return reply
            if action is Action.WON:
                return None
            if action is Action.FIND:
                self._coordinators.forget()
            elif action is not Action.RETRY:
                self._raise(step, error, action)
            await self._pause(step, error, attempt, until)
        raise AssertionError("unreachable")

    async def _pause(self, step: TransactionStep, error: E, attempt: int, until: float) -> None:
        self.counts.retries[step.value, error.name] += 1
        if time.monotonic() > until:
            self._raise(step, error, Action.DROP)
        await asyncio.sleep(min(BACKOFF_SECONDS * 2 ** min(attempt, 10), BACKOFF_CAP_SECONDS))

    def _raise(self, step: TransactionStep, error: E, action: Action) -> None:
        self.counts.fencings += error in FENCINGS
        if action is Action.RESTAMP:
            raise StaleEpoch(step, error.name)  # no offset is pending, so the state stays
        self.state = TransactionState.BROKEN
        if action is Action.SUPERSEDED:
            self.state = TransactionState.DEAD
            raise Superseded(self.transactional_id)
        if action is Action.FATAL:
            raise PortfolioStreamError(
                f"Kafka refused {step.value} for good: {error.name}.",
                "Check this user's rights on the transactional id, the group and the topics, then start again.",
            )
        if action is Action.REJOIN:
            raise MembershipBroken(step, error.name)
        raise Doubt(step, error.name)

    async def _write(self, batches: Mapping[TopicPartition, bytes]) -> dict[TopicPartition, int]:
        """Send each batch, with the same bytes in each try, until the batch is in its partition's log.

        Returns the base offset of each batch, or -1 where the broker did not tell it.
        """
        written: dict[TopicPartition, int] = {}
        until = time.monotonic() + STEP_DEADLINE_SECONDS
        for attempt in count():
            todo = {target: data for target, data in batches.items() if target not in written}
            if not todo:
                return written
            codes = await self._write_once(todo, written)
            refused = {target: error for target, error in codes.items() if error is not E.none}
            for target, error in refused.items():
                action = action_for(TransactionStep.PRODUCE, error)
                if action is Action.REFUSED:
                    self.state = TransactionState.BROKEN
                    raise Refused(target.topic, target.partition, error.name)
                if action not in (Action.RETRY, Action.FIND):
                    self._tell(ProduceRefused(topic=target.topic, partition=target.partition, error=error.name))
                    self._raise(TransactionStep.PRODUCE, error, action)
            if refused:
                if any(action_for(TransactionStep.PRODUCE, error) is Action.FIND for error in refused.values()):
                    await self._client.force_metadata_update()
                await self._pause(TransactionStep.PRODUCE, next(iter(refused.values())), attempt, until)
        raise AssertionError("unreachable")

    async def _write_once(
        self, todo: Mapping[TopicPartition, bytes], written: dict[TopicPartition, int]
    ) -> dict[TopicPartition, E]:
        """Send one request to each leader. Add the accepted batches to `written`; return the errors of the others.

        A batch that does not fit into its leader's request is in neither result. The next call sends that batch.
        """
        leaders: dict[int, dict[TopicPartition, bytes]] = defaultdict(dict)
        sizes: Counter[int] = Counter()
        codes: dict[TopicPartition, E] = {}
        for target, data in todo.items():
            leader = self._client.cluster.leader_for_partition(target)
            if leader is None or leader < 0:
                codes[target] = E.leader_not_available
            elif not leaders[leader] or sizes[leader] + len(data) <= REQUEST_BYTES:
                leaders[leader][target] = data
                sizes[leader] += len(data)
        for replies in await asyncio.gather(*(self._produce(Node(n), batches) for n, batches in leaders.items())):
            for target, (error, base) in replies.items():
                if action_for(TransactionStep.PRODUCE, error) is Action.DONE:
                    written[target] = base if error is E.none else -1
                else:
                    codes[target] = error
        return codes

    async def _produce(
        self, node: Node, batches: Mapping[TopicPartition, bytes]
    ) -> dict[TopicPartition, tuple[E, int]]:
        by_topic: dict[str, list[Any]] = defaultdict(list)
        for target, data in batches.items():
            by_topic[target.topic].append(_produce.PartitionProduceData(index=target.partition, records=data))
        request = _produce.ProduceRequest(
            transactional_id=self.transactional_id,
            acks=-1,
            timeout=timedelta(seconds=STEP_DEADLINE_SECONDS),
            topic_data=tuple(_produce.TopicProduceData(name=t, partition_data=tuple(p)) for t, p in by_topic.items()),
        )
        try:
            reply = await call(self._client, node, Lane.PRODUCE, request)
        except (*LOST, kafka_errors.KafkaError):
            return dict.fromkeys(batches, (E.not_leader_or_follower, -1))
        return {
            TopicPartition(topic.name, partition.index): (partition.error_code, partition.base_offset)
            for topic in reply.responses
            for partition in topic.partition_responses
        }


def _own_code(reply: Any) -> E:
    return reply.error_code


def _worst_code(reply: Any) -> E:
    """One error for all partitions of a TxnOffsetCommit. An error that no retry can help hides the other errors."""
    codes = {p.error_code for topic in reply.topics for p in topic.partitions} - {E.none}
    final = {code for code in codes if action_for(TransactionStep.OFFSETS, code) not in (Action.RETRY, Action.FIND)}
    return next(iter(final or codes), E.none)

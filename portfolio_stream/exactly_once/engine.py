"""The exactly-once engine: one loop that hands slices to a fold, closes transactions and follows the group.

1. A slice is acknowledged when its fold is done and asks for the next; a failure never acknowledges. Whatever fails in
   one partition, in its fold or its encoding, drops and halts that partition alone (see failures).
2. Transaction N commits while N+1 folds; N+1's records wait in their batches until N is settled.
3. On any doubt everything uncommitted is dropped (views, open transaction, queued slices, by their incarnation), the
   coordinator is asked how the last transaction ended, and all partitions are recovered from what Kafka has.
4. A partition is given back only after what was read of it is settled.
5. Only this loop hands out, closes and drops; recovery and heartbeats run beside it and wake it.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Set
from typing import Any, NamedTuple

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import (
    DeadLetterFailed,
    OffsetsAgree,
    OutcomeUnknown,
    PartitionNotHalted,
    PortfolioStreamError,
    RecordNotMovable,
    StoreFailed,
    Superseded,
    TopicMisconfigured,
)
from portfolio_stream.exactly_once.commits import Commits
from portfolio_stream.exactly_once.configuration import AssumedTopics, Configuration, TopicSettings
from portfolio_stream.exactly_once.failures import AGENT_TRIES, Failure, Suspect
from portfolio_stream.exactly_once.fold_check import check_fold
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.protocol import Doubt, MembershipBroken, Refused
from portfolio_stream.exactly_once.recovery import Halted, Ready, Recovery, Source
from portfolio_stream.exactly_once.replay import ChangelogReplay
from portfolio_stream.exactly_once.slices import SLICE_RECORDS, Deliver, Handout, Slice, cut
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.transaction import Part
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.connections import Connections, Reader
from portfolio_stream.kafka.offset_lookup import MemberEpoch
from portfolio_stream.kafka.reach import LOST, answered, bootstrapped
from portfolio_stream.kafka.reader import BatchUnreadable, FetchLimits
from portfolio_stream.kafka.record_batches import UnreadableBatch, next_offset
from portfolio_stream.kafka.topic_watch import TopicWatch
from portfolio_stream.kafka.wire import Coordinators, require_features
from portfolio_stream.observe import events as told
from portfolio_stream.observe.lag import records_behind
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.observe.statistics import Statistics

DROP_PAUSE_SECONDS = (0.05, 1.0)  # before recovery, doubled with each drop since the last commit
IDLE_FETCH_MS = 1_000  # the main loop's longest sleep: data ends it, and membership, commits and operators wake it
#: the source: for a transaction, not for a poll: 32 KiB are there at some 5,000 events/s, below that the wait ends it
SOURCE_FETCH = FetchLimits(min_bytes=32 << 10, max_wait_ms=15, partition_bytes=1 << 20)
#: kept partitions stand still for 0.2 s with 4 MB, 0.02 s with this
CHANGELOG_FETCH = FetchLimits(min_bytes=1, max_wait_ms=20, partition_bytes=256 << 10)
KEEP_ID_SECONDS = 3600.0  # between two transactions, be they empty: two records in Kafka's log of transactions
IDLE_POSITION_SECONDS = 5.0  # how often an idle partition whose position moved (markers) commits it
REVOCATION_SECONDS = 10.0  # then the revoked partitions' share is dropped
STOP_SECONDS = 3.0  # a stop must end within 5, and Faust's part of it takes some tenths, on a busy machine one
GOODBYE_SECONDS = 0.5  # unsaid, the session time-out says it


class _Operation(NamedTuple):
    """What an operator asks for: run a halted partition again; first move the record at `offset` out of its way, or
    first put the group's offset back to the state's."""

    partition: int
    offset: int | None
    from_state: bool
    #: the halt that it ended
    done: "asyncio.Future[Halted]"

    def refuse(self, error: PortfolioStreamError) -> None:
        if not self.done.done():  # whoever asked may have gone
            self.done.set_exception(error)


async def _answering(operation: _Operation, work: Awaitable[None]) -> None:
    try:
        await work
    except RecordNotMovable as refused:
        operation.refuse(refused)
    except BaseException:
        operation.refuse(OutcomeUnknown(operation.partition))
        raise


#: writes the dead letter of a slice's one record
SetAside = Callable[[Slice], None]


class Engine:
    def __init__(
        self,
        configuration: Configuration,
        kafka: Connections,
        identity: Identity,
        store: Store,
        tables: Collection[TableDefinition[Any]],
        set_aside: SetAside | None = None,
        topic_settings: TopicSettings | None = None,
        events: EventRing | None = None,
    ) -> None:
        self.configuration = configuration
        self.events = events or EventRing()
        self._kafka = kafka
        self.identity = identity
        self.store = store
        self.topic_settings: TopicSettings = topic_settings or AssumedTopics()
        self.statistics = Statistics()
        self.partition_count = 0
        self.partitions = Partitions(store, {table.name: table for table in tables})
        #: monotonic seconds of the main loop's last turn
        self.progress = time.monotonic()
        self._handout = Handout()
        #: what start() has opened so far
        self._readers: list[Reader] = []
        self._beside: list[asyncio.Task[None]] = []
        self._is_closed = False
        self._recovering: asyncio.Task[None] | None = None
        #: the partitions of which it has not said yet from where they go on
        self._undecided: set[int] = set()
        self._set_aside = set_aside
        self._operations: deque[_Operation] = deque()
        self._trouble: BaseException | None = None
        self._woken = False
        self._drops = 0  # without a commit in between
        self._stopping = False
        self._is_settled_at_stop = True
        self._idle_checked = time.monotonic()

    @property
    def owned(self) -> frozenset[int]:
        return self.partitions.owned

    @property
    def running(self) -> Set[int]:
        return self.partitions.running

    @property
    def halted(self) -> Mapping[int, Halted]:
        return self.partitions.halted

    # -- life cycle

    async def start(self) -> None:
        """Connect, fence the former process of this identity, join the group. Raises PortfolioStreamError.

        Whatever it raises, everything that it opened is closed, and the store too.
        """
        try:
            await self._start()
        except BaseException:
            await self.close()
            raise

    async def _start(self) -> None:
        conf = self.configuration
        self.client = self._kafka.client()
        try:
            await bootstrapped(self.client.bootstrap)
        except kafka_errors.KafkaConnectionError:
            raise await self._kafka.why_unreachable() from None
        await answered(self.client, lambda: require_features(self.client))
        await self.client.set_topics(conf.topics)
        self._watch = TopicWatch(self.client, conf.topics)
        await answered(self.client, self._watch.start)
        topic_id, partitions = self._watch.topics[conf.source_topic]
        self.source = Source(name=conf.source_topic, topic_id=topic_id, partitions=partitions)
        self.partition_count = self.source.partitions
        transactional_id = f"{conf.group}-{self.identity.member_id}"
        self.coordinators = Coordinators(self.client, conf.group, transactional_id)
        self.writer = Writer(
            self.client,
            self.coordinators,
            group=conf.group,
            transactional_id=transactional_id,
            tell=self.events.tell,
            retries=self.statistics.retries,
        )
        await self._start_readers()
        self._recovery.is_fold_known = await check_fold(
            self.client,
            self._changelog,
            self.store,
            topic=conf.changelog_topic,
            topic_id=self._changelog_id,
            partitions=self.partition_count,
            fold=conf.fold,
            tell=self.events.tell,
        )
        await self.writer.start()
        self.membership = Membership(
            self.client,
            self.coordinators,
            group=conf.group,
            topic=conf.source_topic,
            topic_id=self.source.topic_id,
            name=self.identity.name,
            progress=lambda: self.progress,
            wake_engine=self._wake,
            tell=self.events.tell,
        )
        self._commits = Commits(
            conf,
            self.partitions,
            self.statistics,
            self.store,
            self.writer,
            self.membership,
            source=self.source,
            changelog_id=self._changelog_id,
            wake_engine=self._wake,
            encoding_failed=self._retry_smaller,
            tell=self.events.tell,
        )
        self._beside = [
            asyncio.create_task(self.membership.run(), name="heartbeats"),
            asyncio.create_task(self._watch.run(), name="topics"),
            asyncio.create_task(self.topic_settings.run(), name="topic settings"),
        ]
        for task in self._beside:
            task.add_done_callback(self._trouble_from)
        self.events.tell(told.EngineStarted(instance=self.identity.instance_id, partitions=self.partition_count))

    async def _start_readers(self) -> None:
        conf, count = self.configuration, self.partition_count
        self._changelog_id = self._watch.topics[conf.changelog_topic].id.hex
        self._reader = self._kafka.reader(conf.source_topic, count, SOURCE_FETCH)
        self._changelog = self._kafka.reader(conf.changelog_topic, count, CHANGELOG_FETCH)
        for reader in (self._reader, self._changelog):
            self._readers.append(reader)
            await bootstrapped(reader.start)
        replay = ChangelogReplay(
            self.client,
            self.store,
            self._changelog,
            topic=conf.changelog_topic,
            topic_id=self._changelog_id,
            topics=self.topic_settings,
            tell=self.events.tell,
        )
        self._recovery = Recovery(
            self.client,
            self.coordinators,
            self.store,
            replay,
            group=conf.group,
            member=lambda: MemberEpoch(self.membership.member_id, self.membership.epoch),
            source=self.source,
            changelog_id=self._changelog_id,
            fold=conf.fold,
            tell=self.events.tell,
        )

    async def run(self, deliver: Deliver) -> None:
        """Until stop(). Raises PortfolioStreamError when this worker must end; nothing uncommitted is kept then."""
        try:
            while not self._stopping:
                self.progress = time.monotonic()
                try:
                    await self._turn(deliver)
                except (Doubt, kafka_errors.KafkaError, OSError) as doubt:
                    await self._drop_everything(doubt)
            await self._finish()
        except Superseded:
            self.membership.disown()
            raise

    async def stop(self, running: "asyncio.Task[None] | None") -> None:
        """Let run() commit what is folded and return; where a fold or a broker keeps it, end it in doubt."""
        self._stopping = True
        self._wake()
        if running is not None:
            await asyncio.wait((running,), timeout=STOP_SECONDS)
            if not running.done():
                self._is_settled_at_stop = False
                await _cancelled(running)

    async def close(self) -> bool:
        """Leave the group and let go of everything; True if nothing was left in doubt. Again: only that."""
        if self._is_closed:
            return self._is_settled_at_stop
        self._is_closed = True
        self.partitions.running.clear()  # nothing is served from a store that closes
        while self._operations:
            operation = self._operations.popleft()
            operation.refuse(OutcomeUnknown(operation.partition))
        for task in self._beside:
            task.remove_done_callback(self._trouble_from)
        await _cancelled(*self._beside, self._recovering)
        if self._beside:  # it may have joined
            try:
                await asyncio.wait_for(self.membership.leave(), GOODBYE_SECONDS)
            except (TimeoutError, *LOST) as error:
                self.events.tell(told.LeftWithoutGoodbye(error=type(error).__name__))
        for reader in self._readers:
            await reader.stop()
        if hasattr(self, "client"):
            await self.client.close()
        if hasattr(self, "_commits"):
            await self._commits.abandon()
        self.store.close()
        self.events.tell(told.EngineStopped(instance=self.identity.instance_id, is_settled=self._is_settled_at_stop))
        return self._is_settled_at_stop

    def lag(self) -> dict[int, int]:
        """Records between the committed position and the last stable offset, of the running partitions."""
        committed = self.partitions.committed
        ends = {partition: self._reader.last_stable_offset(partition) for partition in self.running}
        return {
            partition: records_behind(committed[partition], end)
            for partition, end in sorted(ends.items())
            if end is not None and end >= 0 and partition in committed  # not before its first fetch
        }

    async def _finish(self) -> None:
        try:
            await self._settle()
            await self._commits.close()
            await self._commits.finish()
            await self.store.drained()
        except (Doubt, *LOST) as doubt:
            self._is_settled_at_stop = False
            self.events.tell(told.StoppedInDoubt(reason=str(doubt)))

    def _wake(self) -> None:
        """End the main loop's sleep, or keep it from the next one."""
        self._woken = True
        if hasattr(self, "_reader"):
            self._reader.wake()

    def _trouble_from(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() is not None:
            self._trouble = task.exception()
            self._wake()

    # -- the main loop

    async def _turn(self, deliver: Deliver) -> None:
        if self._trouble is not None:
            trouble, self._trouble = self._trouble, None
            raise trouble
        if self._woken:
            self._woken = False
            await self._follow_assignment()
            while self._operations:
                await self._carry_out(self._operations.popleft())
        fetched = await self._fetch()
        incarnations = {partition: self.partitions.incarnation(partition) for partition in fetched}
        for partition, batches in fetched.items():  # a close amid them may drop the share of any partition
            await self._hand_out_all(deliver, partition, batches, incarnations[partition])
        if self._stopping:
            return  # the position that was fetched is beyond what was handed out: it must not be committed
        await self._settle()
        await self._commits.close_if_due()
        await self._commit_idle_positions()
        await self._keep_transactional_id()

    async def _hand_out_all(self, deliver: Deliver, partition: int, batches: list[list[Any]], incarnation: int) -> None:
        """Until the worker stops, or the partition is lost, dropped or halted, as it may have been since the fetch."""
        known = self.partitions
        for records, size in cut(batches, lambda: self._slice_records(partition)):
            if self._stopping or partition not in known.running or known.incarnation(partition) != incarnation:
                return
            await self._hand_out(deliver, partition, records, size)

    def _slice_records(self, partition: int) -> int:
        suspect = self.partitions.suspects.get(partition)
        limit = self._handout.limit
        return limit if suspect is None else min(limit, suspect.slice_records)

    async def _fetch(self) -> Mapping[int, list[list[Any]]]:
        wait = IDLE_FETCH_MS
        if self._stopping or self._woken:
            wait = 0
        elif self._commits.open.parts:
            wait = max(1, min(wait, int(self._commits.seconds_until_due() * 1000)))
        try:
            return await self._reader.fetch(wait)
        except kafka_errors.OffsetOutOfRangeError as error:
            for target, offset in error.args[0].items():
                self.events.tell(told.FetchOutOfRange(partition=target.partition, offset=offset))
                if target.partition in self.running:
                    await self._recover_again(target.partition)
            return {}
        except BatchUnreadable as error:
            self._suspect_fetch(error.batch)
            return {}

    async def _hand_out(self, deliver: Deliver, partition: int, records: list[Any], size: int) -> None:
        part = self._commits.open_part(partition)
        self._handout.add(len(records), size)
        await deliver(self._slice(part, records))
        is_suspect = partition in self.partitions.suspects
        if is_suspect or self._handout.is_full:
            await self._settle()
            await self._commits.close_if_due(now=is_suspect)

    def _slice(self, part: Part, records: list[Any]) -> Slice:
        outputs = self.configuration.output_topics
        return Slice(self.partitions, part, records, partition_count=self.partition_count, outputs=outputs)

    async def _settle(self) -> None:
        """Every slice that was handed out is acknowledged, or its partition's share is dropped."""
        self._commits.open.bytes += await self._handout.settled()
        failures = self._handout.take_failures()
        if failures:
            await self._commits.finish()
        for failure in failures:
            self._retry_smaller(failure)

    # -- what the agent side reports

    def acknowledged(self, piece: Slice) -> None:
        if piece.is_current:
            piece.acknowledge()
        self._handout.release()

    def discarded(self, piece: Slice) -> None:
        self._handout.release()

    def failed(self, piece: Slice, error: BaseException) -> None:
        """The fold raised: nothing of this slice may be committed."""
        if piece.is_current:
            self.partitions.bump((piece.partition,))
            self._handout.failures.append(piece.failure(error))
        self._handout.release()

    # -- what fails in one partition

    def _retry_smaller(self, failure: Failure) -> None:
        """Drop the partition's open share and read it again in smaller slices, so that what precedes commits.

        Only while nothing is in flight: the views are forgotten, and the store does not have what is on its way.
        Raises StoreFailed: that is the disk's fault and not the record's.
        """
        if isinstance(failure.error, StoreFailed):
            raise failure.error
        partition = failure.partition
        self._commits.drop_parts((partition,))
        self.partitions.forget_views((partition,))
        suspect = self._suspect(failure)
        if suspect.halted is not None:
            self._halt(suspect.halted)
        elif partition in self.running:  # not while it is given back
            self._reader.pause((partition,))
            self._reader.resume(partition, self.partitions.committed[partition])

    def _suspect(self, failure: Failure) -> Suspect:
        """What is known of the partition's failures, this one counted."""
        suspect = self.partitions.suspects.setdefault(failure.partition, Suspect(SLICE_RECORDS, failure.last))
        suspect.take(failure)
        self.statistics.agent_failures += 1
        first = failure.last if failure.first is None else failure.first.offset
        failed = told.FoldFailed(
            partition=failure.partition,
            offsets=told.Span(first, failure.last),
            tries=suspect.tries,
            error=type(failure.error).__name__,
            reason=f"{failure.what}: {failure.detail}",
        )
        self.events.tell(failed, failure.error if suspect.tries == 1 else None)
        return suspect

    def _suspect_fetch(self, batch: UnreadableBatch) -> None:
        """Corrupt bytes may be so on the wire only: read them again before the partition stops."""
        partition = batch.partition
        suspect = self.partitions.suspects.setdefault(partition, Suspect(SLICE_RECORDS, batch.last_offset))
        suspect.fails_at(batch.offset)
        failed = told.FetchFailed(partition=partition, offset=batch.offset, tries=suspect.tries, reason=str(batch))
        self.events.tell(failed)
        if batch.reason != "corrupt" or suspect.tries >= AGENT_TRIES:
            self._halt(Halted(partition=partition, offset=batch.offset, reason=str(batch), record=batch))

    def _halt(self, halted: Halted) -> None:
        partition = halted.partition
        self.partitions.halted[partition] = halted
        self.partitions.running.discard(partition)
        self._reader.pause((partition,))
        self.events.tell(told.PartitionStopped(partition=partition, offset=halted.offset, reason=halted.reason))

    # -- what an operator asks for

    async def retry(self, partition: int) -> None:
        """Run a halted partition again from its committed offset. Raises PartitionNotHalted, OutcomeUnknown."""
        await self._operate(partition)

    async def retry_from_state(self, partition: int) -> Halted:
        """Commit the state's offset for the group, which somebody else has moved, and run the partition again.

        META was written in the transactions of the outputs: the state's offset is what was folded. Returns the halt
        that this ends, with both offsets. Raises PartitionNotHalted, OffsetsAgree, OutcomeUnknown.
        """
        return await self._operate(partition, from_state=True)

    async def dead_letter(self, partition: int, offset: int) -> None:
        """Move what halts the partition to the dead letters, for good, and go on behind it: a record, or a whole batch.

        The decision stands in the changelog, in the same transaction: replay needs it, since no rule gives it.
        Raises PartitionNotHalted, RecordNotMovable, OutcomeUnknown.
        """
        await self._operate(partition, offset)

    async def _operate(self, partition: int, offset: int | None = None, *, from_state: bool = False) -> Halted:
        operation = _Operation(partition, offset, from_state, asyncio.get_running_loop().create_future())
        self._operations.append(operation)
        self._wake()
        return await operation.done

    async def _carry_out(self, operation: _Operation) -> None:
        partition, offset, from_state, done = operation
        halted = self.halted.get(partition)
        if halted is None or offset not in (None, halted.offset):
            operation.refuse(PartitionNotHalted(partition, offset))
            return
        if from_state:
            if halted.group_offset is None:
                operation.refuse(OffsetsAgree(partition, halted.reason))
            else:
                await _answering(operation, self._put_back(partition))
        elif offset is None:
            await _answering(operation, self._recover_again(partition))
            self.events.tell(told.PartitionRetried(partition=partition, offset=halted.offset))
        elif halted.record is None or self._set_aside is None:
            operation.refuse(RecordNotMovable(partition, offset))
        else:
            await _answering(operation, self._move(halted.record, partition, self._set_aside))
        if not done.done():
            done.set_result(halted)

    async def _put_back(self, partition: int) -> None:
        """The state's offset becomes the group's again, in a transaction of its own, under our member id and epoch."""
        await self._commits.close()
        meta = self.store.meta(partition)
        assert meta is not None  # noqa: S101  the halt told its offset
        self._commits.open_part(partition).position = meta.offset
        await self._commits.close()
        await self._recover_again(partition)
        self.events.tell(told.GroupOffsetPutBack(partition=partition, offset=meta.offset))

    async def _move(self, record: Any, partition: int, set_aside: SetAside) -> None:
        """In a transaction of its own: a fold that fails must not take the operator's decision with it.

        Raises DeadLetterFailed: the partition stays halted at the record.
        """
        await self._commits.close()
        part = self._commits.open_part(partition)
        piece = self._slice(part, [record])
        try:
            set_aside(piece)
        except StoreFailed:
            raise
        except Exception as error:  # whatever the app's code raises
            failed = told.DeadLetterRefused(partition=partition, offset=record.offset, error=type(error).__name__)
            self.events.tell(failed, error)
            self._commits.drop_parts((partition,))
            self.partitions.forget_views((partition,))
            raise DeadLetterFailed(partition, record.offset, type(error).__name__) from error
        part.skipped.append(record)
        piece.acknowledge()
        part.position = next_offset(record)
        await self._commits.close()
        await self._commits.finish()
        if not piece.is_current:  # it wrote to a table what cannot be encoded
            raise DeadLetterFailed(partition, record.offset, self.halted[partition].reason)
        self.partitions.run_again(partition)
        self._reader.resume(partition, next_offset(record))
        self.partitions.running.add(partition)
        self.events.tell(told.RecordSetAside(partition=partition, offset=record.offset))

    async def _commit_idle_positions(self) -> None:
        """Positions that moved over markers and aborted records alone, or lag would never reach 0."""
        now = time.monotonic()
        if not self._commits.is_idle or now - self._idle_checked < IDLE_POSITION_SECONDS:
            return
        self._idle_checked = now
        committed = self.partitions.committed
        for partition in sorted(self.running):
            position = await self._reader.position(partition)
            if committed.get(partition, position) < position and not self._reader.has_buffered(partition):
                self._commits.open_part(partition).position = position
        if self._commits.open.parts:
            await self._commits.close()

    async def _keep_transactional_id(self) -> None:
        """A worker that stands by has no transactions for weeks; the coordinator would forget its id after one
        (transactional.id.expiration.ms), and take it for superseded when it is needed."""
        if self._commits.is_idle and time.monotonic() - self.writer.last_end > KEEP_ID_SECONDS:
            await self._settle_writer()

    # -- the group

    async def _follow_assignment(self) -> None:
        member = self.membership
        if member.session != self._commits.session:
            raise MembershipBroken(None, "expelled")
        target = self._target()
        gone, new = self.owned - target, target - self.owned
        if gone:
            await self._revoke(gone)
            if member.session != self._commits.session:  # an acknowledgement would belong to the new membership
                raise MembershipBroken(None, "expelled during a revocation")
        self.partitions.owned = frozenset((self.owned - gone) | new)
        member.acknowledge(self.owned)
        if new:
            self._recover(new)

    def _target(self) -> frozenset[int]:
        """What the coordinator wants us to own. Keys hash to other partitions once their number differs."""
        target, count = self.membership.target, self.partition_count
        if target and max(target) >= count:
            raise TopicMisconfigured(self.source.name, "partition count", f"{max(target) + 1} or more", str(count))
        return target

    async def _revoke(self, gone: frozenset[int]) -> None:
        started = time.perf_counter()
        self._reader.pause(gone)
        self.partitions.running -= gone
        orphans = self._end_recovery() - gone if self._undecided & gone else set()
        await self._settle()
        try:
            async with asyncio.timeout(REVOCATION_SECONDS):
                await self._commits.close()
                await self._commits.finish()
        except TimeoutError:
            raise Doubt(None, "a revocation could not be committed in time") from None
        self._let_go(gone)
        if orphans:
            self._recover(orphans)
        took = (time.perf_counter() - started) * 1000
        self.events.tell(told.PartitionsRevoked(partitions=tuple(sorted(gone)), milliseconds=took))

    def _let_go(self, partitions: Collection[int]) -> None:
        self.partitions.let_go(partitions)
        self._commits.drop_parts(partitions)

    async def _recover_again(self, partition: int) -> None:
        """A partition that is ours: from what is committed. Nothing of it may be in flight meanwhile.

        The leader that calls an offset out of range may be one that has just woken and knows no successor yet: recovery
        asks for as long as it needs to believe it.
        """
        self._reader.pause((partition,))
        self.partitions.running.discard(partition)
        await self._commits.finish()
        self.partitions.run_again(partition)
        self._recover((partition,))

    def _recover(self, partitions: Collection[int]) -> None:
        """What is open of them is read again. There is one recovery, which takes over what another has not decided: of
        one partition a second would read again what runs, of others it would wait for the first's replay.
        """
        taken_over = self._end_recovery()
        undecided = taken_over.union(partitions)
        self.partitions.bump(undecided)
        self._commits.drop_parts(undecided)
        self.partitions.forget_views(undecided)
        recovered = self._recovered(undecided, taken_over - set(partitions), self.membership.session)
        self._undecided = undecided
        self._recovering = asyncio.create_task(recovered, name="recovery")
        self._recovering.add_done_callback(self._trouble_from)

    def _end_recovery(self) -> set[int]:
        """End the recovery that runs; returns the partitions that it has not decided yet."""
        recovering, self._recovering = self._recovering, None
        if recovering is None or recovering.done():
            return set()
        recovering.cancel()
        return self._undecided

    async def _recovered(self, undecided: set[int], taken_over: set[int], session: int) -> None:
        started = time.perf_counter()
        async for decided in self._recovery.recover(frozenset(undecided), taken_over):
            if session != self.membership.session:
                return
            undecided.discard(decided.partition)
            if isinstance(decided, Halted):
                self._halt(decided)
                continue
            known = self.partitions
            known.forget_views((decided.partition,))
            known.committed[decided.partition] = decided.offset
            self.statistics.replayed += decided.replayed
            self._run_or_halt(decided)
            recovered = told.PartitionRecovered(
                partition=decided.partition,
                offset=decided.offset,
                replayed=decided.replayed,
                milliseconds=(time.perf_counter() - started) * 1000,
            )
            self.events.tell(recovered)

    def _run_or_halt(self, recovered: Ready) -> None:
        """Nothing but an operator, or another worker's commit, gets a partition past the record that halted it."""
        known, partition = self.partitions, recovered.partition
        known.halted.pop(partition, None)
        suspect = known.suspects.get(partition)
        if suspect is not None and suspect.halted is not None:
            halted = suspect.halted
            if halted.offset is not None and recovered.offset <= halted.offset:
                self._halt(halted)
                return
            del known.suspects[partition]
        self._reader.resume(partition, recovered.offset)
        known.running.add(partition)
        if recovered.lacks_group_offset:
            self._commit_again(partition, recovered.offset)

    def _commit_again(self, partition: int, offset: int) -> None:
        """The group's offset is gone, META has it. Until it is committed, lag counts from the log's start.

        At the recovery's end, before any record is handed out: a later moment could commit an offset behind one that is
        in flight.
        """
        self.events.tell(told.GroupOffsetCommittedAgain(partition=partition, offset=offset))
        self._commits.open_part(partition).position = offset
        self._wake()

    # -- doubt

    async def _drop_everything(self, doubt: BaseException) -> None:
        """Abort, unknown outcome, lost membership: nothing uncommitted survives; Kafka says what is committed."""
        started = time.perf_counter()
        self.statistics.drops[type(doubt).__name__] += 1
        self.events.tell(told.WorkDropping(kind=type(doubt).__name__, reason=str(doubt)))
        every = range(self.partition_count)
        self.partitions.bump(every)
        self._reader.pause(every)
        self.partitions.running.clear()
        await _cancelled(self._recovering)
        _raise_fatal(await self._commits.ended())
        self._handout.take_failures()
        suspects = dict(self.partitions.suspects)
        self._let_go(every)
        session = self.membership.session  # one that ends meanwhile is the next turn's matter
        if await self._settle_writer():
            self.membership.own(session)
        await self.store.drained()
        await self._pause_after_drops()
        self._commits.session = session
        self._commits.drop()
        self.partitions.owned = self._target()
        self.membership.acknowledge(self.owned)
        self.partitions.suspects.update(
            (partition, suspect) for partition, suspect in suspects.items() if partition in self.owned
        )
        if isinstance(doubt, Refused) and doubt.failure is not None and doubt.partition in self.owned:
            self._suspect(doubt.failure)
        if self.owned:
            self._recover(self.owned)
        self._woken = True  # an operator's request that the doubt came before would wait for the next commit
        self.events.tell(told.WorkDropped(milliseconds=(time.perf_counter() - started) * 1000))

    async def _pause_after_drops(self) -> None:
        """What drops again and again without a commit in between must not keep the brokers busy."""
        least, most = DROP_PAUSE_SECONDS
        self._drops = 0 if self._commits.have_succeeded else self._drops + 1
        if self._drops:
            await asyncio.sleep(min(most, least * 2 ** min(self._drops, 10)))

    async def _settle_writer(self) -> bool:
        """However long the coordinator is away; only a stop ends the wait, in doubt: then False."""
        settling = asyncio.create_task(self.writer.settle(), name="settle")
        while not settling.done():
            await asyncio.wait((settling,), timeout=0.5)
            self.progress = time.monotonic()
            if self._stopping and not settling.done():
                await _cancelled(settling)
                self._is_settled_at_stop = False
                return False
        settling.result()
        return True


async def _cancelled(*tasks: "asyncio.Task[Any] | None") -> None:
    running = [task for task in tasks if task is not None]
    for task in running:
        task.cancel()
    await asyncio.gather(*running, return_exceptions=True)


def _raise_fatal(error: BaseException | None) -> None:
    """A failed commit is an ordinary doubt, or it ends the worker: a store that fails, a bug."""
    if error is not None and not isinstance(error, (Doubt, kafka_errors.KafkaError, OSError)):
        raise error

"""The exactly-once engine: one loop that hands slices to a fold, closes transactions and follows the group.

1. A slice is acknowledged when its fold is done and asks for the next; a failure never acknowledges.
2. Transaction N commits while N+1 folds; N+1's records wait in their batches until N is settled.
3. On any doubt everything uncommitted is dropped (views, open transaction, queued slices, by their incarnation), the
   coordinator is asked how the last transaction ended, and all partitions are recovered from what Kafka has.
4. A partition is given back only after what was read of it is settled.
5. Only this loop hands out, closes and drops; recovery and heartbeats run beside it and wake it.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient
from aiokafka.structs import TopicPartition

from portfolio_stream.errors import (
    BrokerUnreachable,
    OutcomeUnknown,
    PartitionNotHalted,
    PortfolioStreamError,
    RecordNotMovable,
    StoreFailed,
    TopicMisconfigured,
)
from portfolio_stream.exactly_once.identity import Identity
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.ports import Append, TableDefinition
from portfolio_stream.exactly_once.protocol import Doubt, MembershipBroken, Refused, StaleEpoch
from portfolio_stream.exactly_once.reader import BatchReader, CorruptBatch
from portfolio_stream.exactly_once.recovery import Halted, Recovery, Source
from portfolio_stream.exactly_once.replay import Replay
from portfolio_stream.exactly_once.statistics import Statistics
from portfolio_stream.exactly_once.store import (
    META_KEY,
    SKIP_VALUE,
    Item,
    Meta,
    Position,
    Store,
    StoredView,
    encode_meta,
    prefix_of,
    skip_key,
)
from portfolio_stream.exactly_once.topic_watch import TopicWatch
from portfolio_stream.exactly_once.transaction import Part, Transaction
from portfolio_stream.exactly_once.wire import LOST, Coordinators, require_features
from portfolio_stream.exactly_once.writer import Writer

log = logging.getLogger(__name__)

V = TypeVar("V")

SLICE_RECORDS = 500  # some 5 ms of folding: heartbeats and commits get their turn in between
SLICE_BYTES = 4 << 20  # keys and values; events are small, but a record may hold megabytes
TRANSACTION_BYTES = 32 << 20
TRANSACTION_EVENTS = 25_000  # in a backlog: +15 % throughput over 10,000; the memory of one transaction stays bounded
INTERVAL_SECONDS = (0.010, 0.100)  # least and most time between two commits
INTERVAL_PER_COMMIT = 2.0  # a slow commit means load: fewer, larger transactions
DROP_PAUSE_SECONDS = (0.05, 1.0)  # before recovery, doubled with each drop since the last commit
IDLE_FETCH_MS = 50  # the main loop's longest sleep: membership and timers wake it, data ends it
IDLE_POSITION_SECONDS = 5.0  # how often an idle partition whose position moved (markers) commits it
VIEW_ENTRIES = 200_000  # hot values of all views together, in each of two generations
SLICE_SHRINK = 8  # 500, 62, 7, 1: the failing record is alone after three more tries
AGENT_TRIES = 3  # at one offset, before its partition stops
REVOCATION_SECONDS = 10.0  # then the revoked partitions' share is dropped
STOP_SECONDS = 2.0  # a stop must end within 5, and Faust takes 1 to 2 of them after us
GOODBYE_SECONDS = 0.5  # unsaid, the session time-out says it
REQUEST_TIMEOUT_MS = 10_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    group: str
    source_topic: str
    changelog_topic: str
    #: topics that folds append to
    output_topics: tuple[str, ...]
    #: fold version and settings: a state that was folded otherwise is refused
    fold: str
    #: None: adaptive
    commit_interval_seconds: float | None = None
    #: aiokafka's options of every client: bootstrap_servers, security
    client_options: Mapping[str, Any] = field(default_factory=dict)
    #: what other members see of us, e.g. instance@host:port
    client_id: str = "portfolio-stream"


class Slice:
    """Records of one partition on their way through a fold (see ports.Slice)."""

    __slots__ = ("_engine", "_part", "incarnation", "partition", "partition_count", "records")

    def __init__(self, engine: "Engine", part: Part, records: Sequence[Any]) -> None:
        self._engine = engine
        self._part = part
        self.partition = part.partition
        self.partition_count = engine.partition_count
        self.incarnation = part.incarnation
        self.records = records

    def view(self, table: TableDefinition[V]) -> StoredView[V]:
        """Of a slice that was dropped while its fold waited: one that nobody sees."""
        if not self._engine.is_current(self):
            return StoredView(table, self._engine.store, self.partition)
        return self._engine.view(self.partition, table)

    def appender(self, topic: str) -> Append:
        return self._part.appender(topic)

    def count(self, **outcomes: int) -> None:
        """Counted when the slice's transaction has committed."""
        self._part.counts.update(outcomes)

    def acknowledge(self) -> None:
        part, last = self._part, self.records[-1]
        part.position = last.offset + 1
        part.events += len(self.records)
        part.latest_timestamps.append((last.timestamp, len(self.records)))


class _Failure(NamedTuple):
    """A slice whose fold raised."""

    piece: Slice
    error: BaseException


class _Operation(NamedTuple):
    """What an operator asks for: run a halted partition again, or first move the record at `offset` out of its way."""

    partition: int
    offset: int | None
    done: "asyncio.Future[None]"

    def refuse(self, error: PortfolioStreamError) -> None:
        if not self.done.done():  # whoever asked may have gone
            self.done.set_exception(error)


@dataclass(slots=True)
class _Suspect:
    """A partition that runs in smaller slices, each committed at once, until what failed is committed."""

    slice_records: int
    #: last source offset of the first slice that failed
    until: int
    #: the record that failed alone, and how often
    offset: int = -1
    tries: int = 0


Deliver = Callable[[Slice], Awaitable[None]]
#: writes the dead letter of a slice's one record
SetAside = Callable[[Slice], None]


class Engine:
    def __init__(
        self,
        configuration: Configuration,
        identity: Identity,
        store: Store,
        tables: Collection[TableDefinition[Any]],
        set_aside: SetAside | None = None,
    ) -> None:
        self.configuration = configuration
        self.identity = identity
        self.store = store
        self.statistics = Statistics()
        self.tables = {table.name: table for table in tables}
        self.partition_count = 0
        self.owned: frozenset[int] = frozenset()
        self.running: set[int] = set()
        self.halted: dict[int, Halted] = {}
        #: monotonic seconds of the main loop's last turn
        self.progress = time.monotonic()
        self._views: dict[tuple[int, str], StoredView[Any]] = {}
        self._incarnations: dict[int, int] = {}
        self._suspects: dict[int, _Suspect] = {}
        self._committed: dict[int, int] = {}  # next source offsets
        self._stored = 0
        self._session = 0
        self._open = Transaction(1)
        self._committing: asyncio.Task[None] | None = None
        self._recovering: dict[asyncio.Task[None], set[int]] = {}
        self._outstanding = 0
        self._outstanding_records = 0
        self._outstanding_bytes = 0
        self._settled = asyncio.Event()
        self._settled.set()
        self._failures: list[_Failure] = []
        self._set_aside = set_aside
        self._operations: deque[_Operation] = deque()
        self._trouble: BaseException | None = None
        self._woken = False
        self._drops_since_commit = 0
        self._stopping = False
        self._is_settled_at_stop = True
        self._idle_checked = time.monotonic()

    # -- life cycle

    async def start(self) -> None:
        """Connect, fence the former process of this identity, join the group. Raises PortfolioStreamError."""
        options = dict(self.configuration.client_options)
        conf = self.configuration
        self.client = AIOKafkaClient(request_timeout_ms=REQUEST_TIMEOUT_MS, client_id=conf.client_id, **options)
        try:
            await self.client.bootstrap()
        except kafka_errors.KafkaConnectionError:
            await self.client.close()
            raise BrokerUnreachable(str(options.get("bootstrap_servers"))) from None
        await require_features(self.client)
        await self.client.set_topics([conf.source_topic, conf.changelog_topic, *conf.output_topics])
        self._watch = TopicWatch(self.client, [conf.source_topic, conf.changelog_topic, *conf.output_topics])
        await self._watch.start()
        topic_id, partitions = self._watch.topics[conf.source_topic]
        self.source = Source(name=conf.source_topic, topic_id=topic_id, partitions=partitions)
        self.partition_count = self.source.partitions
        transactional_id = f"{conf.group}-{self.identity.member_id}"
        self.coordinators = Coordinators(self.client, conf.group, transactional_id)
        self.writer = Writer(self.client, self.coordinators, group=conf.group, transactional_id=transactional_id)
        await self.writer.start()
        await self._start_readers(options)
        self.membership = Membership(
            self.client,
            self.coordinators,
            group=conf.group,
            topic=conf.source_topic,
            topic_id=self.source.topic_id,
            member_id=self.identity.member_id,
            progress=lambda: self.progress,
            wake_engine=self._wake,
        )
        self._beside = [
            asyncio.create_task(self.membership.run(), name="heartbeats"),
            asyncio.create_task(self._watch.run(), name="topics"),
        ]
        for task in self._beside:
            task.add_done_callback(self._trouble_from)
        log.info("engine started instance=%s partitions=%d", self.identity.instance_id, self.partition_count)

    async def _start_readers(self, options: dict[str, Any]) -> None:
        conf = self.configuration
        self._changelog_id = self._watch.topics[conf.changelog_topic].id.hex
        self._reader = BatchReader(conf.source_topic, self.partition_count, options)
        self._changelog = BatchReader(
            conf.changelog_topic,
            self.partition_count,
            options,
            fetch_min_bytes=1,
            fetch_max_wait_ms=20,
            max_partition_fetch_bytes=256 << 10,  # 0.2 s of standstill for kept partitions with 4 MB, 0.02 s with this
        )
        await self._reader.start()
        await self._changelog.start()
        replay = Replay(
            self.client, self.store, self._changelog, topic=conf.changelog_topic, topic_id=self._changelog_id
        )
        self._recovery = Recovery(
            self.client,
            self.coordinators,
            self.store,
            replay,
            group=conf.group,
            source=self.source,
            changelog_id=self._changelog_id,
            fold=conf.fold,
        )

    async def run(self, deliver: Deliver) -> None:
        """Until stop(). Raises PortfolioStreamError when this worker must end; nothing uncommitted is kept then."""
        while not self._stopping:
            self.progress = time.monotonic()
            try:
                await self._turn(deliver)
            except (Doubt, kafka_errors.KafkaError, OSError) as doubt:
                await self._drop_everything(doubt)
        await self._finish()

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
        """Leave the group and let go of everything; True if nothing was left in doubt."""
        self.running.clear()  # nothing is served from a store that closes
        while self._operations:
            operation = self._operations.popleft()
            operation.refuse(OutcomeUnknown(operation.partition))
        if hasattr(self, "membership"):
            for task in self._beside:
                task.remove_done_callback(self._trouble_from)
            await _cancelled(*self._beside, *self._recovering)
            try:
                await asyncio.wait_for(self.membership.leave(), GOODBYE_SECONDS)
            except (TimeoutError, *LOST) as error:
                log.info("left without goodbye error=%s", type(error).__name__)
            await self._reader.stop()
            await self._changelog.stop()
        if hasattr(self, "client"):
            await self.client.close()
        if self._committing is not None:  # a stop that came in doubt: the next start asks how it ended
            await _cancelled(self._committing)
        self.store.close()
        return self._is_settled_at_stop

    def lag(self) -> dict[int, int]:
        """Records between the committed position and the last stable offset, of the running partitions."""
        ends = {partition: self._reader.last_stable_offset(partition) for partition in self.running}
        return {
            partition: max(0, end - self._committed[partition])
            for partition, end in sorted(ends.items())
            if end is not None and end >= 0 and partition in self._committed  # not before its first fetch
        }

    async def _finish(self) -> None:
        try:
            await self._settle()
            await self._commit_open()
            await self._await_commit()
            await self.store.drained()
        except (Doubt, *LOST) as doubt:
            self._is_settled_at_stop = False
            log.warning("stopped in doubt, the next start settles it reason=%s", doubt)

    def _wake(self) -> None:
        self._woken = True

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
        for partition, batches in (await self._fetch()).items():
            incarnation = self._incarnations.get(partition, 0)
            for records, size in self._slices(partition, batches):
                if partition not in self.running or self._incarnations.get(partition, 0) != incarnation:
                    break
                await self._hand_out(deliver, partition, records, size)
        await self._settle()
        await self._commit_if_due()
        await self._commit_idle_positions()

    async def _fetch(self) -> Mapping[int, list[list[Any]]]:
        wait = IDLE_FETCH_MS
        if self._open.parts:
            due = self._open.opened + self._interval() - time.monotonic()
            wait = max(1, min(wait, int(due * 1000)))
        elif self._stopping or self._woken:
            wait = 0
        try:
            return await self._reader.fetch(wait)
        except kafka_errors.OffsetOutOfRangeError as error:
            for target in error.args[0]:
                self._halt(target.partition, f"the source offset {error.args[0][target]} is out of range")
            return {}
        except CorruptBatch as error:
            self._suspect_fetch(error)
            return {}

    def _slices(self, partition: int, batches: list[list[Any]]) -> Iterator[tuple[list[Any], int]]:
        """Records and their bytes."""
        for batch in batches:
            start = 0
            while start < len(batch):
                suspect = self._suspects.get(partition)
                most = SLICE_RECORDS if suspect is None else suspect.slice_records
                records = batch[start : start + most]
                size = _bytes_of(records)
                while len(records) > 1 and size > SLICE_BYTES:
                    records = records[: len(records) // 2]
                    size = _bytes_of(records)
                yield records, size
                start += len(records)

    async def _hand_out(self, deliver: Deliver, partition: int, records: list[Any], size: int) -> None:
        part = self._open_part(partition)
        self._outstanding += 1
        self._outstanding_records += len(records)
        self._outstanding_bytes += size
        self._settled.clear()
        await deliver(Slice(self, part, records))
        suspect = partition in self._suspects
        if suspect or self._outstanding_records >= SLICE_RECORDS or self._outstanding_bytes >= SLICE_BYTES:
            await self._settle()
            await self._commit_if_due(now=suspect)

    async def _settle(self) -> None:
        """Every slice that was handed out is acknowledged, or its partition's share is dropped."""
        await self._settled.wait()
        self._open.bytes += self._outstanding_bytes
        self._outstanding_records = self._outstanding_bytes = 0
        failures, self._failures = self._failures, []
        for failure in failures:
            await self._retry_smaller(failure)

    # -- what the agent side reports

    def is_current(self, piece: Slice) -> bool:
        """False for a slice that was fetched before a drop: it will be read again."""
        return self._incarnations.get(piece.partition, 0) == piece.incarnation

    def acknowledged(self, piece: Slice) -> None:
        if self.is_current(piece):
            piece.acknowledge()
        self._release()

    def discarded(self, piece: Slice) -> None:
        self._release()

    def failed(self, piece: Slice, error: BaseException) -> None:
        """The fold raised: nothing of this slice may be committed."""
        if self.is_current(piece):
            self._bump((piece.partition,))
            self._failures.append(_Failure(piece, error))
        self._release()

    def _release(self) -> None:
        self._outstanding -= 1
        if self._outstanding == 0:
            self._settled.set()

    def view(self, partition: int, table: TableDefinition[V]) -> StoredView[V]:
        view = self._views.get((partition, table.name))
        if view is None:
            view = self._views[partition, table.name] = StoredView(table, self.store, partition)
        return view

    # -- a fold that fails

    async def _retry_smaller(self, failure: "_Failure") -> None:
        """Drop this partition's open share and read it again in smaller slices, so that what precedes commits.

        Raises StoreFailed: that is the disk's fault and not the record's.
        """
        if isinstance(failure.error, StoreFailed):
            raise failure.error
        (partition, records), error = (failure.piece.partition, failure.piece.records), failure.error
        first, last = records[0].offset, records[-1].offset
        self.statistics.agent_failures += 1
        self._open.parts.pop(partition, None)
        await self._await_commit()
        self._forget_views((partition,))
        suspect = self._suspects.setdefault(partition, _Suspect(SLICE_RECORDS, last))
        if first == last:
            suspect.tries = suspect.tries + 1 if suspect.offset == first else 1
            suspect.offset = first
        log.error(
            "fold failed partition=%d offsets=%d..%d try=%d error=%s",
            partition, first, last, suspect.tries, type(error).__name__,
            exc_info=error if suspect.tries == 1 else None,
        )  # fmt: skip
        if suspect.tries >= AGENT_TRIES:
            reason = f"the fold failed {suspect.tries} times: {type(error).__name__}"
            self._halt(partition, reason, first, records[0])
            return
        suspect.slice_records = max(1, (last - first + 1) // SLICE_SHRINK)
        if partition in self.running:  # not while it is given back
            self._reader.pause((partition,))
            self._reader.resume(partition, self._committed[partition])

    def _suspect_fetch(self, corrupt: CorruptBatch) -> None:
        """Fetched bytes may be corrupt on the wire only: read them again, then stop the partition."""
        partition = corrupt.partition
        suspect = self._suspects.setdefault(partition, _Suspect(SLICE_RECORDS, corrupt.offset))
        suspect.tries = suspect.tries + 1 if suspect.offset == corrupt.offset else 1
        suspect.offset = corrupt.offset
        log.error(
            "fetch failed partition=%d offset=%d try=%d reason=%s", partition, corrupt.offset, suspect.tries, corrupt
        )
        if suspect.tries >= AGENT_TRIES:
            self._halt(partition, str(corrupt), corrupt.offset)

    def _halt(self, partition: int, reason: str, offset: int | None = None, record: Any = None) -> None:
        self.halted[partition] = Halted(partition=partition, offset=offset, reason=reason, record=record)
        self.running.discard(partition)
        self._reader.pause((partition,))
        log.error("partition stopped partition=%d offset=%s reason=%s", partition, offset, reason)

    # -- what an operator asks for

    async def retry(self, partition: int) -> None:
        """Run a halted partition again from its committed offset. Raises PartitionNotHalted, OutcomeUnknown."""
        await self._operate(partition, None)

    async def dead_letter(self, partition: int, offset: int) -> None:
        """Move the record that halts the partition to the dead letters, for good, and go on behind it.

        The decision stands in the changelog, in the same transaction: replay needs it, since no rule gives it.
        Raises PartitionNotHalted, RecordNotMovable, OutcomeUnknown.
        """
        await self._operate(partition, offset)

    async def _operate(self, partition: int, offset: int | None) -> None:
        operation = _Operation(partition, offset, asyncio.get_running_loop().create_future())
        self._operations.append(operation)
        self._wake()
        await operation.done

    async def _carry_out(self, operation: _Operation) -> None:
        partition, offset, done = operation
        halted = self.halted.get(partition)
        if halted is None or offset not in (None, halted.offset):
            operation.refuse(PartitionNotHalted(partition, offset))
        elif offset is None:
            self._run_again(partition)
            self._recover((partition,))
        elif halted.record is None or self._set_aside is None:
            operation.refuse(RecordNotMovable(partition, offset))
        else:
            try:
                await self._move(halted.record, partition, self._set_aside)
            except BaseException:
                operation.refuse(OutcomeUnknown(partition))
                raise
        if not done.done():
            done.set_result(None)

    async def _move(self, record: Any, partition: int, set_aside: SetAside) -> None:
        """In a transaction of its own: a fold that fails must not take the operator's decision with it."""
        await self._commit_open()
        part = self._open_part(partition)
        piece = Slice(self, part, [record])
        set_aside(piece)
        part.skipped.append(record.offset)
        piece.acknowledge()
        await self._commit_open()
        await self._await_commit()
        self._run_again(partition)
        self._reader.resume(partition, record.offset + 1)
        self.running.add(partition)
        log.warning("record moved to the dead letters partition=%d offset=%d", partition, record.offset)

    def _run_again(self, partition: int) -> None:
        del self.halted[partition]
        self._suspects.pop(partition, None)

    # -- transactions

    def _open_part(self, partition: int) -> Part:
        """Offsets are stamped with the epoch at the opening: the broker then refuses what was lost since (KIP-1251)."""
        if not self._open.parts:
            self._open.stamp(self._session, self.membership.epoch)
        return self._open.part(partition, self._incarnations.get(partition, 0))

    def _interval(self) -> float:
        if self.configuration.commit_interval_seconds is not None:
            return self.configuration.commit_interval_seconds
        least, most = INTERVAL_SECONDS
        return min(most, max(least, INTERVAL_PER_COMMIT * self.statistics.last_commit_seconds))

    async def _commit_if_due(self, *, now: bool = False) -> None:
        transaction = self._open
        if not transaction.parts:
            if self._committing is not None and self._committing.done():
                await self._await_commit()
            return
        full = transaction.events >= TRANSACTION_EVENTS or transaction.bytes >= TRANSACTION_BYTES
        at_once = full or now
        if self._committing is not None and not self._committing.done() and not at_once:
            return
        if at_once or time.monotonic() - transaction.opened >= self._interval():
            await self._commit_open()

    async def _commit_open(self) -> None:
        """Close the open transaction and begin to commit it, after the one before."""
        await self._await_commit()
        transaction = self._open
        parts = transaction.committable()
        if parts:
            items = [item for part in parts for item in self._close(part)]
            self._committing = asyncio.create_task(self._commit(transaction, parts, items), name="commit")
            self._open = Transaction(transaction.number + 1)
        limit = VIEW_ENTRIES // max(1, len(self._views))
        for view in self._views.values():
            view.age(limit, self._open.number, self._stored)

    async def _await_commit(self) -> None:
        if self._committing is not None:
            task = self._committing
            await asyncio.wait((task,))
            self._committing = None
            task.result()

    def _close(self, part: Part) -> list[Item]:
        """Encode what the fold wrote, once: changelog bytes are store bytes. META goes last."""
        prefix = prefix_of(part.partition)
        items: list[Item] = []
        for table in self.tables:
            view = self._views.get((part.partition, table))
            if view is not None and view.dirty:
                items += view.take_dirty()
        assert part.position is not None  # noqa: S101  committable() has only such
        items += [(prefix + skip_key(offset), SKIP_VALUE) for offset in part.skipped]
        meta = Meta(
            topic_id=self.source.topic_id.hex,
            offset=part.position,
            partitions=self.partition_count,
            changelog=self._changelog_id,
            fold=self.configuration.fold,
        )
        items.append((prefix + META_KEY, encode_meta(meta)))
        append = part.appender(self.configuration.changelog_topic)
        timestamp = part.latest_timestamps[-1][0] if part.latest_timestamps else 0
        for key, value in items:
            append(timestamp, key[2:], value, ())
        return items

    async def _commit(self, transaction: Transaction, parts: Sequence[Part], items: list[Item]) -> None:
        """Offsets, records, EndTxn, store: in this order, each only after the one before succeeded."""
        started = time.perf_counter()
        parts = await self._reserve(transaction, parts)
        if not parts:
            raise Doubt(None, "every partition of the transaction was lost")
        endings = await self.writer.send_records(parts)
        await self.writer.commit()
        self._count(parts, time.perf_counter() - started)
        kept = {prefix_of(part.partition) for part in parts}
        now = time.time()
        positions = {
            part.partition: Position(topic_id=self._changelog_id, offset=endings[target], written_at=now)
            for part in parts
            if (target := TopicPartition(self.configuration.changelog_topic, part.partition)) in endings
        }
        started = time.perf_counter()
        await self.store.write([item for item in items if item[0][:2] in kept], positions)
        self.statistics.store_seconds.observe(time.perf_counter() - started)
        self._stored = transaction.number

    async def _reserve(self, transaction: Transaction, parts: Sequence[Part]) -> Sequence[Part]:
        """The parts whose offsets were accepted, under the epoch of the transaction's opening or a newer one."""
        member = self.membership
        epoch = transaction.member_epoch
        while True:
            if transaction.session != member.session:  # the broker would accept the new epoch after a rejoin
                raise MembershipBroken(None, "the membership in which these records were read is over")
            try:
                await self.writer.send_offsets(self.source.name, parts, member_id=member.member_id, member_epoch=epoch)
                return parts
            except StaleEpoch:
                await member.beat()
                parts = [part for part in parts if self._incarnations.get(part.partition, 0) == part.incarnation]
                lost = [part for part in parts if part.partition not in member.owned]
                if epoch == member.epoch or lost or not parts:
                    raise
                epoch = member.epoch

    def _count(self, parts: Sequence[Part], seconds: float) -> None:
        now = time.time()
        statistics = self.statistics
        statistics.commits += 1
        self._drops_since_commit = 0
        statistics.commit_seconds.observe(seconds)
        statistics.last_commit_seconds = seconds
        for part in parts:
            statistics.events += part.events
            statistics.counts.update(part.counts)
            assert part.position is not None  # noqa: S101
            self._committed[part.partition] = part.position
            suspect = self._suspects.get(part.partition)
            if suspect is not None and part.position > suspect.until:
                del self._suspects[part.partition]  # what failed is behind us: full slices again
            for stamp, events in part.latest_timestamps:
                statistics.latencies.observe(now - stamp / 1000, events)
        log.debug("committed events=%d milliseconds=%.1f", sum(part.events for part in parts), seconds * 1000)

    async def _commit_idle_positions(self) -> None:
        """Positions that moved over markers and aborted records alone, or lag would never reach 0."""
        now = time.monotonic()
        if self._open.parts or self._committing is not None or now - self._idle_checked < IDLE_POSITION_SECONDS:
            return
        self._idle_checked = now
        for partition in sorted(self.running):
            position = await self._reader.position(partition)
            if self._committed.get(partition, position) < position and not self._reader.has_buffered(partition):
                self._open_part(partition).position = position
        if self._open.parts:
            await self._commit_open()

    # -- the group

    async def _follow_assignment(self) -> None:
        member = self.membership
        if member.session != self._session:
            raise MembershipBroken(None, "expelled")
        target = self._target()
        gone, new = self.owned - target, target - self.owned
        if gone:
            await self._revoke(gone)
            if member.session != self._session:  # whatever is acknowledged now would belong to the new membership
                raise MembershipBroken(None, "expelled during a revocation")
        self.owned = frozenset((self.owned - gone) | new)
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
        self.running -= gone
        orphans: set[int] = set()
        for task, partitions in list(self._recovering.items()):
            if partitions & gone:
                task.cancel()
                self._recovering.pop(task)
                orphans |= partitions - gone - self.running
        await self._settle()
        try:
            async with asyncio.timeout(REVOCATION_SECONDS):
                await self._commit_open()
                await self._await_commit()
        except TimeoutError:
            raise Doubt(None, "a revocation could not be committed in time") from None
        self._let_go(gone)
        if orphans - set(self.halted):
            self._recover(frozenset(orphans - set(self.halted)))
        log.info("revoked partitions=%s milliseconds=%.1f", sorted(gone), (time.perf_counter() - started) * 1000)

    def _let_go(self, partitions: Collection[int]) -> None:
        self._bump(partitions)
        self._forget_views(partitions)
        for partition in partitions:
            self._open.parts.pop(partition, None)
            for known in (self.halted, self._suspects, self._committed):
                known.pop(partition, None)

    def _recover(self, partitions: Collection[int]) -> None:
        self._bump(partitions)
        task = asyncio.create_task(self._recovered(set(partitions), self.membership.session), name="recovery")
        self._recovering[task] = set(partitions)
        task.add_done_callback(lambda done: self._recovering.pop(done, None))
        task.add_done_callback(self._trouble_from)

    async def _recovered(self, partitions: set[int], session: int) -> None:
        started = time.perf_counter()
        async for decided in self._recovery.recover(partitions):
            if session != self.membership.session:
                return
            if isinstance(decided, Halted):
                self._halt(decided.partition, decided.reason, decided.offset)
                continue
            self._forget_views((decided.partition,))
            self._committed[decided.partition] = decided.offset
            self.statistics.replayed += decided.replayed
            self.halted.pop(decided.partition, None)
            self._reader.resume(decided.partition, decided.offset)
            self.running.add(decided.partition)
            log.info(
                "recovered partition=%d offset=%d replayed=%d milliseconds=%.1f",
                decided.partition, decided.offset, decided.replayed, (time.perf_counter() - started) * 1000,
            )  # fmt: skip

    def _bump(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self._incarnations[partition] = self._incarnations.get(partition, 0) + 1

    def _forget_views(self, partitions: Collection[int]) -> None:
        for partition, table in list(self._views):
            if partition in partitions:
                del self._views[partition, table]

    # -- doubt

    async def _drop_everything(self, doubt: BaseException) -> None:
        """Abort, unknown outcome, lost membership: nothing uncommitted survives; Kafka says what is committed."""
        started = time.perf_counter()
        self.statistics.drops[type(doubt).__name__] += 1
        log.warning("dropping uncommitted work reason=%s", doubt)
        every = range(self.partition_count)
        self._bump(every)
        self._reader.pause(every)
        self.running.clear()
        await _cancelled(*self._recovering)
        self._recovering.clear()
        if self._committing is not None:  # its offsets may be accepted: it ends by itself, well or not
            await asyncio.wait((self._committing,))
            _raise_fatal(self._committing.exception())
            self._committing = None
        self._failures.clear()
        self._let_go(every)
        await self._settle_writer()
        await self.store.drained()
        await self._pause_after_drops()
        self._session = self.membership.session
        self._open = Transaction(self._open.number + 1)
        self.owned = self._target()
        self.membership.acknowledge(self.owned)
        if isinstance(doubt, Refused) and doubt.partition in self.owned:
            self._halt(doubt.partition, f"the broker refused a record for {doubt.topic}: {doubt.reason}")
        if self.owned - set(self.halted):
            self._recover(self.owned - set(self.halted))
        log.warning("dropped milliseconds=%.1f", (time.perf_counter() - started) * 1000)

    async def _pause_after_drops(self) -> None:
        """What drops again and again without a commit in between must not keep the brokers busy."""
        least, most = DROP_PAUSE_SECONDS
        if self._drops_since_commit:
            await asyncio.sleep(min(most, least * 2 ** min(self._drops_since_commit, 10)))
        self._drops_since_commit += 1

    async def _settle_writer(self) -> None:
        """However long the coordinator is away; only a stop ends the wait, in doubt."""
        settling = asyncio.create_task(self.writer.settle(), name="settle")
        while not settling.done():
            await asyncio.wait((settling,), timeout=0.5)
            self.progress = time.monotonic()
            if self._stopping and not settling.done():
                await _cancelled(settling)
                self._is_settled_at_stop = False
                return
        settling.result()


async def _cancelled(*tasks: "asyncio.Task[Any]") -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _raise_fatal(error: BaseException | None) -> None:
    """A failed commit is an ordinary doubt, or it ends the worker: a store that fails, a bug."""
    if error is not None and not isinstance(error, (Doubt, kafka_errors.KafkaError, OSError)):
        raise error


def _bytes_of(records: Sequence[Any]) -> int:
    return sum(len(record.value or b"") + len(record.key or b"") for record in records)

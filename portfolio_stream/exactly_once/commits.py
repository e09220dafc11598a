"""Closes the open transaction and commits it, while the next one opens and folds.

1. Transaction N+1's records wait in their batches until N is settled.
2. A share whose table values cannot be encoded is dropped alone, before anything is sent; the others are committed.
3. Offsets, records, EndTxn, store: in this order, each only after the one before succeeded.
4. Whatever raises then leaves the outcome to the engine, which drops everything and asks the coordinator.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import chain

from aiokafka.structs import TopicPartition

from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.database import Item
from portfolio_stream.exactly_once.failures import ENCODING_FAILED, Failure
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.protocol import Doubt, MembershipBroken, Refused, StaleEpoch
from portfolio_stream.exactly_once.recovery import Source
from portfolio_stream.exactly_once.store import (
    META_KEY,
    ChangelogPosition,
    Meta,
    Store,
    encode_meta,
    prefix_of,
    skip_key,
    skip_value,
)
from portfolio_stream.exactly_once.transaction import Part, Transaction
from portfolio_stream.exactly_once.writer import Endings, Writer
from portfolio_stream.observe.events import SlowCommit
from portfolio_stream.observe.ring import Tell, write
from portfolio_stream.observe.statistics import Laps, Statistics

log = logging.getLogger(__name__)

TRANSACTION_BYTES = 32 << 20
TRANSACTION_EVENTS = 25_000  # in a backlog: +15 % throughput over 10,000; the memory of one transaction stays bounded
INTERVAL_SECONDS = (0.010, 0.100)  # least and most time between two commits
ENCODING_SECONDS = 0.5  # of one transaction: heartbeats wait for it; a slow encoder makes the next ones smaller
TURN_SECONDS = 0.02
LEAST_SHARE = 1 / 64  # of a full transaction: one that outlasts its time-out on a slow link must come back smaller
COMMITTING_SECONDS = 0.05  # between two looks while another transaction commits
INTERVAL_PER_COMMIT = 1.0  # slow commits mean load: fewer, larger transactions
SLOW_COMMIT_SECONDS = 0.5  # twenty times the budget: an event says which phase took so long
NEWEST_COMMIT_SHARE = 0.2  # of the usual time; one slow commit alone must not make the next events wait as well


class Commits:
    def __init__(
        self,
        configuration: Configuration,
        partitions: Partitions,
        statistics: Statistics,
        store: Store,
        writer: Writer,
        membership: Membership,
        *,
        source: Source,
        changelog_id: str,
        wake_engine: Callable[[], None],
        encoding_failed: Callable[[Failure], None],
        tell: Tell = write,
    ) -> None:
        """`encoding_failed` is called at a close, when nothing is in flight, and drops the share."""
        self._wake_engine = wake_engine
        self._encoding_failed = encoding_failed
        self._tell = tell
        self._configuration = configuration
        self._partitions = partitions
        self._statistics = statistics
        self._store = store
        self._writer = writer
        self._member = membership
        self._source = source
        self._changelog_id = changelog_id
        self._committing: asyncio.Task[None] | None = None
        self._stored = 0
        self.open = Transaction(1)
        #: how many events make a transaction full
        self._most_events = TRANSACTION_EVENTS
        #: of a full transaction: halved by each drop, doubled by each commit
        self._share = 1.0
        #: the membership under which records are read now
        self.session = 0
        #: since the last drop
        self.have_succeeded = True

    @property
    def is_idle(self) -> bool:
        """Nothing is folded and nothing in flight."""
        return not self.open.parts and self._committing is None

    def open_part(self, partition: int) -> Part:
        """Offsets are stamped with the epoch at the opening: the broker then refuses what was lost since (KIP-1251)."""
        if not self.open.parts:
            self.open.stamp(self.session, self._member.epoch)
        part = self.open.part(partition, self._partitions.incarnation(partition))
        if part.incarnation != self._partitions.incarnation(partition):
            raise AssertionError(f"partition {partition} was recovered while its share was open")
        return part

    def drop_parts(self, partitions: Collection[int]) -> None:
        for partition in partitions:
            self.open.parts.pop(partition, None)

    def drop(self) -> None:
        """After everything was settled: the open transaction never was."""
        self.open = Transaction(self.open.number + 1)
        self.have_succeeded = False
        self._share = max(LEAST_SHARE, self._share / 2)

    def seconds_until_due(self) -> float:
        """Until the open transaction is due, negative if it is late; while another commits, a while: its end wakes."""
        due = self.open.opened + self._interval() - time.monotonic()
        is_committing = self._committing is not None and not self._committing.done()
        return max(due, COMMITTING_SECONDS) if is_committing else due

    async def close_if_due(self, *, now: bool = False) -> None:
        transaction = self.open
        if not transaction.parts:
            if self._committing is not None and self._committing.done():
                await self.finish()
            return
        is_long = transaction.events >= self._most_events * self._share
        full = is_long or transaction.held_bytes >= TRANSACTION_BYTES * self._share
        at_once = full or now
        if self._committing is not None and not self._committing.done() and not at_once:
            return
        if at_once or self.seconds_until_due() <= 0:
            await self.close()

    async def close(self) -> None:
        """Close the open transaction and begin to commit it, after the one before."""
        await self.finish()
        transaction = self.open
        if not transaction.committable():
            self._partitions.age_views(self.open.number, self._stored)
            return
        self.open = Transaction(transaction.number + 1)  # a recovery may open a share while this one is encoded
        items = await self._encode_parts(transaction)
        parts = [part for part in transaction.committable() if part.partition in items]
        if parts:
            self._committing = asyncio.create_task(self._commit(transaction, parts, items), name="commit")
            self._committing.add_done_callback(lambda _: self._wake_engine())
        self._partitions.age_views(self.open.number, self._stored)

    async def finish(self) -> None:
        """The transaction in flight is committed, or raises what became of it."""
        if self._committing is not None:
            task = self._committing
            await asyncio.wait((task,))
            self._committing = None
            task.result()

    async def ended(self) -> BaseException | None:
        """The transaction in flight ends by itself, well or not: its offsets may be accepted."""
        task, self._committing = self._committing, None
        if task is None:
            return None
        await asyncio.wait((task,))
        return task.exception()

    async def abandon(self) -> None:
        """At a stop in doubt: the next start asks how it ended."""
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait((self._committing,))

    def _interval(self) -> float:
        if self._configuration.commit_interval_seconds is not None:
            return self._configuration.commit_interval_seconds
        least, most = INTERVAL_SECONDS
        return min(most, max(least, INTERVAL_PER_COMMIT * self._statistics.usual_commit_seconds))

    async def _encode_parts(self, transaction: Transaction) -> dict[int, list[Item]]:
        """The store's items by partition, but of the shares that fail. Heartbeats get their turn in between."""
        started = turn = time.perf_counter()
        items: dict[int, list[Item]] = {}
        for part in transaction.committable():
            try:
                items[part.partition] = self._encode(part)
            except KeyboardInterrupt:
                raise
            except BaseException as error:  # noqa: BLE001  whatever a table's definition raises
                self._partitions.bump((part.partition,))
                self._encoding_failed(part.failure(ENCODING_FAILED, error))
            if time.perf_counter() - turn > TURN_SECONDS:
                await asyncio.sleep(0)
                turn = time.perf_counter()
        seconds = time.perf_counter() - started
        self._adapt(transaction.events, seconds)
        self._statistics.phase_seconds["encode"].observe(seconds)
        return items

    def _adapt(self, events: int, seconds: float) -> None:
        if seconds > ENCODING_SECONDS:
            self._most_events = max(1, min(self._most_events, int(events * ENCODING_SECONDS / seconds)))
        else:
            self._most_events = min(TRANSACTION_EVENTS, self._most_events * 2)

    def _encode(self, part: Part) -> list[Item]:
        """What the fold wrote, encoded once: changelog bytes are store bytes. META goes last."""
        assert part.position is not None  # noqa: S101  committable() has only such
        prefix = prefix_of(part.partition)
        items = list(self._partitions.dirty_items(part.partition))
        items += [(prefix + skip_key(record.offset), skip_value(record)) for record in part.skipped]
        meta = Meta(
            topic_id=self._source.topic_id.hex,
            offset=part.position,
            partitions=self._source.partitions,
            changelog=self._changelog_id,
            fold=self._configuration.fold,
        )
        items.append((prefix + META_KEY, encode_meta(meta)))
        timestamp = part.latest_timestamps[-1][0] if part.latest_timestamps else 0
        changes = ((key[2:], value) for key, value in items)
        part.batches_of(self._configuration.changelog_topic).extend(timestamp, changes)
        return items

    async def _commit(
        self, transaction: Transaction, parts: Sequence[Part], items: Mapping[int, Sequence[Item]]
    ) -> None:
        """Offsets, records, EndTxn, store. `items` are the store's, by partition."""
        laps = Laps()
        parts = await self._reserve(transaction, parts)
        if not parts:
            raise Doubt(None, "every partition of the transaction was lost")
        laps.end("reserve")
        endings = await self._send_records(parts)
        laps.end("write")
        await self._writer.commit()
        laps.end("end")
        self._count(parts, laps.total)
        now = time.time()
        positions = {
            part.partition: ChangelogPosition(topic_id=self._changelog_id, offset=endings[target], written_at=now)
            for part in parts
            if (target := TopicPartition(self._configuration.changelog_topic, part.partition)) in endings
        }
        await self._store.write(chain.from_iterable(items[part.partition] for part in parts), positions)
        laps.end("store")
        self._note(laps, sum(part.events for part in parts))
        self._stored = transaction.number

    def _note(self, laps: Laps, events: int) -> None:
        for phase, seconds in laps.seconds.items():
            self._statistics.phase_seconds[phase].observe(seconds)
        if laps.total > SLOW_COMMIT_SECONDS:
            took = {f"{phase}_milliseconds": seconds * 1000 for phase, seconds in laps.seconds.items()}
            self._tell(SlowCommit(events=events, **took))

    async def _send_records(self, parts: Sequence[Part]) -> Endings:
        try:
            return await self._writer.send_records(parts)
        except Refused as refused:
            part = next(part for part in parts if part.partition == refused.partition)
            refused.failure = part.failure(f"the broker refused a record for {refused.topic}", refused)
            raise

    async def _reserve(self, transaction: Transaction, parts: Sequence[Part]) -> Sequence[Part]:
        """The parts whose offsets were accepted, under the epoch of the transaction's opening or a newer one."""
        member = self._member
        epoch = transaction.member_epoch
        while True:
            if transaction.session != member.session:  # the broker would accept the new epoch after a rejoin
                raise MembershipBroken(None, "the membership in which these records were read is over")
            try:
                await self._writer.send_offsets(
                    self._source.name, parts, member_id=member.member_id, member_epoch=epoch
                )
                return parts
            except StaleEpoch:
                await member.beat()
                parts = [part for part in parts if self._partitions.incarnation(part.partition) == part.incarnation]
                kept = member.owned & member.target  # the newest epoch is taken for any partition: for ours alone
                lost = [part for part in parts if part.partition not in kept]
                if epoch == member.epoch or lost or not parts:
                    raise
                epoch = member.epoch

    def _count(self, parts: Sequence[Part], seconds: float) -> None:
        now = time.time()
        statistics = self._statistics
        statistics.commits += 1
        self.have_succeeded = True
        self._share = min(1.0, self._share * 2)
        statistics.commit_seconds.observe(seconds)
        statistics.usual_commit_seconds += NEWEST_COMMIT_SHARE * (seconds - statistics.usual_commit_seconds)
        for part in parts:
            statistics.events += part.events
            statistics.counts.update(part.counts)
            assert part.position is not None  # noqa: S101
            self._partitions.advance(part.partition, part.position)
            if part.latest_timestamps:
                statistics.last_timestamps[part.partition] = part.latest_timestamps[-1][0] / 1000
            for stamp, events in part.latest_timestamps:
                statistics.latencies.observe(now - stamp / 1000, events)
        log.debug("committed events=%d milliseconds=%.1f", sum(part.events for part in parts), seconds * 1000)

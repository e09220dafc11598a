"""Closes the open transaction and commits it, while the next transaction opens and folds.

1. The records of transaction N+1 wait in their batches until transaction N is settled.
2. A share whose table values cannot be encoded is left out before anything is sent. The other shares are committed.
3. `delivery` commits a closed transaction. If it raises, the engine drops everything and asks the coordinator for the
   outcome.
4. `close` and `finish` return what they found out. The engine acts on that: nothing here changes a partition.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from aiokafka.structs import TopicPartition

from portfolio_stream.errors import RepeatFailed
from portfolio_stream.exactly_once.commit_interval import CommitInterval
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.delivery import Delivery
from portfolio_stream.exactly_once.failures import ENCODING_FAILED, NOT_REPEATED, Failure
from portfolio_stream.exactly_once.membership import Membership
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.recent import StoreRows, Written
from portfolio_stream.exactly_once.recovery import Source
from portfolio_stream.exactly_once.repeat import NOTHING, Compared, stored
from portfolio_stream.exactly_once.repeats import READ_SECONDS, Repeats
from portfolio_stream.exactly_once.store import (
    META_KEY,
    Meta,
    Store,
    encode_meta,
    prefix_of,
    skip_key,
    skip_value,
)
from portfolio_stream.exactly_once.transaction import Share, Transaction
from portfolio_stream.exactly_once.transaction_size import ENCODING_SECONDS, TransactionSize
from portfolio_stream.exactly_once.turn import Turn
from portfolio_stream.exactly_once.views import Dirty, Views
from portfolio_stream.exactly_once.writer import Writer
from portfolio_stream.kafka.record_batches import next_offset
from portfolio_stream.observe.ring import Tell, write
from portfolio_stream.observe.statistics import Statistics

ENCODED_AT_ONCE = 128  # values; some 0.2 ms between two looks at the clock
COMMITTING_SECONDS = 0.05  # between two looks while another transaction commits


@dataclass(frozen=True, slots=True)
class CommitOutcome:
    """What a close or a finish found out."""

    #: next source offsets, by partition, of the transaction that is committed now
    committed: Mapping[int, int] = field(default_factory=dict)
    #: shares that could not be encoded, and were left out
    failures: Sequence[Failure] = ()


class Commits:
    def __init__(
        self,
        configuration: Configuration,
        partitions: Partitions,
        views: Views,
        statistics: Statistics,
        store: Store,
        writer: Writer,
        membership: Membership,
        repeats: Repeats,
        *,
        source: Source,
        changelog_id: str,
        wake_engine: Callable[[], None],
        tell: Tell = write,
    ) -> None:
        """`partitions` is only read here: a share belongs to the incarnation in which it was opened."""
        self._wake_engine = wake_engine
        self._configuration = configuration
        self._partitions = partitions
        self._views = views
        self._statistics = statistics
        self._member = membership
        self._repeats = repeats
        self._delivery = Delivery(
            partitions,
            statistics,
            store,
            writer,
            membership,
            source_topic=source.name,
            changelog_topic=configuration.changelog_topic,
            changelog_id=changelog_id,
            generation=configuration.generation,
            tell=tell,
        )
        self._source = source
        self._changelog_id = changelog_id
        self._committing: asyncio.Task[Mapping[int, int]] | None = None
        #: the transaction that is encoded or committed; None: there is none
        self._closed: Transaction | None = None
        #: number of the last transaction that the store has
        self._stored = 0
        self._open = Transaction(1)
        self._session = 0
        self._size = TransactionSize()
        self._interval = CommitInterval()
        self._has_committed = True

    # -- what the engine may know

    @property
    def session(self) -> int:
        """The membership under which records are read now."""
        return self._session

    @property
    def size(self) -> TransactionSize:
        """How large a transaction may become."""
        return self._size

    @property
    def has_committed(self) -> bool:
        """A transaction was committed since the last drop."""
        return self._has_committed

    @property
    def is_open(self) -> bool:
        """The open transaction has a share."""
        return bool(self._open.shares)

    @property
    def is_idle(self) -> bool:
        """The open transaction has no share, and no other transaction is in flight."""
        return not self._open.shares and self._committing is None

    @property
    def is_committing(self) -> bool:
        """A transaction is in flight."""
        return self._committing is not None and not self._committing.done()

    def queues(self) -> dict[str, int]:
        """Source records whose folds are done: in the open transaction, and in the one that is encoded or committed."""
        has_ended = self._committing is not None and self._committing.done()
        closed = None if has_ended else self._closed
        return {"open": self._open.events, "committing": 0 if closed is None else closed.events}

    def least_end(self, topic: str, partition: int) -> int:
        """No log of this partition ends before this offset: a leader that names an earlier end has slept."""
        return self._delivery.endings.get(TopicPartition(topic, partition), 0)

    def to_commit(self) -> Mapping[int, int]:
        """Next source offsets, by partition, that the open transaction will commit."""
        return {share.partition: share.position for share in self._open.committable() if share.position is not None}

    def seconds_until_due(self) -> float:
        """Seconds until the open transaction is due, negative if it is late.

        While another transaction is in flight, at least COMMITTING_SECONDS: that transaction's end wakes the engine.
        """
        due = self._open.opened + self.interval() - time.monotonic()
        return max(due, COMMITTING_SECONDS) if self.is_committing else due

    def interval(self) -> float:
        """Seconds in which the records of one transaction gather."""
        fixed = self._configuration.commit_interval_seconds
        return self._interval.seconds(self._statistics.usual_commit_seconds) if fixed is None else fixed

    # -- what the engine puts into the open transaction

    def share(self, partition: int) -> Share:
        """The partition's share of the open transaction.

        The first share stamps the transaction with the member epoch. The broker then refuses the offsets of partitions
        that were lost since (KIP-1251).
        """
        if not self._open.shares:
            self._open.stamp(self._session, self._member.epoch)
        incarnation = self._partitions[partition].incarnation
        share = self._open.share(partition, incarnation, self._repeats.gathered)
        if share.incarnation != incarnation:
            raise AssertionError(f"what was read of partition {partition} became void while its share was open")
        return share

    def note_turn(self, busy_seconds: float, seconds: float) -> float:
        """The main thread worked for `busy_seconds` of the `seconds` between the ends of two turns with records.

        Returns the interval from now on.
        """
        self._interval = self._interval.after_turn(busy_seconds, seconds)
        self._statistics.interval_seconds = self.interval()
        return self._statistics.interval_seconds

    def handed_out(self, size: int) -> None:
        """Records of so many bytes were handed out to the fold in the open transaction."""
        self._open.bytes += size

    def move_position(self, partition: int, offset: int) -> None:
        """Commit `offset` for the partition, although no record was folded."""
        self.share(partition).position = offset

    def set_aside(self, partition: int, record: Any) -> None:
        """Pass `record`, and write into the changelog that an operator decided so."""
        share = self.share(partition)
        share.skipped.append(record)
        share.position = next_offset(record)

    def discard(self, partitions: Collection[int]) -> None:
        """Forget the partitions' open shares, and the views of what was folded into them.

        Only while no share of these partitions is in flight.
        """
        for partition in partitions:
            self._open.shares.pop(partition, None)
        self._views.forget(partitions)

    def start_over(self, session: int) -> None:
        """Everything was dropped and settled. What is read from now on belongs to the membership `session`."""
        self._session = session
        self._open = Transaction(self._open.number + 1)
        self._has_committed = False
        self._size = self._size.after_drop()

    # -- from the close to the commit

    async def close_if_due(self, *, now: bool = False, is_gathered: bool = False) -> CommitOutcome:
        """Close the open transaction if it is full, or due while no other one is in flight, or `now`.

        The transaction is due at the end of its interval. It is due earlier if all records that Kafka had are gathered
        in it (`is_gathered`): the next fetch brings the records of the next interval. In a backlog there are more
        records at once, and a larger transaction costs less for each of them.
        """
        transaction = self._open
        if not transaction.shares:
            is_over = self._committing is not None and self._committing.done()
            return await self.finish() if is_over else CommitOutcome()
        size = self._size
        at_once = now or transaction.events >= size.events or transaction.held_bytes >= size.bytes
        if self.is_committing and not at_once:
            return CommitOutcome()
        if at_once or is_gathered or self.seconds_until_due() <= 0:
            return await self.close()
        return CommitOutcome()

    async def close(self) -> CommitOutcome:
        """Wait for the transaction in flight, then close the open one and begin to commit it."""
        before = await self.finish()
        self._views.age(self._open.number, self._stored)
        transaction = self._open
        if not transaction.committable():
            return before
        self._closed = transaction
        self._open = Transaction(transaction.number + 1)  # a recovery may open a share while this one is encoded
        # all at once: what runs in between may forget views
        dirty = {share.partition: self._views.take_dirty(share.partition) for share in transaction.committable()}
        compared, unrepeated = await self._compare(transaction.committable())
        started = time.perf_counter()
        written, failures = await self._encode_shares(
            [share for share in transaction.committable() if share.partition in compared], dirty, compared
        )
        seconds = time.perf_counter() - started
        self._statistics.phase_seconds["encode"].observe(seconds)
        is_slow = seconds > ENCODING_SECONDS
        if is_slow:
            self._size = self._size.after_slow_encoding(transaction.events, seconds)
        shares = [share for share in transaction.committable() if share.partition in written]
        if shares:
            self._committing = asyncio.create_task(self._commit(transaction, shares, written, is_slow), name="commit")
            self._committing.add_done_callback(lambda _: self._wake_engine())
        else:
            self._closed = None
        return CommitOutcome(before.committed, [*unrepeated, *failures])

    async def finish(self) -> CommitOutcome:
        """Wait until the transaction in flight is committed. Raises what ended it otherwise."""
        if self._committing is None:
            return CommitOutcome()
        task = self._committing
        began = time.perf_counter()
        await asyncio.wait((task,))
        self._statistics.work.wait_seconds += time.perf_counter() - began
        self._committing = self._closed = None
        return CommitOutcome(task.result())

    async def ended(self) -> BaseException | None:
        """Wait until the transaction in flight ends by itself: the broker may have accepted its offsets.

        Returns the error that ended it, or None.
        """
        task, self._committing, self._closed = self._committing, None, None
        if task is None:
            return None
        await asyncio.wait((task,))
        return task.exception()

    async def abandon(self) -> None:
        """End the transaction in flight, at a stop in doubt: the next start asks how it ended."""
        if self._committing is not None:
            self._committing.cancel()
            await asyncio.wait((self._committing,))

    async def _compare(self, shares: Sequence[Share]) -> tuple[dict[int, Compared], list[Failure]]:
        """What shares of partitions that repeat have left and produce, by partition, and the shares that failed.

        Raises a Doubt, and a KafkaError.
        """
        compared = {share.partition: NOTHING for share in shares}
        failures = []
        deadline = time.monotonic() + READ_SECONDS
        for share in shares:
            try:
                compared[share.partition] = await self._repeats.compared(share, deadline)
            except RepeatFailed as error:
                del compared[share.partition]
                failures.append(share.failure(NOT_REPEATED, error))
        return compared, failures

    async def _encode_shares(
        self, shares: Sequence[Share], dirty: dict[int, list[Dirty]], compared: Mapping[int, Compared]
    ) -> tuple[dict[int, Written], list[Failure]]:
        """The store's rows by partition, and the shares that failed. Heartbeats get their turn in between."""
        turn = Turn()
        written: dict[int, Written] = {}
        failures = []
        for share in shares:
            rows: StoreRows = {}
            errors: list[BaseException] = []
            found = compared[share.partition]
            for _ in _attempt(self._encode(share, dirty.pop(share.partition), rows, found), errors):
                await turn.give()
            if errors:
                failures.append(share.failure(ENCODING_FAILED, errors[0]))
            else:
                self._repeats.advance(share.partition, found.left)
                written[share.partition] = Written(rows, share.batches_of(self._configuration.changelog_topic).size)
        return written, failures

    def _encode(self, share: Share, dirty: Sequence[Dirty], rows: StoreRows, compared: Compared) -> Iterator[None]:
        """Encode what the fold wrote, in one pass: the changelog's bytes are the store's bytes. META goes last.

        Yields between two steps.
        """
        assert share.position is not None  # noqa: S101  committable() has only such
        for topic, records in compared.surplus.items():
            append = share.batches_of(topic).append
            for at in range(0, len(records), ENCODED_AT_ONCE):
                for record in records[at : at + ENCODED_AT_ONCE]:
                    append(*record)
                yield
        changelog = share.batches_of(self._configuration.changelog_topic)
        timestamp = share.latest_timestamps[-1][0] if share.latest_timestamps else 0
        for view, values in dirty:
            changes, before = iter(values.items()), changelog.size
            for _ in range(0, len(values), ENCODED_AT_ONCE):
                changelog.encode(timestamp, islice(changes, ENCODED_AT_ONCE), view.table, view.prefix, rows)
                yield
            view.weigh(len(values), changelog.size - before)
        meta = Meta(
            topic_id=self._source.topic_id.hex,
            offset=share.position,
            partitions=self._source.partitions,
            changelog=self._changelog_id,
            fold=self._configuration.fold,
            repeat=stored(compared.left),
        )
        own = {skip_key(record.offset): skip_value(record) for record in share.skipped} | {META_KEY: encode_meta(meta)}
        for key, value in own.items():
            changelog.append(timestamp, key, value, ())
            rows[prefix_of(share.partition) + key] = value

    async def _commit(
        self, transaction: Transaction, shares: Sequence[Share], written: Mapping[int, Written], is_slow: bool
    ) -> Mapping[int, int]:
        positions = await self._delivery.commit(transaction, shares, written)
        self._has_committed = True
        self._stored = transaction.number
        if not is_slow:
            self._size = self._size.after_commit()
        return positions


def _attempt(steps: Iterator[None], errors: list[BaseException]) -> Iterator[None]:
    """Take the steps up to the first error, which `errors` gets."""
    try:
        yield from steps
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  a table's definition may raise anything
        errors.append(error)

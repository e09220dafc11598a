"""Replays changelogs of partitions into the store, up to the read_uncommitted end at the replay's start.

1. A replay goes on at the store's position if three things hold: the store was written from this very changelog topic,
   the position is not beyond the changelog's end, and the store is so young that no tombstone has expired since.
   Otherwise the partition is wiped and replayed from the beginning. An end before the store's position is believed
   only after BELIEF_SECONDS: a leader that was paused may have a successor of which it has not heard yet.
2. A changelog that does not begin at 0, or that has an unreadable batch, cannot give the whole state. The replay
   reports this problem, and the engine does not use the state. An empty changelog cannot replace a store: the store is
   kept, and `recovery` stops the partition.
3. A run returns the partitions that have reached their ends; the next run continues the others. So no partition waits
   for another one's changelog that hangs, and the first partitions give outputs while the last ones replay.
4. `replay_reading` says which partitions are read side by side.
5. Folds and heartbeats share the loop and the GIL with the replay. So the replay gives the loop a turn after each
   fetch, which takes a few milliseconds. While partitions run, the replay also writes fewer records at once.
6. Progress is the fetch position at read_committed. The position also passes markers, aborted records and the gaps that
   compaction leaves.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

from portfolio_stream.exactly_once.configuration import TopicSettings
from portfolio_stream.exactly_once.replay_progress import ReplayProgress
from portfolio_stream.exactly_once.replay_reading import ChangelogReading
from portfolio_stream.exactly_once.replay_writes import FEW_RECORDS, MANY_RECORDS, ReplayWrites
from portfolio_stream.exactly_once.store import ChangelogPosition, Store
from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, NO_OFFSET, log_offsets
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.observe.events import ChangelogUnreadable, RecoveryProgress, Span, StoreWiped
from portfolio_stream.observe.ring import Tell, write

ABSENCE_SHARE = 0.5  # of the changelog's delete.retention.ms; the replay itself may take the other half
AGING_SHARE = 0.1  # of the changelog's delete.retention.ms; then a store that is whole says so anew
BELIEF_SECONDS = 15.0  # how long a changelog's end must lie before the store's position until it is believed
FETCH_WAIT_MS = 50
PROGRESS_SECONDS = 5.0  # between two reports of a long replay
GATHER_SECONDS = 0.2  # most partitions have little to read; one result for many of them costs less than many results
CHANGELOG_END = "the changelog's end; if it lasts: kafka-transactions find-hanging, then abort"
CORRUPT_TRIES = 3  # at one offset: the bytes may be damaged only on their way

Waiting = Callable[[Collection[int], str], None]


class Replayed(NamedTuple):
    """The result of one partition's replay."""

    #: how many changelog records the replay has written to the store
    records: int
    #: why the store does not hold the whole state; None if the store holds the whole state
    problem: str | None = None


class ChangelogReplay:
    """Replays partitions with one long-lived reader, which all recoveries share. One replay runs at a time."""

    def __init__(
        self,
        client: Client,
        store: Store,
        reader: Reader,
        *,
        topic: str,
        topic_id: str,
        topics: TopicSettings,
        is_busy: Callable[[], bool] = lambda: False,
        tell: Tell = write,
        rest: Callable[[], float] | None = None,
    ) -> None:
        """`is_busy` tells whether partitions of this worker run, so that a replay must not hold them up.

        `rest` gives the seconds between two fetches of a replay for which nobody waits; it tells no progress.
        """
        self._client = client
        self._store = store
        self._reader = reader
        self._topic = topic
        self._topic_id = topic_id
        self._topics = topics
        self._is_busy = is_busy
        self._tell = tell
        self.progress = ReplayProgress()
        #: monotonic seconds of the last report of a long replay
        self._reported = time.monotonic()
        self._rest = rest
        self._turn = asyncio.Lock()
        #: the end of each changelog, as it was last seen
        self.ends: dict[int, int] = {}
        #: monotonic seconds at which a partition's changelog was first seen to end before the store's position
        self._short: dict[int, float] = {}
        #: the records that were written to the store, of the partitions that no run has returned yet
        self._counts: dict[int, int] = {}

    def begin(self, partitions: Collection[int]) -> None:
        """A new recovery of `partitions` begins. Forget what an earlier recovery has seen of their changelogs."""
        self.progress.forget(partitions)
        for partition in partitions:
            self._short.pop(partition, None)

    async def run(self, group_offsets: Mapping[int, int], waiting: Waiting, *, others: int = 0) -> dict[int, Replayed]:
        """Replay the partitions of `group_offsets`. Returns those whose replay is over; call again for the others.

        A replay is over when the store holds the changelog up to an end that can be believed, or when there is a
        problem. A partition without a leader is not returned. `others` is the number of the recovery's partitions that
        are not in `group_offsets`. Before each fetch, `waiting` is called with the partitions whose changelogs hang.
        Raises StoreFailed, one of LOST or a KafkaError.
        """
        if not group_offsets:
            return {}
        async with self._turn:
            await self._store.drained()  # a cancelled run may have begun a wipe
            asked = time.time()
            firsts = await log_offsets(self._client, self._topic, group_offsets, EARLIEST)
            ends = await log_offsets(self._client, self._topic, firsts, LATEST)
            ends = {partition: end for partition, end in ends.items() if self._is_credible(partition, end)}
            self.ends |= ends
            starts = {
                partition: await self._start(partition, firsts[partition], end, group_offsets[partition])
                for partition, end in ends.items()
            }
            problems = {
                partition: f"the changelog begins at {firsts[partition]}: what stood before is gone"
                for partition, start in starts.items()
                if start < firsts[partition]
            }
            todo = {partition for partition in ends.keys() - problems if starts[partition] < ends[partition]}
            now = time.monotonic()
            for partition in todo:
                self.progress.begin(partition, starts[partition], ends[partition], now)
            writes = ReplayWrites(self._store, lambda partition, offset: self._position(partition, offset, asked))
            reading = ChangelogReading(
                self._reader, {partition: (starts[partition], ends[partition]) for partition in todo}
            )
            try:
                whole = await self._until_some_end(
                    todo, reading, problems, waiting, len(group_offsets) + others, writes
                )
                await writes.write_all()
                await self._mark(todo & reading.begun, self._aging(ends, asked) | whole, asked)
            except (Exception, asyncio.CancelledError):  # not at the end of the process: nothing can wait then
                await writes.ended()
                raise
            finally:
                self._reader.pause(ends)
            told = ends.keys() - todo
            self.progress.forget(told)
            return {partition: Replayed(self._counts.pop(partition, 0), problems.get(partition)) for partition in told}

    async def _until_some_end(
        self,
        todo: set[int],
        reading: ChangelogReading,
        problems: dict[int, str],
        waiting: Waiting,
        all_asked: int,
        writes: ReplayWrites,
    ) -> dict[int, int]:
        """Fetch until some partitions have left `todo`, because they have reached their ends or have a problem.

        While all `all_asked` partitions are in `todo`, no caller waits for an earlier result. Returns the positions of
        the partitions that have reached their ends.
        """
        whole: dict[int, int] = {}
        tries: dict[tuple[int, int], int] = {}
        gathered = time.monotonic() + GATHER_SECONDS
        while todo and (len(todo) == all_asked or time.monotonic() < gathered):
            if hanging := reading.hanging:
                waiting(hanging, CHANGELOG_END)
            reading.begin_more()
            try:
                fetched = await self._reader.fetch(FETCH_WAIT_MS)
            except BatchUnreadable as corrupt:
                place = (corrupt.partition, corrupt.offset)
                tries[place] = tries.get(place, 0) + 1
                self._tell(ChangelogUnreadable(partition=place[0], offset=place[1], tries=tries[place]))
                if tries[place] >= CORRUPT_TRIES:
                    problems[corrupt.partition] = str(corrupt)
                    reading.end(corrupt.partition)
                    todo.discard(corrupt.partition)
                continue
            for partition, batches in fetched.items():
                self._counts[partition] = self._counts.get(partition, 0) + sum(map(len, batches))
            await writes.add(fetched, FEW_RECORDS if self._is_busy() else MANY_RECORDS)
            now = time.monotonic()
            for partition, position in (await reading.moved()).items():
                self.progress.reach(partition, position, now)
                if reading.is_over(partition):
                    whole[partition] = position
                    reading.end(partition)
                    todo.discard(partition)
                    await writes.write(partition)
            self._report(now)
            # a fetch of records that are there already gives no other task a turn
            await asyncio.sleep(0.0 if self._rest is None else self._rest())
        return whole

    def _report(self, now: float) -> None:
        """Tell the progress of a long replay now and then."""
        if self._rest is not None or now - self._reported < PROGRESS_SECONDS:
            return
        self._reported = now
        replays = self.progress.now(now)
        self._tell(
            RecoveryProgress(
                partitions=tuple(sorted(replays.by_partition)),
                percent=replays.total.percent,
                records_remaining=replays.total.remaining,
                records_per_second=replays.records_per_second,
                seconds_left=replays.seconds_left,
            )
        )

    def _position(self, partition: int, offset: int, began: float) -> ChangelogPosition:
        written_at = self._whole_since(partition, began)
        return ChangelogPosition(topic_id=self._topic_id, offset=offset, written_at=written_at)

    async def _mark(self, unfinished: Collection[int], whole: Mapping[int, int], asked: float) -> None:
        """Write the positions up to which the partitions were read, also where a partition had only aborted records.

        The store of a partition that has reached its end holds the whole changelog of the moment `asked`, at which this
        run asked for the end.
        """
        marks = {
            partition: ChangelogPosition(topic_id=self._topic_id, offset=offset, written_at=asked)
            for partition, offset in whole.items()
        }
        for partition in unfinished:
            offset, known = await self._reader.position(partition), self._store.position(partition)
            if offset > (0 if known is None else known.offset):
                marks[partition] = self._position(partition, offset, asked)
        if marks:
            await self._store.write([], marks)

    def _aging(self, ends: Mapping[int, int], asked: float) -> dict[int, int]:
        """The ends of the partitions whose store holds the whole changelog, but does not say so of this moment.

        The stores of an idle partition that is followed for weeks must not look as if tombstones had expired since.
        """
        max_age = AGING_SHARE * self._topics.tombstone_seconds
        known = {partition: self._store.position(partition) for partition in ends}
        return {
            partition: position.offset
            for partition, position in known.items()
            if position is not None
            and (position.topic_id, position.offset) == (self._topic_id, ends[partition])
            and asked - position.written_at > max_age
        }

    def _whole_since(self, partition: int, began: float) -> float:
        """When the store last held the whole changelog. A replay changes this time only when it reaches the end.

        Tombstones behind the position may be as old as this time, however often the replay was interrupted. For a store
        that was wiped, this time is the moment at which its replay `began`.
        """
        known = self._store.position(partition)
        return began if known is None else known.written_at

    def _is_credible(self, partition: int, end: int) -> bool:
        position = self._store.position(partition)
        if position is None or position.topic_id != self._topic_id or position.offset <= end:
            self._short.pop(partition, None)
            return True
        since = self._short.setdefault(partition, time.monotonic())
        return time.monotonic() - since >= BELIEF_SECONDS

    async def _start(self, partition: int, first: int, end: int, group_offset: int) -> int:
        """The offset at which the replay begins. A store that cannot be continued is wiped first."""
        position = self._store.position(partition)
        if position is None:
            await self._store.wipe(partition)
            return 0
        is_same_topic = position.topic_id == self._topic_id
        if not is_same_topic and end == 0 and group_offset != NO_OFFSET:
            return 0  # the empty changelog could not replace the store's state
        absent, max_absence = time.time() - position.written_at, ABSENCE_SHARE * self._topics.tombstone_seconds
        if is_same_topic and first <= position.offset <= end and absent < max_absence:
            return position.offset
        bounds = Span(first, end)
        self._tell(StoreWiped(partition=partition, position=position.offset, changelog=bounds, absent_seconds=absent))
        await self._store.wipe(partition)
        return 0

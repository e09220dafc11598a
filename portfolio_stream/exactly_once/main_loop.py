"""The main loop: fetch, hand out, commit, and between two transactions follow the group and the operators.

1. Transaction N commits while transaction N+1 folds.
2. Only the main loop hands out slices, closes transactions and drops work. Recovery, heartbeats and commits are tasks
   beside the loop, and wake the loop.
3. The loop sleeps until data, the membership, a commit or an operator wakes the loop.
"""

import time
from collections.abc import Mapping
from typing import Any

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import Superseded
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.doubts import DOUBTS, Doubts
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.folding import Folding
from portfolio_stream.exactly_once.interpreter import Interpreter
from portfolio_stream.exactly_once.ownership import Ownership
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.exactly_once.slices import Deliver
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.observe import events as told

IDLE_FETCH_MS = 1_000  # the loop's longest sleep: data ends it, and membership, commits and operators wake the loop
KEEP_ID_SECONDS = 3600.0  # then an idle worker ends an empty transaction: two records in Kafka's log of transactions
IDLE_POSITION_SECONDS = 5.0  # how often an idle worker commits fetch positions that moved over markers alone


class MainLoop:
    def __init__(
        self,
        equipment: Equipment,
        boundary: Boundary,
        folding: Folding,
        recovery_task: RecoveryTask,
        ownership: Ownership,
        doubts: Doubts,
        interpreter: Interpreter,
    ) -> None:
        self._reader = equipment.reader
        self._writer = equipment.writer
        self._member = equipment.membership
        self._store = equipment.store
        self._partitions = equipment.partitions
        self._statistics = equipment.statistics
        self._tell = equipment.tell
        self._commits = equipment.commits
        self._signals = equipment.signals
        self._repeats = equipment.repeats
        self._boundary = boundary
        self._folding = folding
        self._recovery_task = recovery_task
        self._ownership = ownership
        self._doubts = doubts
        self._interpreter = interpreter
        self._idle_checked = time.monotonic()
        #: when the last turn with records ended, and the CPU seconds of this thread until then
        self._turn_ended = time.perf_counter(), time.thread_time()

    async def run(self, deliver: Deliver) -> None:
        """Turn until a stop. Raises PortfolioStreamError if this worker must end; uncommitted work is dropped then."""
        try:
            while not self._signals.is_stopping:
                self._signals.turn()
                try:
                    await self.turn(deliver)
                except DOUBTS as doubt:
                    await self._doubts.drop_everything(doubt)
            await self.finish()
        except Superseded:
            self._member.disown()
            raise

    async def turn(self, deliver: Deliver) -> None:
        """Fetch once, and do everything that follows. Raises one of DOUBTS, or the error that ends the worker."""
        self._signals.raise_trouble()
        self._store.raise_failure()  # of a write after the last commit: an idle worker has no next one
        if self._signals.take_wake():
            await self._ownership.follow()
            await self._interpreter.carry_out()
        fetched = await self.fetch()
        self._folding.fetched(sum(len(batch) for batches in fetched.values() for batch in batches))
        incarnations = {partition: self._partitions[partition].incarnation for partition in fetched}
        for partition, batches in fetched.items():  # closing a transaction between two slices may void any partition
            await self._folding.hand_out_all(deliver, partition, batches, incarnations[partition])
        self._folding.fetched(0)
        if self._signals.is_stopping:
            return  # the fetch positions may be beyond records that were not handed out: they must not be committed
        await self._folding.settle()
        await self._boundary.close_if_due(is_gathered=not self._reader.is_behind(fetched))
        if fetched:
            self._statistics.work.decode_seconds += self._reader.take_decode_seconds()
            self._pace()
        await self._repeats.tidy()
        await self._end_drains()
        await self._commit_idle_positions()
        await self.keep_transactional_id()

    def _pace(self) -> None:
        """Tell the reader when to fetch next, after a turn with records."""
        before, self._turn_ended = self._turn_ended, (time.perf_counter(), time.thread_time())
        seconds, busy_seconds = (now - then for now, then in zip(self._turn_ended, before, strict=True))
        self._reader.pace(self._commits.note_turn(busy_seconds, seconds))

    async def finish(self) -> None:
        """Commit everything that is folded, at a stop. After a doubt, the next start asks Kafka what was committed.

        If the job was cancelled, abort the open transaction instead: nobody shall wait until it times out.
        """
        try:
            if self._signals.is_abandoning:
                await self._commits.ended()
                await self._doubts.settle_writer()
            else:
                await self._folding.settle()
                await self._boundary.commit()
            await self._store.flush()
        except (Doubt, *LOST) as doubt:
            self._signals.is_settled_at_stop = False
            self._tell(told.StoppedInDoubt(reason=str(doubt)))

    async def fetch(self) -> Mapping[int, list[list[Any]]]:
        """Returns record batches by partition; none if nothing came in time, or if one partition cannot be fetched."""
        wait = IDLE_FETCH_MS
        if self._signals.is_stopping or self._signals.is_woken:
            wait = 0
        elif self._commits.is_open:
            wait = max(1, min(wait, int(self._commits.seconds_until_due() * 1000)))
        try:
            return await self._reader.fetch(wait)
        except kafka_errors.OffsetOutOfRangeError as error:
            for target, offset in error.args[0].items():
                self._tell(told.FetchOutOfRange(partition=target.partition, offset=offset))
                if self._partitions[target.partition].is_reading:
                    await self._recovery_task.again(PartitionEvent.OUT_OF_RANGE, target.partition)
            return {}
        except BatchUnreadable as error:
            if not await self._folding.passes(error.batch):
                self._boundary.unreadable(error.batch)
            return {}

    async def _end_drains(self) -> None:
        """Commit `stop_at` of each draining partition whose reader has passed this offset.

        Every record before `stop_at` was handed out and is settled.
        """
        reached: dict[int, int] = {}
        for partition in self._partitions.draining:
            stop_at = self._partitions[partition].stop_at
            if stop_at is not None and await self._reader.position(partition) >= stop_at:
                reached[partition] = stop_at
        for partition, stop_at in reached.items():
            self._commits.move_position(partition, stop_at)
        if reached:
            await self._boundary.commit()

    async def _commit_idle_positions(self) -> None:
        """Commit fetch positions that moved over markers and aborted records alone. Else lag would never reach 0."""
        now = time.monotonic()
        if not self._commits.is_idle or now - self._idle_checked < IDLE_POSITION_SECONDS:
            return
        self._idle_checked = now
        for partition in sorted(self._partitions.served):
            known = self._partitions[partition]
            if not known.is_reading or known.stop_at is not None:  # beyond stop_at the reader steps over records
                continue
            position = await self._reader.position(partition)
            committed = position if known.committed is None else known.committed
            if committed < position and not self._reader.has_buffered(partition):
                self._commits.move_position(partition, position)
        if self._commits.is_open:
            await self._boundary.close()
        else:
            await self.look_at_repeats()

    async def look_at_repeats(self) -> None:
        """Halt partitions whose source is at its end, although outputs are left that the fold has not given again."""
        for partition, reason in (await self._repeats.look(self._at_end())).items():
            offset = self._partitions[partition].committed
            halt = Halted(partition=partition, offset=offset, reason=reason)
            self._boundary.halt(PartitionEvent.EXHAUSTED, halt)

    def _at_end(self) -> list[int]:
        """The partitions that are read and of which every source record is committed."""
        found = []
        for partition in sorted(self._partitions.served):
            known, end = self._partitions[partition], self._reader.last_stable_offset(partition)
            is_read = known.is_reading and known.stop_at is None
            if is_read and known.committed is not None and end is not None and 0 <= end <= known.committed:
                found.append(partition)
        return found

    async def keep_transactional_id(self) -> None:
        """End an empty transaction, by an abort, if no transaction ended for KEEP_ID_SECONDS.

        A worker that stands by has no transactions for weeks. The coordinator forgets an idle transactional id after a
        week (transactional.id.expiration.ms). The worker would then look superseded when it is needed.
        """
        if self._commits.is_idle and time.monotonic() - self._writer.last_end > KEEP_ID_SECONDS:
            await self._doubts.settle_writer()

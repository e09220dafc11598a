"""Runs the recovery beside the main loop, and lets each partition go on as soon as the recovery has decided it.

There is one recovery at a time. A new one takes over the partitions that the last one has not decided: a second
recovery of the same partition would read again what already runs, and one for each partition would wait for the others.
"""

import asyncio
import time
from collections.abc import Collection

from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.recovery import Halted, Ready
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.observe import events as told


class Recovering:
    def __init__(self, equipment: Equipment, boundary: Boundary) -> None:
        self._recovery = equipment.recovery
        self._member = equipment.membership
        self._partitions = equipment.partitions
        self._tell = equipment.tell
        self._commits = equipment.commits
        self._statistics = equipment.statistics
        self._signals = equipment.signals
        self._boundary = boundary
        self._task: asyncio.Task[None] | None = None

    def recover(self, begun: Collection[int]) -> None:
        """Begin to recover the partitions `begun`, which are RECOVERING, and take over the undecided ones."""
        undecided = self._partitions.recovering
        taken_over = undecided.difference(begun) if self.end() else frozenset()
        self._commits.discard(undecided)
        recovered = self._recovered(undecided, taken_over, self._member.session)
        self._task = asyncio.create_task(recovered, name="recovery")
        self._task.add_done_callback(self._signals.task_ended)

    async def again(self, event: PartitionEvent, partition: int) -> None:
        """`event` makes a partition of ours start afresh from what is committed. Nothing of it may be in flight then.

        After OUT_OF_RANGE recovery asks for as long as it needs to believe the offset: the leader that answered may
        have just woken, and may not know its successor yet.
        """
        await self._boundary.finish()
        if event is PartitionEvent.OUT_OF_RANGE and not self._partitions[partition].is_reading:
            return
        self._partitions.happened(event, (partition,))
        self.recover((partition,))

    def end(self) -> bool:
        """End the recovery that runs. False if none runs."""
        task, self._task = self._task, None
        if task is None or task.done():
            return False
        task.cancel()
        return True

    async def ended(self) -> None:
        """End the recovery that runs, and wait until it does nothing more."""
        await cancelled(self._task)

    async def decided(self) -> None:
        """Wait until the recovery that runs has decided every partition. Raises what ended the recovery otherwise."""
        if self._task is not None:
            await self._task

    async def _recovered(self, undecided: Collection[int], taken_over: Collection[int], session: int) -> None:
        started = time.perf_counter()
        async for decided in self._recovery.recover(undecided, taken_over):
            if session != self._member.session:  # the engine will drop everything, and recover again
                return
            if isinstance(decided, Halted):
                self._boundary.halt(PartitionEvent.REFUSED, decided)
                continue
            self._commits.discard((decided.partition,))
            self._statistics.replayed += decided.replayed
            self._go_on(decided)
            recovered = told.PartitionRecovered(
                partition=decided.partition,
                offset=decided.offset,
                replayed=decided.replayed,
                milliseconds=(time.perf_counter() - started) * 1000,
            )
            self._tell(recovered)

    def _go_on(self, ready: Ready) -> None:
        """Read the partition from its recovered offset, unless the record that halted it is still ahead.

        Nothing but an operator, or another worker's commit, gets a partition past such a record.
        """
        partition, suspicion = ready.partition, self._partitions[ready.partition].suspicion
        halt = None if suspicion is None else suspicion.halt
        if halt is not None and halt.offset is not None and ready.offset <= halt.offset:
            self._boundary.halt(PartitionEvent.EXHAUSTED, halt, offset=ready.offset)
            return
        self._partitions.happened(PartitionEvent.RECOVERED, (partition,), offset=ready.offset)
        self._partitions.committed({partition: ready.offset})  # a drain may have reached its offset
        if ready.lacks_group_offset:
            self._commit_again(partition, ready.offset)

    def _commit_again(self, partition: int, offset: int) -> None:
        """Commit the offset that META has and the group has lost: until then, lag counts from the log's start.

        This happens before any record is handed out. A later moment could commit an offset behind one in flight.
        """
        self._tell(told.GroupOffsetCommittedAgain(partition=partition, offset=offset))
        self._commits.move_position(partition, offset)
        self._signals.wake()

"""Runs the recovery as a task beside the main loop. Each partition goes on as soon as the recovery has decided it.

Only one recovery runs at a time. A new recovery ends the earlier one and takes over its undecided partitions. If both
ran, the new one would wait for the earlier one's replay, and could replay a partition that already runs.
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
from portfolio_stream.observe.start_steps import STEPS


class RecoveryTask:
    def __init__(self, equipment: Equipment, boundary: Boundary) -> None:
        self._recovery = equipment.recovery
        self._member = equipment.membership
        self._partitions = equipment.partitions
        self._tell = equipment.tell
        self._commits = equipment.commits
        self._repeats = equipment.repeats
        self._statistics = equipment.statistics
        self._signals = equipment.signals
        self._boundary = boundary
        self._task: asyncio.Task[None] | None = None

    def recover(self, begun: Collection[int]) -> None:
        """Recover `begun`, whose recovery begins now, and the undecided partitions of the recovery that runs.

        All of them are RECOVERING already.
        """
        self._statistics.start.end("join")
        undecided = self._partitions.recovering
        taken_over = undecided.difference(begun) if self.end() else frozenset()
        self._commits.discard(undecided)
        recovered = self._recovered(undecided, taken_over, self._member.session)
        self._task = asyncio.create_task(recovered, name="recovery")
        self._task.add_done_callback(self._signals.task_ended)

    async def again(self, event: PartitionEvent, partition: int) -> None:
        """Recover a partition of this worker again because of `event`, after the transaction in flight is committed.

        After OUT_OF_RANGE the recovery asks for the log's bounds again and again, for some seconds: the broker that
        refused the offset may have just woken, and may not know yet that another broker is the leader.
        """
        await self._boundary.finish()
        if event is PartitionEvent.OUT_OF_RANGE and not self._partitions[partition].is_reading:
            return
        self._partitions.happened(event, (partition,))
        self.recover((partition,))

    def end(self) -> bool:
        """End the recovery that runs. Returns False if none runs."""
        task, self._task = self._task, None
        if task is None or task.done():
            return False
        task.cancel()
        return True

    async def ended(self) -> None:
        """End the recovery that runs, and wait until it does nothing more."""
        await cancelled(self._task)

    async def decided(self) -> None:
        """Wait until the recovery that runs has decided every partition. Raises the error that ends the recovery."""
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
            await self._repeats.begin(decided.partition, decided.repeat, decided.decided)
            if session != self._member.session:
                return
            self._statistics.replayed += decided.replayed
            self._go_on(decided)
            recovered = told.PartitionRecovered(
                partition=decided.partition,
                offset=decided.offset,
                replayed=decided.replayed,
                milliseconds=(time.perf_counter() - started) * 1000,
            )
            self._tell(recovered)
        self._end_start()

    def _end_start(self) -> None:
        """Tell once what the steps of the start took."""
        steps = self._statistics.start
        if not steps.are_over:
            steps.end("recovery")
            taken = {f"{step}_milliseconds": 1000 * steps.seconds.get(step, 0.0) for step in STEPS}
            self._tell(told.StartEnded(**taken))

    def _go_on(self, ready: Ready) -> None:
        """Read the partition from its recovered offset, or halt it again if the record that halted it is still ahead.

        Only an operator, or a commit of another worker, gets the partition past that record.
        """
        partition, suspicion = ready.partition, self._partitions[ready.partition].suspicion
        halt = None if suspicion is None else suspicion.halt
        if halt is not None and halt.offset is not None and ready.offset <= halt.offset:
            self._boundary.halt(PartitionEvent.EXHAUSTED, halt, offset=ready.offset)
            return
        self._partitions.happened(PartitionEvent.RECOVERED, (partition,), offset=ready.offset)
        self._partitions.committed({partition: ready.offset})  # a drain may end here
        if ready.lacks_group_offset:
            self._commit_again(partition, ready.offset)

    def _commit_again(self, partition: int, offset: int) -> None:
        """Commit the offset of META for the group, which has lost its own. Without it, lag counts the whole log.

        The position is moved before any record is handed out. Later, a newer offset could be in flight already.
        """
        self._tell(told.GroupOffsetCommittedAgain(partition=partition, offset=offset))
        self._commits.move_position(partition, offset)
        self._signals.wake()

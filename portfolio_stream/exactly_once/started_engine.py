"""A started engine: connected, with an identity that is fenced, and with all its rooms.

`engine` describes an engine; `starting` makes this one out of the description.
"""

import asyncio
import time
from collections.abc import Collection
from contextlib import suppress

from portfolio_stream.errors import OutcomeUnknown, PartitionNotPaused, PartitionNotReady
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.doubts import Doubts
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.folding import Folding
from portfolio_stream.exactly_once.interpreter import Interpreter
from portfolio_stream.exactly_once.main_loop import MainLoop
from portfolio_stream.exactly_once.operations import PartitionOperation, Pause, Resume, Standing
from portfolio_stream.exactly_once.orders import Pauses
from portfolio_stream.exactly_once.ownership import Ownership
from portfolio_stream.exactly_once.partition_life import OperatorWish
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.exactly_once.replay_progress import Replays
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.observe import events as told
from portfolio_stream.observe.lag import records_behind

STOP_SECONDS = 3.0  # a stop must end within 5, and Faust's part of it takes some tenths, on a busy machine one
GOODBYE_SECONDS = 0.5  # if the goodbye is not answered by then, the end of the session says it


class StartedEngine:
    def __init__(self, equipment: Equipment) -> None:
        self.client = equipment.client
        self.coordinators = equipment.coordinators
        self.source = equipment.source
        self.membership = equipment.membership
        self.writer = equipment.writer
        self.partitions = equipment.partitions
        self.views = equipment.views
        self.commits = equipment.commits
        self.repeats = equipment.repeats
        self.standbys = equipment.standbys
        self.signals = equipment.signals
        self._tell = equipment.tell
        self._counts = equipment.statistics.kafka
        self.boundary = Boundary(equipment.commits, equipment.partitions, equipment.statistics, equipment.tell)
        self.folding = Folding(equipment, self.boundary)
        self.recovery_task = RecoveryTask(equipment, self.boundary)
        self.ownership = Ownership(equipment, self.boundary, self.folding, self.recovery_task)
        self.doubts = Doubts(equipment, self.boundary, self.folding, self.recovery_task, self.ownership)
        self.interpreter = Interpreter(
            equipment, self.boundary, self.folding, self.recovery_task, self.doubts.settle_writer
        )
        self.main_loop = MainLoop(
            equipment,
            self.boundary,
            self.folding,
            self.recovery_task,
            self.ownership,
            self.doubts,
            self.interpreter,
        )
        self._reader = equipment.reader
        self._recovery = equipment.recovery
        self._beside: list[asyncio.Task[None]] = []

    def run_beside(self, tasks: Collection["asyncio.Task[None]"]) -> None:
        """The first error of these tasks ends the main loop's turn. `close` cancels them."""
        self._beside.extend(tasks)
        for task in tasks:
            task.add_done_callback(self.signals.task_ended)

    async def pause(self, pauses: Pauses) -> None:
        """Pause the partitions as the job wants it, or let them go on."""
        partitions = self.partitions
        partitions.wish_when_assigned = OperatorWish.RUN if pauses == "none" else OperatorWish.PAUSE
        if pauses == "assigned":
            return
        make: type[PartitionOperation[Standing]] = Pause if pauses == "all" else Resume
        for partition in sorted(partitions.owned):
            with suppress(PartitionNotReady, PartitionNotPaused):
                await self._have_carried_out(make(partition))

    async def _have_carried_out(self, operation: PartitionOperation[Standing]) -> None:
        """Ask again after a doubt: the job's order stands until the engine leaves. Raises as the operation's class."""
        while not self.interpreter.is_closed:
            with suppress(OutcomeUnknown):
                await self.interpreter.ask(operation)
                return

    async def stop(self, running: "asyncio.Task[None] | None", *, abandons: bool = False) -> None:
        """Let the main loop commit what is folded and return. If a fold or a broker keeps it, end it in doubt.

        With `abandons`, drop what is not committed.
        """
        self.signals.stop(abandons=abandons)
        if running is not None:
            await asyncio.wait((running,), timeout=STOP_SECONDS)
            if not running.done():
                self.signals.is_settled_at_stop = False
                await cancelled(running)

    async def close(self, *, remains: bool = False) -> None:
        """Leave the group, or remain a member. Nobody waits for an answer of this engine afterwards."""
        self.interpreter.refuse_all()
        for task in self._beside:
            task.remove_done_callback(self.signals.task_ended)
        await cancelled(*self._beside)
        await self.recovery_task.ended()
        try:
            if remains:
                self.membership.remain()
            else:
                self._counts.moves["revoked"] += len(self.partitions.owned)  # the goodbye gives them back
                await asyncio.wait_for(self.membership.leave(), GOODBYE_SECONDS)
        except (TimeoutError, *LOST) as error:
            self._tell(told.LeftWithoutGoodbye(error=type(error).__name__))
        finally:
            await self.commits.abandon()

    def replays(self) -> Replays:
        """The replays of partitions that this worker recovers."""
        replays, recovering = self._recovery.progress.now(time.monotonic()), self.partitions.recovering
        known = {partition: one for partition, one in replays.by_partition.items() if partition in recovering}
        return replays._replace(by_partition=known)

    def queues(self) -> dict[str, int]:
        """Source records between a fetch and the end of their commit, by where they are."""
        return self.folding.queues() | self.commits.queues()

    def end(self, partition: int) -> int | None:
        """The last stable offset of a source partition, as its last fetch told it; None before the first fetch."""
        end = self._reader.last_stable_offset(partition)
        return None if end is None or end < 0 else end

    def lag(self) -> dict[int, int]:
        """Records between the committed position and the last stable offset, of the partitions that are served."""
        lag: dict[int, int] = {}
        for partition in sorted(self.partitions.served):
            end, committed = self.end(partition), self.partitions[partition].committed
            if end is not None and committed is not None:
                lag[partition] = records_behind(committed, end)
        return lag

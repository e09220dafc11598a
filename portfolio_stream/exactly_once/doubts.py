"""What the engine does after a doubt: drop everything uncommitted, ask the coordinator, recover from Kafka."""

import asyncio
import time

from aiokafka import errors as kafka_errors

from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.folding import Folding
from portfolio_stream.exactly_once.ownership import Ownership
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.protocol import Doubt, Refused
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.observe import events as told

DROP_PAUSE_SECONDS = (0.05, 1.0)  # least and most, before recovery; doubled with each drop since the last commit
SETTLE_LOOK_SECONDS = 0.5  # while the coordinator is away, how often the loop shows its progress and looks for a stop
#: errors that put the open work in doubt; any other error ends the worker
DOUBTS = (Doubt, kafka_errors.KafkaError, OSError)


class Doubts:
    def __init__(
        self,
        equipment: Equipment,
        boundary: Boundary,
        folding: Folding,
        recovery_task: RecoveryTask,
        ownership: Ownership,
    ) -> None:
        self._member = equipment.membership
        self._partitions = equipment.partitions
        self._tell = equipment.tell
        self._commits = equipment.commits
        self._writer = equipment.writer
        self._store = equipment.store
        self._statistics = equipment.statistics
        self._signals = equipment.signals
        self._boundary = boundary
        self._folding = folding
        self._recovery_task = recovery_task
        self._ownership = ownership
        self._standbys = equipment.standbys
        #: how many drops came after the last commit
        self._drops = 0

    async def drop_everything(self, doubt: BaseException) -> None:
        """Drop all uncommitted work, and recover from what Kafka has. Raises the error that ends the worker.

        1. Make void all records that were read. Wait until the recovery and the transaction in flight have ended.
        2. Forget the open transaction and the views.
        3. Wait until the coordinator has said how the last transaction ended.
        4. Own the target of the current membership, and recover all its partitions.
        """
        started = time.perf_counter()
        self._statistics.drops[type(doubt).__name__] += 1
        self._tell(told.WorkDropping(kind=type(doubt).__name__, reason=str(doubt)))
        self._partitions.happened(PartitionEvent.DROPPED, self._partitions.owned)
        await self._recovery_task.ended()
        _raise_fatal(await self._commits.ended())
        self._folding.forget_failures()
        self._commits.discard(range(len(self._partitions)))
        session = self._member.session  # if this membership ends meanwhile, the next turn finds out
        if await self.settle_writer():
            self._member.own(session)
        await self._store.drained()
        await self._pause()
        async with self._standbys.given_up(range(len(self._partitions))):
            is_expelled = session != self._commits.session
            self._commits.start_over(session)
            self._own_target(is_expelled=is_expelled)
        if isinstance(doubt, Refused) and doubt.failure is not None and doubt.partition in self._partitions.owned:
            self._boundary.count(doubt.failure)
        if self._partitions.owned:
            self._recovery_task.recover(self._partitions.owned)
        self._signals.is_woken = True  # an operation may still wait, and its wake-up may be used up
        self._tell(told.WorkDropped(milliseconds=(time.perf_counter() - started) * 1000))

    def _own_target(self, *, is_expelled: bool) -> None:
        """Own the target. An expelled worker has lost all its partitions: other workers may have owned them since."""
        target, owned = self._ownership.target(), self._partitions.owned
        lost = owned if is_expelled else owned - target
        self._partitions.happened(PartitionEvent.LOST, lost)
        self._partitions.happened(PartitionEvent.ASSIGNED, target - (owned - lost))
        self._member.acknowledge(self._partitions.owned)

    async def _pause(self) -> None:
        """Wait, longer after each drop without a commit in between: repeated drops must not keep the brokers busy."""
        least, most = DROP_PAUSE_SECONDS
        self._drops = 0 if self._commits.has_committed else self._drops + 1
        if self._drops:
            await asyncio.sleep(min(most, least * 2 ** min(self._drops, 10)))

    async def settle_writer(self) -> bool:
        """Wait until the coordinator has said how the last transaction ended, however long the coordinator is away.

        Returns False if a stop ended the wait: the outcome is then unknown. Raises Superseded.
        """
        settling = asyncio.create_task(self._writer.settle(), name="settle")
        while not settling.done():
            await asyncio.wait((settling,), timeout=SETTLE_LOOK_SECONDS)
            self._signals.turn()
            if self._signals.is_stopping and not settling.done():
                await cancelled(settling)
                self._signals.is_settled_at_stop = False
                return False
        settling.result()
        return True


def _raise_fatal(error: BaseException | None) -> None:
    """Raise the error of a failed commit if it is no doubt: a failed store, or a bug, ends the worker."""
    if error is not None and not isinstance(error, DOUBTS):
        raise error

"""Carries out the operations of operators (`operations`), between two transactions.

1. An operation waits until the main loop's next turn begins. By then every slice that was handed out is settled.
2. An operation that is refused changes nothing.
3. If a doubt interrupts an operation, the operator gets OutcomeUnknown, and the engine drops all uncommitted work.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, TypeVar

from portfolio_stream.errors import (
    DeadLetterFailed,
    OffsetBehind,
    OffsetsAgree,
    OutcomeUnknown,
    PartitionNotHalted,
    PartitionNotPaused,
    PartitionNotReady,
    PortfolioStreamError,
    RecordNotMovable,
    StateNotCopied,
    StoreFailed,
)
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment, WriteDeadLetter
from portfolio_stream.exactly_once.folding import Folding
from portfolio_stream.exactly_once.operations import (
    CopyState,
    Operation,
    Pause,
    Resume,
    Retry,
    SetAside,
    Standing,
    StopAt,
)
from portfolio_stream.exactly_once.partition_life import TRANSITIONS, OperatorWish, PartitionEvent
from portfolio_stream.exactly_once.partitions import Partition
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.recovery_task import RecoveryTask
from portfolio_stream.exactly_once.repeat import repeat_of
from portfolio_stream.exactly_once.state_copying import SettleWriter, StateCopying
from portfolio_stream.observe import events as told

R = TypeVar("R")

#: errors that an operator gets for an operation that cannot be carried out, and that changed nothing
REFUSALS = (
    PartitionNotHalted, RecordNotMovable, OffsetsAgree, PartitionNotReady, PartitionNotPaused, OffsetBehind,
    StateNotCopied,
)  # fmt: skip


class AskedOperation(NamedTuple):
    """An operation that waits, and the future of its result."""

    operation: Operation[Any]
    done: "asyncio.Future[Any]"

    def answer(self, result: object) -> None:
        if not self.done.done():  # the client may have gone
            self.done.set_result(result)

    def refuse(self, error: PortfolioStreamError) -> None:
        if not self.done.done():
            self.done.set_exception(error)


class Interpreter:
    def __init__(
        self,
        equipment: Equipment,
        boundary: Boundary,
        folding: Folding,
        recovery_task: RecoveryTask,
        settle_writer: SettleWriter,
    ) -> None:
        self._partitions = equipment.partitions
        self._commits = equipment.commits
        self._store = equipment.store
        self._repeats = equipment.repeats
        self._signals = equipment.signals
        self._tell = equipment.tell
        self._write_dead_letter = equipment.write_dead_letter
        self._boundary = boundary
        self._folding = folding
        self._recovery_task = recovery_task
        self._copying = StateCopying(equipment, boundary, settle_writer)
        self._asked: deque[AskedOperation] = deque()
        self._is_closed = False
        self._works: Mapping[type[Any], Callable[[Any], Awaitable[object]]] = {
            Retry: self._retry,
            SetAside: self._set_aside,
            Pause: self._pause,
            Resume: self._resume,
            StopAt: self._stop_at,
            CopyState: self._copying.copy,
        }

    async def ask(self, operation: Operation[R]) -> R:
        """Have `operation` carried out. Raises the errors that the operation's class names, and OutcomeUnknown."""
        for partition in operation.concerned():
            if not 0 <= partition < len(self._partitions):
                raise PartitionNotReady(partition, "not a partition of the topic")
        if isinstance(operation, CopyState):
            await self._copying.prepare(operation)
        if self._is_closed:  # the engine leaves: nobody would answer
            raise OutcomeUnknown(*operation.concerned())
        asked = AskedOperation(operation, asyncio.get_running_loop().create_future())
        self._asked.append(asked)
        self._signals.wake()
        return await asked.done  # type: ignore[no-any-return]

    async def carry_out(self) -> None:
        """Carry out all operations that wait, in order. Call this only between two transactions."""
        while self._asked:
            await self._carry_out(self._asked.popleft())

    @property
    def is_closed(self) -> bool:
        """Nothing is carried out any more."""
        return self._is_closed

    def refuse_all(self) -> None:
        """Answer all operations that wait with OutcomeUnknown, because the engine ends."""
        self._is_closed = True
        while self._asked:
            asked = self._asked.popleft()
            asked.refuse(OutcomeUnknown(*asked.operation.concerned()))

    async def _carry_out(self, asked: AskedOperation) -> None:
        operation = asked.operation
        if asked.done.cancelled():  # nobody would remove a copy, or know of a pause
            return
        try:
            result = await self._works[type(operation)](operation)
        except REFUSALS as refused:
            asked.refuse(refused)
        except BaseException:
            asked.refuse(OutcomeUnknown(*operation.concerned()))
            raise
        else:
            asked.answer(result)

    # -- halted partitions

    async def _retry(self, asked: Retry) -> Halted:
        halted = self._halted(asked.partition)
        if asked.from_state:
            await self._put_back(halted)
        await self._recovery_task.again(PartitionEvent.RETRY, asked.partition)
        if not asked.from_state:
            self._tell(told.PartitionRetried(partition=asked.partition, offset=halted.offset))
        return halted

    def _halted(self, partition: int, offset: int | None = None) -> Halted:
        halted = self._partitions.halted.get(partition)
        if halted is None or offset not in (None, halted.offset):
            raise PartitionNotHalted(partition, offset)
        return halted

    async def _put_back(self, halted: Halted) -> None:
        """Commit the state's offset as the group's offset, in a transaction that has nothing else of the partition."""
        partition = halted.partition
        if halted.group_offset is None:
            raise OffsetsAgree(partition, halted.reason)
        await self._boundary.close()
        meta = self._store.meta(partition)
        assert meta is not None  # noqa: S101  without META there is no group_offset
        await self._repeats.begin(partition, repeat_of(meta.repeat), self._store.decided(partition, meta.offset))
        self._commits.move_position(partition, meta.offset)
        await self._boundary.close()
        self._tell(told.GroupOffsetPutBack(partition=partition, offset=meta.offset))

    async def _set_aside(self, asked: SetAside) -> Halted:
        halted = self._halted(asked.partition, asked.offset)
        if halted.record is None or self._write_dead_letter is None:
            raise RecordNotMovable(asked.partition, asked.offset)
        await self._boundary.commit()
        if self._partitions.halted.get(asked.partition) is not halted:  # records before this one failed in the commit
            raise PartitionNotHalted(asked.partition, asked.offset)
        await self._move(halted.record, asked.partition, self._write_dead_letter)
        self._partitions.happened(PartitionEvent.MOVED, (asked.partition,))
        known = self._partitions[asked.partition]
        assert known.committed is not None  # noqa: S101  the move has committed an offset
        self._partitions.committed({asked.partition: known.committed})  # a drain may have reached its offset
        self._tell(told.RecordSetAside(partition=asked.partition, offset=asked.offset))
        return halted

    async def _move(self, record: Any, partition: int, write_dead_letter: WriteDeadLetter) -> None:
        """Commit the dead letter before any further record is folded: a failing fold would drop it with its share.

        Raises DeadLetterFailed. The partition then still halts at the record.
        """
        piece = self._folding.slice(partition, [record])
        try:
            write_dead_letter(piece)
        except StoreFailed:
            raise
        except Exception as error:  # the app's code may raise anything
            failed = told.DeadLetterRefused(partition=partition, offset=record.offset, error=type(error).__name__)
            self._tell(failed, error)
            self._commits.discard((partition,))
            raise DeadLetterFailed(partition, record.offset, type(error).__name__) from error
        piece.acknowledge()
        self._commits.set_aside(partition, record)
        await self._boundary.commit()
        if not piece.is_current:  # the app wrote a table value that cannot be encoded
            halted = self._partitions.halted.get(partition)
            reason = "its table values cannot be encoded" if halted is None else halted.reason
            raise DeadLetterFailed(partition, record.offset, reason)

    # -- partitions that run

    async def _pause(self, asked: Pause) -> Standing:
        known = self._known_if(asked.partition, PartitionEvent.PAUSE)
        await self._boundary.commit()
        self._partitions.happened(PartitionEvent.PAUSE, (asked.partition,))
        return _standing(known)

    async def _resume(self, asked: Resume) -> Standing:
        if self._partitions[asked.partition].life.wish is OperatorWish.RUN:
            raise PartitionNotPaused(asked.partition)
        known = self._known_if(asked.partition, PartitionEvent.RESUME)
        self._partitions.happened(PartitionEvent.RESUME, (asked.partition,))
        return _standing(known)

    async def _stop_at(self, asked: StopAt) -> Standing:
        self._known_if(asked.partition, PartitionEvent.STOP_AT)
        await self._boundary.commit()
        known = self._known_if(asked.partition, PartitionEvent.STOP_AT)  # the commit may have halted the partition
        if known.committed is None or asked.offset < known.committed:
            raise OffsetBehind(asked.partition, asked.offset, known.committed or 0)
        self._partitions.happened(PartitionEvent.STOP_AT, (asked.partition,), offset=asked.offset)
        self._partitions.committed({asked.partition: known.committed})  # the drain may end at once
        return _standing(known)

    def _known_if(self, partition: int, event: PartitionEvent) -> Partition:
        """Returns the partition, if `event` is legal in its state. Raises PartitionNotReady."""
        known = self._partitions[partition]
        if (known.state, event) not in TRANSITIONS:
            raise PartitionNotReady(partition, known.state.value)
        return known


def _standing(known: Partition) -> Standing:
    return Standing(known.number, known.state, known.committed)

"""What an operator asks of the engine, as values: for one partition, or for several partitions at one moment.

The engine carries an operation out between two transactions (`interpreter`): whole, or not at all. Each class says what
comes back. `OutcomeUnknown` is raised for any operation that a doubt or a stop interrupted.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.recovery import Halted

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a partition stands after an operation."""

    partition: int
    state: PartitionState
    #: next source offset to commit; None until a recovery has told it
    committed: int | None


@dataclass(frozen=True, slots=True)
class CopiedPartition:
    """Where a partition stands in a copy of the store, and where its outputs ended at that moment."""

    #: next source offset: the copied rows hold the effect of exactly the records before it
    offset: int
    changelog_topic_id: str
    #: next changelog offset: the changelog before it holds the rows; 0 before the partition's first commit
    changelog_offset: int
    #: by output topic: the end of the copied records' outputs, in the partition of the same number. All of them stand
    #: before it, and no output of a later record does
    outputs: Mapping[str, int]
    #: the version and the settings of the fold that made the rows
    fold: str


@dataclass(frozen=True, slots=True)
class StateCopy:
    """A copy of the whole store as it was at one moment. The asker removes `folder`."""

    #: does not exist if `parts` is empty
    folder: Path
    parts: Mapping[int, CopiedPartition]
    #: the partitions that are not in `parts`, with the reason
    left_out: Mapping[int, str]


class Operation(ABC, Generic[R_co]):
    """Something that an operator asks for; R_co is what comes back."""

    __slots__ = ()

    @abstractmethod
    def concerned(self) -> Collection[int]:
        """The partitions that the operator named: at least one."""


@dataclass(frozen=True, slots=True)
class PartitionOperation(Operation[R_co]):
    """An operation of one partition."""

    partition: int

    def concerned(self) -> Collection[int]:
        return (self.partition,)


@dataclass(frozen=True, slots=True)
class Retry(PartitionOperation[Halted]):
    """Recover a halted partition again from its committed offset. Returns the halt that this ends.

    `from_state`: first commit the state's offset for the group, whose offset somebody else has moved. META was written
    in the transactions of the outputs, so the state's offset says what was folded. The halt has both offsets.
    Raises PartitionNotHalted, and OffsetsAgree if a moved offset is not what halts the partition.
    """

    from_state: bool = False


@dataclass(frozen=True, slots=True)
class SetAside(PartitionOperation[Halted]):
    """Move the record, or the whole batch, that halts the partition to the dead letters, and go on behind it.

    The decision stands in the changelog, in the same transaction as the dead letter: a replay needs it, since no rule
    gives it. `offset` is the record's: an operator who looks at an older halt moves nothing. Returns the halt that this
    ends. Raises PartitionNotHalted, RecordNotMovable, and DeadLetterFailed if the app's code fails.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class Pause(PartitionOperation[Standing]):
    """Commit what is open, then read nothing more of the partition. Its tables stay served.

    The pause outlives a drop and a recovery, but no revocation and no expulsion. A partition that is recovering or
    halted is paused when it can go on. Pausing again changes nothing. Raises PartitionNotReady if the partition is not
    this worker's.
    """


@dataclass(frozen=True, slots=True)
class Resume(PartitionOperation[Standing]):
    """End a pause or a StopAt: read on from the committed offset.

    Raises PartitionNotPaused, and PartitionNotReady if the partition is not this worker's.
    """


@dataclass(frozen=True, slots=True)
class StopAt(PartitionOperation[Standing]):
    """Fold the records before `offset`, commit `offset`, then pause. Returns once the order stands.

    The order outlives a drop and a recovery, but no revocation and no expulsion. Raises OffsetBehind if a later offset
    is committed, and PartitionNotReady if the partition's tables are not served now.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class CopyState(Operation[StateCopy]):
    """Commit what is open, then copy the store to `folder`, which must not exist, as it is at that one moment.

    The copy takes the space of what changes afterwards: its files are hard links. Partitions whose tables are not
    served now, or that may be another worker's, are left out. With `pauses` the copied partitions are paused at the
    same moment: nothing is folded between the copy and the pause.

    Raises StateNotCopied if the copy failed and the store did not: then nothing is paused.
    """

    partitions: frozenset[int]
    folder: Path
    pauses: bool = False

    def concerned(self) -> Collection[int]:
        return self.partitions

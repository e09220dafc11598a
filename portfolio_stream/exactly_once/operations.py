"""What an operator asks of the engine for one partition, as values.

The engine carries an operation out between two transactions (`interpreter`): whole, or not at all. Each class says what
comes back. `OutcomeUnknown` is raised for any operation that a doubt or a stop interrupted.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.store import ChangelogPosition, StoredRows

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a partition stands after an operation."""

    partition: int
    state: PartitionState
    #: next source offset to commit; None until a recovery has told it
    committed: int | None


@dataclass(frozen=True, slots=True)
class PartitionSnapshot:
    """One partition's committed state at one moment. `rows` stays as it is while folding goes on."""

    partition: int
    rows: StoredRows
    #: next source offset: the rows hold the effect of exactly the records before it
    offset: int
    #: up to where the changelog holds the rows; None before the partition's first commit
    changelog: ChangelogPosition | None


@dataclass(frozen=True, slots=True)
class Operation(Generic[R_co]):
    """Something that an operator asks for; R_co is what comes back."""

    partition: int


@dataclass(frozen=True, slots=True)
class Retry(Operation[Halted]):
    """Recover a halted partition again from its committed offset. Returns the halt that this ends.

    `from_state`: first commit the state's offset for the group, whose offset somebody else has moved. META was written
    in the transactions of the outputs, so the state's offset says what was folded. The halt has both offsets.
    Raises PartitionNotHalted, and OffsetsAgree if a moved offset is not what halts the partition.
    """

    from_state: bool = False


@dataclass(frozen=True, slots=True)
class SetAside(Operation[Halted]):
    """Move the record, or the whole batch, that halts the partition to the dead letters, and go on behind it.

    The decision stands in the changelog, in the same transaction as the dead letter: a replay needs it, since no rule
    gives it. `offset` is the record's: an operator who looks at an older halt moves nothing. Returns the halt that this
    ends. Raises PartitionNotHalted, RecordNotMovable, and DeadLetterFailed if the app's code fails.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class Pause(Operation[Standing]):
    """Commit what is open, then read nothing more of the partition. Its tables stay served.

    The pause outlives a drop and a recovery, but no revocation and no expulsion. A partition that is recovering or
    halted is paused when it can go on. Pausing again changes nothing. Raises PartitionNotReady if the partition is not
    this worker's.
    """


@dataclass(frozen=True, slots=True)
class Resume(Operation[Standing]):
    """End a pause or a StopAt: read on from the committed offset.

    Raises PartitionNotPaused, and PartitionNotReady if the partition is not this worker's.
    """


@dataclass(frozen=True, slots=True)
class StopAt(Operation[Standing]):
    """Fold the records before `offset`, commit `offset`, then pause. Returns once the order stands.

    The order outlives a drop and a recovery, but no revocation and no expulsion. Raises OffsetBehind if a later offset
    is committed, and PartitionNotReady if the partition's tables are not served now.
    """

    offset: int


@dataclass(frozen=True, slots=True)
class Snapshot(Operation[PartitionSnapshot]):
    """Commit what is open, then take the partition's rows, offset and changelog position of that one moment.

    Raises PartitionNotReady if the partition's tables are not served now.
    """

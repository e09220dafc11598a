"""Errors of an operator's orders to partitions: what the worker cannot carry out, or could not finish."""

from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError


class PartitionNotHalted(PortfolioStreamError):
    """The partition is not halted, or it is halted at another offset than the order names."""

    exit_code = 2

    def __init__(self, partition: int, offset: int | None) -> None:
        where = "" if offset is None else f" at offset {offset}"
        super().__init__(
            f"Partition {partition} is not halted{where}.",
            "Look at its state with `portfolio-stream partitions list`.",
        )
        self.partition = partition
        self.offset = offset


class RecordNotMovable(PortfolioStreamError):
    """The partition is halted, but no record that can be moved to the dead letters halts it."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(
            f"Partition {partition} is halted at offset {offset}, but not by a record that can be moved.",
            "Correct the cause that `portfolio-stream partitions list` names, then run `portfolio-stream partitions "
            "retry`.",
        )
        self.partition = partition
        self.offset = offset


class DeadLetterFailed(RecordNotMovable):
    """The code that builds the record's dead letter failed."""

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        PortfolioStreamError.__init__(
            self,
            f"The dead letter of the record at offset {offset} of partition {partition} cannot be built: {reason}.",
            "Read the traceback in the log of the partition's worker, correct the code and restart the worker. Then "
            "run the command again.",
        )
        self.partition = partition
        self.offset = offset


class OffsetsAgree(PortfolioStreamError):
    """The partition is halted, but not because somebody moved the group's offset."""

    exit_code = 2

    def __init__(self, partition: int, reason: str) -> None:
        super().__init__(
            f"Partition {partition} is halted, but not by the group's offset: {reason}.",
            f"Correct that cause, then run `portfolio-stream partitions retry {partition}`.",
        )
        self.partition = partition


class PartitionNotReady(PortfolioStreamError):
    """The worker cannot carry out the order in the state in which the partition is now."""

    exit_code = 2

    def __init__(self, partition: int, state: str) -> None:
        super().__init__(
            f"Partition {partition} is {state}: the order cannot be carried out now.",
            "Look at the partition with `portfolio-stream partitions list`. Give the order again when it runs.",
        )
        self.partition = partition
        self.state = state


class PartitionNotPaused(PortfolioStreamError):
    """The order was to end a pause, but no operator has paused the partition."""

    exit_code = 2

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"Partition {partition} is not paused.",
            "Look at the partition with `portfolio-stream partitions list`.",
        )
        self.partition = partition


class OffsetBehind(PortfolioStreamError):
    """The order was to stop the partition at an offset, but a later offset is committed already."""

    exit_code = 2

    def __init__(self, partition: int, offset: int, committed: int) -> None:
        super().__init__(
            f"Partition {partition} cannot stop at offset {offset}: the records before {committed} are committed.",
            f"Give the order again with offset {committed} or a later one.",
        )
        self.partition = partition
        self.offset = offset


class OutcomeUnknown(PortfolioStreamError):
    """The engine dropped its uncommitted work during the order: the order was carried out whole, or not at all."""

    def __init__(self, *partitions: int) -> None:
        """`partitions`: the partitions that the order named."""
        named = ", ".join(map(str, sorted(partitions)))
        which, they = (f"partition {named}", "it is") if len(partitions) == 1 else (f"partitions {named}", "they are")
        super().__init__(
            f"The engine dropped its uncommitted work, and {which} may have been changed or not.",
            f"Look with `portfolio-stream partitions list`. If {they} as before, run the command again.",
        )
        self.partitions = partitions


class StateNotCopied(PortfolioStreamError):
    """The copy of the local store failed. The store itself and the worker go on, and nothing was paused."""

    def __init__(self, folder: Path, reason: str) -> None:
        super().__init__(
            f"The state could not be copied to {folder}: {reason}.",
            "Free space or repair the disk, or wait until the brokers answer again, as the reason says. Then run the "
            "command again.",
        )
        self.folder = folder


class ExportFailed(PortfolioStreamError):
    """A copy could not be written into the savepoint. The worker goes on, and the parts that were written remain."""

    def __init__(self, reason: str, action: str | None = None) -> None:
        super().__init__(
            f"The copied state could not be written into the savepoint: {reason}.",
            action
            or "Read the log of the partition's worker, free memory or disk space, and create the savepoint again.",
        )

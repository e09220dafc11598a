"""Errors of the job: its control topic, its states, its operations."""

from collections.abc import Sequence

from portfolio_stream.errors.base import PortfolioStreamError


class ControlUnavailable(PortfolioStreamError):
    """The control topic gives no answer, or takes no decision."""

    def __init__(self, topic: str, reason: str) -> None:
        super().__init__(
            f"The job's control topic {topic} does not answer: {reason}.",
            "Look at the brokers with `portfolio-stream doctor`, then run the command again: what it asked for is "
            "done or not done, and `portfolio-stream job describe` says which.",
        )


class JobNotBegun(PortfolioStreamError):
    """No worker has ever started this job."""

    def __init__(self, group: str | None = None) -> None:
        """`group` is None where the job's name is not known."""
        super().__init__(
            f"The job {'' if group is None else f'{group} '}has not begun: its control topic is empty.",
            "Start a worker (`faust -A portfolio_stream worker`), or name another group with PORTFOLIO_GROUP.",
        )


class OutputsStand(PortfolioStreamError):
    """A job that begins would write outputs again that stand already."""

    exit_code = 2

    def __init__(self, group: str, topic: str, partition: int) -> None:
        super().__init__(
            f"The job {group} begins now, without any state, but {topic}-{partition} has outputs already: every output "
            "would be written twice.",
            "Set PORTFOLIO_GROUP to the group that wrote them. For a job of its own, name other output topics with "
            "PORTFOLIO_OUTPUT_TOPIC and PORTFOLIO_DLQ_TOPIC. To fold everything again, delete both output topics.",
        )


class SourceHasGrown(PortfolioStreamError):
    """The source topic got more partitions than the job's other topics have."""

    def __init__(self, source: str, partitions: int, topic: str, fewer: int) -> None:
        super().__init__(
            f"Topic {source} has {partitions} partitions, but {topic} has {fewer}: keys would hash to other partitions "
            "than their state's.",
            f"Give no topic more partitions. `portfolio-stream doctor` says how to go on with {fewer} partitions.",
        )


class JobNotInState(PortfolioStreamError):
    """The job's state does not allow what was asked for."""

    def __init__(self, asked: str, state: str, action: str) -> None:
        super().__init__(f"The job is {state}, so it cannot {asked}.", action)


class OperationInProgress(PortfolioStreamError):
    """Another operation is not over yet."""

    def __init__(self, operation: str, kind: str) -> None:
        super().__init__(
            f"Operation {operation} ({kind}) is not over yet.",
            f"Wait for it (`portfolio-stream job describe`), or cancel it with `portfolio-stream job "
            f"cancel-operation {operation}`.",
        )


class OperationUnknown(PortfolioStreamError):
    """No operation has this id."""

    exit_code = 2

    def __init__(self, operation: str) -> None:
        super().__init__(
            f"There is no operation {operation}.", "List the operations with `portfolio-stream job describe`."
        )


class OperationFailed(PortfolioStreamError):
    """An operation is not done, and the job is as it was before."""

    def __init__(self, operation: str, kind: str, reason: str, action: str) -> None:
        super().__init__(f"Operation {operation} ({kind}) was not done: {reason}.", action)


class GroupNotEmpty(PortfolioStreamError):
    """The group's offsets cannot move to another generation while somebody is a member of the group."""

    def __init__(self, members: Sequence[str]) -> None:
        super().__init__(
            f"The group still has members: {'; '.join(members)}.",
            "Wait until they have left: a worker leaves when it hears of the order, a dead one when its session ends. "
            "Stop every other program that uses the workers' group, then run the command again.",
        )


class SwitchRefused(PortfolioStreamError):
    """The next generation cannot be made as it was asked for. Nothing was changed."""

    def __init__(self, what: str, reasons: Sequence[str], action: str) -> None:
        """`reasons` are clauses without a full stop."""
        super().__init__(f"The job cannot {what}: {'; '.join(reasons)}.", action)
        self.reasons = tuple(reasons)


class JobNotSettled(PortfolioStreamError):
    """The workers have not all left the group, or a transaction of theirs has not ended."""

    def __init__(self, waits: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"After {seconds:.0f} s these still hold the job: {'; '.join(waits)}.",
            "A worker that died leaves the group when its session ends: run the command again. Stop every consumer "
            "that is none of our workers (`portfolio-stream partitions list` shows who owns what). If a transaction "
            "does not end, find it with Kafka's `kafka-transactions.sh find-hanging`, and abort it.",
        )
        self.waits = tuple(waits)


class SwitchOvertaken(PortfolioStreamError):
    """Another command has ended this operation, so it changes nothing any more."""

    def __init__(self, operation: str, end: str) -> None:
        super().__init__(
            f"Operation {operation} is {end} already: another command came between.",
            "Look at the job with `portfolio-stream job describe`, and ask again if its state is not the one you want.",
        )


class StateDiffers(PortfolioStreamError):
    """The state in the new changelog is not the one that was to be loaded."""

    def __init__(self, topic: str, partition: int, what: str) -> None:
        super().__init__(
            f"Partition {partition} of the new changelog {topic} is not as it should be: {what}.",
            "Nothing was switched. Run the command again; if it fails again, check the savepoint with "
            "`portfolio-stream savepoint verify`, and use another one.",
        )


class GenerationUnknown(PortfolioStreamError):
    """The job has had no generation of this number."""

    exit_code = 2

    def __init__(self, number: int) -> None:
        super().__init__(
            f"The job has no generation {number}.", "List the generations with `portfolio-stream generations list`."
        )

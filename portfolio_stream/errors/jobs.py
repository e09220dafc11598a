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

    def __init__(self, group: str) -> None:
        super().__init__(
            f"The job {group} has not begun: its control topic is empty.",
            "Start a worker (`faust -A portfolio_stream worker`), or name another group with PORTFOLIO_GROUP.",
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

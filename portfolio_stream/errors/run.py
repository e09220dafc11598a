"""Errors of `portfolio-stream run`: a worker or the producer of the run ended, or nothing moves."""

from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError


class WorkerKeepsEnding(PortfolioStreamError):
    """A worker of the run ended by itself after each of its starts."""

    def __init__(self, worker: str, times: int, cause: str, action: str) -> None:
        """`cause` and `action` are those of the worker's last error."""
        super().__init__(f"Worker {worker} ended by itself {times} times, at last with: {cause.rstrip('.')}.", action)
        self.worker = worker


class WorkerCannotStart(PortfolioStreamError):
    """A worker of the run refuses its settings, and would refuse them at every start."""

    exit_code = 2

    def __init__(self, worker: str, cause: str, action: str) -> None:
        """`cause` and `action` are those of the worker's error."""
        super().__init__(f"Worker {worker} cannot start: {cause.rstrip('.')}.", action)
        self.worker = worker


class ProducerFailed(PortfolioStreamError):
    """The run's producer ended too early, or with another exit code than 0."""

    def __init__(self, end: str, cause: str, action: str) -> None:
        """`end` says how it ended, `cause` and `action` why."""
        super().__init__(f"The producer {end}: {cause.rstrip('.')}.", action)


class RunStalled(PortfolioStreamError):
    """The run is not complete, but no process makes progress."""

    def __init__(self, state: str, seconds: float, logs: Path) -> None:
        """`state` says how far the run is."""
        super().__init__(
            f"{state}, and nothing has moved for {seconds:g} s.",
            f"Read the workers' logs in {logs}, and /health/ready of each worker.",
        )
        self.logs = logs

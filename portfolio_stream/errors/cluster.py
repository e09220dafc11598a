"""Errors of the supervisor of workers: its folder, its process, its workers."""

from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError


class ClusterFolderUnusable(PortfolioStreamError):
    """The cluster's folder or that of its logs cannot be made."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The cluster cannot use the folder {path}: {reason}.",
            "Let this user write there, or name another folder with PORTFOLIO_DATA_DIR or PORTFOLIO_LOG_DIR.",
        )


class SupervisorRuns(PortfolioStreamError):
    """Another supervisor keeps the workers of this data folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"A supervisor runs already: it has locked {path}.",
            "See it with `portfolio-stream cluster status`, or stop it with `portfolio-stream cluster stop`. For "
            "another cluster name another folder with PORTFOLIO_DATA_DIR.",
        )


class SupervisorEnded(PortfolioStreamError):
    """The supervisor ended while it was started."""

    def __init__(self, cause: str, action: str) -> None:
        """Both are from the supervisor's log."""
        super().__init__(f"The supervisor has not started: {cause.rstrip('.')}.", action)


class ClusterNotServing(PortfolioStreamError):
    """The supervisor runs, but not all of its workers serve."""

    def __init__(self, cause: str, action: str | None) -> None:
        """`action` is the one of a worker's own error."""
        super().__init__(
            f"The supervisor runs, but not all workers serve: {cause}.",
            f"{'' if action is None else f'{action} '}The supervisor goes on: see `portfolio-stream cluster status`, "
            "and the log that it names.",
        )

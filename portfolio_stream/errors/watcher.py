"""Errors of the watcher: its folder, and its answer to a command."""

from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError


class WatcherRuns(PortfolioStreamError):
    """Another watcher writes the slices of this data folder."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"A watcher runs already: it has locked {path}.",
            "Stop the other watcher, or name another folder with PORTFOLIO_DATA_DIR.",
        )


class WatcherAnswers(PortfolioStreamError):
    """A watcher serves at the port that a new one wants."""

    def __init__(self, address: str) -> None:
        super().__init__(
            f"A watcher answers already at {address}.",
            "Use that one, or stop it. For another system, give another --web-port and PORTFOLIO_DATA_DIR, and set "
            "PORTFOLIO_WATCHER to the new address.",
        )


class WatchFolderUnusable(PortfolioStreamError):
    """The watcher's folder cannot be made or read."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The watcher cannot use the folder {path}: {reason}.",
            "Let this user write there, or name another folder with PORTFOLIO_DATA_DIR.",
        )


class WatcherUnanswered(PortfolioStreamError):
    """A command needs what the watcher sees, and no watcher answers. The exit code says that nothing is known."""

    exit_code = 2

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"What the watcher sees is unknown: {reason}.",
            "Start one with `portfolio-stream watch`, or name its address in PORTFOLIO_WATCHER. On an address that is "
            "not loopback, set the watcher's PORTFOLIO_WEB_TOKEN here too.",
        )

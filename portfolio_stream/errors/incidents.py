"""Errors of incidents and their reports, and of game days."""

from collections.abc import Sequence
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError, shortened


class IncidentFolderUnusable(PortfolioStreamError):
    """A report, or the table of closed incidents, cannot be read or written."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, option: str) -> None:
        """`option` names another place."""
        super().__init__(
            f"{path} cannot be used: {reason}.",
            f"Let this user read and write there, or name another place with {option}.",
        )


class TooManyIncidents(PortfolioStreamError):
    """A minute has an id for each of its incidents, and not more of them."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__(
            f"{path} has {most} incidents of this minute already.", "Open the incident in the next minute."
        )


class IncidentUnknown(PortfolioStreamError):
    """There is no report with that id."""

    exit_code = 2

    def __init__(self, incident: str, path: Path) -> None:
        super().__init__(
            f"There is no incident {shortened(incident)} in {path}.",
            "See the ids with `portfolio-stream incident list`. Another folder is named with --folder.",
        )


class IncidentClosed(PortfolioStreamError):
    """The incident was closed before."""

    def __init__(self, incident: str) -> None:
        super().__init__(
            f"The incident {incident} is closed already.",
            "Edit its report by hand, or open another incident.",
        )


class ReportUnreadable(PortfolioStreamError):
    """The file lacks a line by which a report says what it is about."""

    exit_code = 2

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is no report: a line **Date:** (RFC 3339), **Severity:**, **Title:** or **State:** is missing.",
            "Put the line back, as another report has it.",
        )


class GameDayRefused(PortfolioStreamError):
    """The game day cannot take place on this machine."""

    exit_code = 2

    def __init__(self, name: str, reason: str, remedy: str) -> None:
        super().__init__(f"The game day {name} cannot take place: {reason}.", remedy)


class GameDayFailed(PortfolioStreamError):
    """Something was not as the game day expects: an alert, the verdict, or a process of its cluster."""

    def __init__(self, name: str, findings: Sequence[str], folder: Path) -> None:
        super().__init__(
            f"The game day {name} has failed: {'; '.join(one.rstrip('.') for one in findings)}.",
            f"Read the logs in {folder}. A busy machine may be too slow for it: try again on an idle one.",
        )

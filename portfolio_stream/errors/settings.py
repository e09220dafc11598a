"""Errors of settings and of addresses to listen on."""

from collections.abc import Sequence
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError, shortened


class InvalidSetting(PortfolioStreamError):
    """An option or an environment variable has an illegal value."""

    exit_code = 2

    def __init__(self, name: str, value: str | None, expected: str) -> None:
        """`value` is None for a secret, which no message may show."""
        found = "" if value is None else f"is {shortened(value)}, but "
        super().__init__(f"{name} {found}must be {expected}.", f"Correct {name} and start again.")
        self.name = name


class SettingMissing(PortfolioStreamError):
    """A setting is missing that another setting needs."""

    exit_code = 2

    def __init__(self, name: str, because: str) -> None:
        """`because` names the other setting and its value."""
        super().__init__(
            f"{name} is not set, but {because}.", f"Set {name}, or correct the other setting, and start again."
        )
        self.name = name


class SettingNotForJob(PortfolioStreamError):
    """The job's settings name a variable that a running job's workers may not be given."""

    exit_code = 2

    def __init__(self, name: str, allowed: Sequence[str]) -> None:
        super().__init__(
            f"{shortened(name)} is no setting that a job gives its workers.",
            f"Name one of {', '.join(allowed)}. Set any other variable where the workers or their supervisor are "
            "started, and start them again.",
        )


class LogFolderUnusable(PortfolioStreamError):
    """The folder that PORTFOLIO_LOG_DIR names cannot be made or written."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"Logs cannot be written in {path}: {reason}.",
            "Let this user write there, or name another folder in PORTFOLIO_LOG_DIR.",
        )
        self.path = path


class PortInUse(PortfolioStreamError):
    """Another program listens on the port."""

    def __init__(self, host: str, port: int, remedy: str) -> None:
        """`remedy` says how to choose another port."""
        super().__init__(
            f"Port {port} is already in use on {host}.", f"Stop the program that listens there, or {remedy}."
        )
        self.host = host
        self.port = port


class WebServerNeeded(PortfolioStreamError):
    """A worker was started with Faust's --without-web."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "A worker needs its web server: the other workers ask it for the tables of its partitions.",
            "Start the worker without --without-web. With PORTFOLIO_WEB_HOST=127.0.0.1, the default, only this machine "
            "can reach the web server.",
        )


class WebTokenMissing(PortfolioStreamError):
    """The web server would listen on an address that others can reach, and ask nobody for a token."""

    exit_code = 2

    def __init__(self, host: str, setting: str) -> None:
        """`setting` is the option or variable that says where to listen."""
        super().__init__(
            f"The web server may listen on {host}, which is not loopback, only with a token.",
            "Set PORTFOLIO_WEB_TOKEN to a long random secret, the same for all workers, the auditor and the watcher. "
            f"Or let the web server listen on 127.0.0.1 ({setting}).",
        )
        self.host = host

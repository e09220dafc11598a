"""Errors of Prometheus and Alertmanager: their programs, their folder, their start."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError, shortened


class MonitorProgramMissing(PortfolioStreamError):
    """Prometheus or Alertmanager is not installed. Everything else that watches works without them."""

    def __init__(self, names: Sequence[str], package: str, variable: str) -> None:
        super().__init__(
            f"This host has no {' and no '.join(names)}.",
            f"Install the package (Debian and Ubuntu: apt-get install {package}), or name the program in {variable}. "
            "`portfolio-stream slo`, the watcher's own alerts and the workers' page work without it.",
        )


class MonitorFolderUnusable(PortfolioStreamError):
    """The folder of Prometheus and Alertmanager cannot be made or written."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The monitor cannot use the folder {path}: {reason}.",
            "Let this user write there, or name another folder with PORTFOLIO_DATA_DIR.",
        )


class MonitorBusy(PortfolioStreamError):
    """Another command starts or stops the monitor of this folder at this moment."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"Another command starts or stops the monitor: it has locked {path}.",
            "Wait for that command's end, then run this one again.",
        )


class MonitorRuns(PortfolioStreamError):
    """The monitor runs already, with other options."""

    def __init__(self) -> None:
        super().__init__(
            "Prometheus and Alertmanager run already, with other options.",
            "Run `portfolio-stream monitor stop` first. Its data stays.",
        )


class MonitorNotStarted(PortfolioStreamError):
    """A program of the monitor ended while it was started, or does not answer."""

    def __init__(self, name: str, reason: str, log: Path) -> None:
        super().__init__(
            f"{name} has not started: {reason.rstrip('.')}.", f"Read {log}, correct the cause, start again."
        )
        self.reason = reason


class MonitorIncomplete(PortfolioStreamError):
    """Prometheus and Alertmanager run, and the watcher or the auditor could not be started beside them."""

    def __init__(self, missing: Mapping[str, tuple[str, Path]]) -> None:
        """`missing`: the reason and the log of each process, by its name."""
        reasons = (f"The {name} has not started: {reason.rstrip('.')}." for name, (reason, _) in missing.items())
        logs = " and ".join(str(log) for _, log in missing.values())
        super().__init__(
            f"{' '.join(reasons)} Prometheus and Alertmanager run without it.",
            f"Correct the cause (see {logs}), and run `portfolio-stream monitor start` again with the same options.",
        )


class PrometheusUnanswered(PortfolioStreamError):
    """No Prometheus answers a query at the address. The exit code says that nothing is known."""

    exit_code = 2

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(
            f"No Prometheus answers at {shortened(url)}: {reason}.",
            "Start one with `portfolio-stream monitor start`, or name the URL of yours with --prometheus.",
        )


class MonitorNotStopped(PortfolioStreamError):
    """A program of the monitor does not end."""

    def __init__(self, name: str, pid: int) -> None:
        super().__init__(
            f"{name} (process {pid}) runs on after SIGKILL.",
            "Its disk may not answer. Look at the process with `ps`, and run `portfolio-stream monitor stop` again.",
        )

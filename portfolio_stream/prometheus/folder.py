"""The files of a monitor: the folder `monitor` in PORTFOLIO_DATA_DIR.

lock                  locked while a command starts or stops the monitor
plan.json             what the running monitor was started with (`MonitorPlan`)
token                 PORTFOLIO_WEB_TOKEN, readable by this user alone; absent without a token
prometheus.yml, rules.yml, slo.yml, alertmanager.yml
prometheus/, alertmanager/   their data; `stop` keeps it
NAME.pid, NAME.log    of each process: prometheus, alertmanager, and watcher and auditor if we started them
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from portfolio_stream.cluster import hosted
from portfolio_stream.decoding import decoded
from portfolio_stream.errors import MonitorBusy, MonitorFolderUnusable
from portfolio_stream.files import locked, write_atomically
from portfolio_stream.processes import OwnProcess, find
from portfolio_stream.prometheus.configuration import MonitorPlan
from portfolio_stream.settings import Settings

SERVERS = ("prometheus", "alertmanager")
#: processes of ours that a monitor starts if none answers
HELPERS = ("watcher", "auditor")
_decode = msgspec.json.Decoder(MonitorPlan).decode


class MonitorFolder:
    def __init__(self, settings: Settings) -> None:
        self.path = settings.data_dir.resolve() / "monitor"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and be the only command that changes what runs in it.

        Raises MonitorBusy, and MonitorFolderUnusable also for a file that the block cannot write.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with locked(self.path / "lock", MonitorBusy(self.path)):
                yield
        except OSError as error:
            raise MonitorFolderUnusable(self.path, error.strerror or type(error).__name__) from error

    def file(self, name: str) -> Path:
        return self.path / name

    def data(self, server: str) -> Path:
        return self.path / server

    def log(self, name: str) -> Path:
        return self.path / f"{name}.log"

    def pid_file(self, name: str) -> Path:
        return self.path / f"{name}.pid"

    def running(self) -> dict[str, OwnProcess]:
        """The live processes that the monitor started, by name."""
        marks = dict.fromkeys(HELPERS, hosted.MODULE) | {name: str(self.path) for name in SERVERS}
        found = {name: find(self.pid_file(name), mark) for name, mark in marks.items()}
        return {name: process for name, process in found.items() if process is not None}

    def started(self) -> list[str]:
        """The names of the processes that the monitor started and did not stop: some may have ended by themselves."""
        return [name for name in (*SERVERS, *HELPERS) if self.pid_file(name).exists()]

    def plan(self) -> MonitorPlan | None:
        """What the monitor was last started with; None if it never was."""
        try:
            return decoded(_decode, self.file("plan.json").read_bytes())
        except FileNotFoundError:
            return None

    def write(self, name: str, content: bytes) -> None:
        write_atomically(self.file(name), content)

    def write_token(self, token: str | None) -> None:
        path = self.file("token")
        path.unlink(missing_ok=True)
        if token is not None:
            write_atomically(path, token.encode(), is_private=True)

"""The files of a supervised cluster: the folder `cluster` in PORTFOLIO_DATA_DIR.

    name               the first part of the workers' names; written once, so a worker keeps its data folder for good
    lock               locked by the supervisor while it lives
    supervisor.pid     the supervisor's process
    status.json        what the supervisor last saw and did (`SupervisorStatus`)
    wish.json          the last known wish: what the supervisor keeps up while Kafka does not answer
    worker-1.pid       worker 1's process, written by itself
    worker-1.json      with which port and settings it was started

The logs are in PORTFOLIO_LOG_DIR/flink with Flink's names, or else in the folder itself.
"""

import getpass
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from portfolio_stream.cluster import hosted
from portfolio_stream.cluster.logs import log_files
from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.errors import ClusterFolderUnusable, SupervisorRuns
from portfolio_stream.files import locked, write_atomically
from portfolio_stream.processes import OwnProcess, find
from portfolio_stream.settings import Settings

T = TypeVar("T")

LONGEST_NAME = 48  # of 64 characters that a worker's name may have
SUPERVISOR = "cluster run"  # in the command line of every supervisor


class WorkerStart(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker was started."""

    port: int
    settings: dict[str, str]


class WorkerShown(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    #: its instance id
    name: str
    #: starting, serving, stopping, ended, refused
    state: str
    #: None if there is no process
    pid: int | None
    #: http://host:port
    address: str
    #: how many starts in a row ended within moments
    failures: int
    #: how often it was started again after an end that nobody had asked for
    restarts: int
    log: str
    settings: dict[str, str]
    #: why it last ended, or why it does not serve; None while it serves
    cause: str | None = None
    action: str | None = None


class SupervisorStatus(msgspec.Struct, frozen=True, kw_only=True):
    #: the supervisor's process
    pid: int
    #: how many workers are wanted, and with which settings of the job
    wanted: int
    settings: dict[str, str]
    workers: tuple[WorkerShown, ...]
    log: str
    #: http://host:port of Flink's REST interface
    rest: str | None = None
    #: why the wish cannot be followed, or is not known
    problem: str | None = None

    @property
    def is_serving(self) -> bool:
        """Every wanted worker serves, and no other one is there."""
        return len(self.workers) == self.wanted and all(worker.state == "serving" for worker in self.workers)


class ClusterFolder:
    def __init__(self, settings: Settings) -> None:
        self.path = settings.data_dir.resolve() / "cluster"
        self._logs = self.path if settings.log_dir is None else settings.log_dir.resolve() / "flink"

    def make(self) -> None:
        """Raises ClusterFolderUnusable."""
        for folder in (self.path, self._logs):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ClusterFolderUnusable(folder, error.strerror or type(error).__name__) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Be the folder's only supervisor. Raises SupervisorRuns."""
        with locked(self.path / "lock", SupervisorRuns(self.path)):
            yield

    # -- processes

    @property
    def supervisor_pid(self) -> Path:
        return self.path / "supervisor.pid"

    def supervisor(self) -> OwnProcess | None:
        return find(self.supervisor_pid, SUPERVISOR)

    def worker_pid(self, number: int) -> Path:
        return self.path / f"worker-{number}.pid"

    def workers(self) -> dict[int, OwnProcess]:
        """The live processes of workers, whichever supervisor started them. By number."""
        numbers = sorted(int(path.stem.removeprefix("worker-")) for path in self.path.glob("worker-[0-9]*.pid"))
        found = {number: find(self.worker_pid(number), hosted.MODULE) for number in numbers}
        return {number: process for number, process in found.items() if process is not None}

    def worker_name(self, number: int) -> str:
        """The worker's instance id: the host's name keeps workers of several hosts apart."""
        known = self.path / "name"
        if not known.exists():
            host = re.sub(r"[^A-Za-z0-9._-]", "-", platform.node()).lstrip("._-")[:LONGEST_NAME]
            write_atomically(known, (host or "worker").encode())
        return f"{known.read_text(encoding='ascii')}-{number}"

    # -- values

    def start_of(self, number: int) -> WorkerStart | None:
        return _read(self.path / f"worker-{number}.json", WorkerStart)

    def write_start(self, number: int, start: WorkerStart) -> None:
        write_atomically(self.path / f"worker-{number}.json", msgspec.json.encode(start))

    def status(self) -> SupervisorStatus | None:
        """What the supervisor last wrote; it may be gone since."""
        return _read(self.path / "status.json", SupervisorStatus)

    def write_status(self, status: SupervisorStatus) -> None:
        write_atomically(self.path / "status.json", msgspec.json.encode(status))

    def wish(self, kind: type[T]) -> T | None:
        return _read(self.path / "wish.json", kind)

    def write_wish(self, wish: Any) -> None:
        write_atomically(self.path / "wish.json", msgspec.json.encode(wish))

    # -- logs

    @property
    def supervisor_log(self) -> Path:
        return self._logs / f"flink-{_user()}-jobmanager-0-{platform.node()}.log"

    def supervisor_logs(self) -> list[Path]:
        """The supervisor's log and its older files, the newest first."""
        return log_files(self.supervisor_log)

    def worker_log(self, number: int) -> Path:
        return self._logs / f"flink-{_user()}-taskmanager-{number}-{platform.node()}.log"


def _read(path: Path, kind: type[T]) -> T | None:
    """None if there is no such file, or another program wrote it."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (FileNotFoundError, *UNDECODABLE):
        return None


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return str(os.getuid())

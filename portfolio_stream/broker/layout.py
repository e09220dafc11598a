"""The files of the broker's data directory, and the checks before the directory is used.

    .portfolio-stream-broker  the mark: the directory is ours; locked while a command starts, stops or deletes
    server.properties         the operator's own settings of the brokers (`own_settings`)
    cluster.json              cluster id, number of brokers, ports; written before the first format, and after it
    broker-0/                 node 0's log.dirs; broker-0.properties and broker-0.pid are beside it
    logs/broker-0.log         the broker's log; broker-0.out has what its process printed. With a log folder given:
                              server.log and server.out there, and server-1.log, server-2.log
    tmp/                      native libraries that Java unpacks; emptied when all brokers start

A directory that has files but no mark belongs to someone else: nothing is ever written or deleted there.
"""

import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from portfolio_stream.broker import own_settings
from portfolio_stream.errors import (
    BrokerAlreadyRunning,
    BrokerDiskFull,
    BrokerFolderUnusable,
    ForeignDataDirectory,
    LogFolderUnusable,
)
from portfolio_stream.files import write_atomically

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
SIZES = (1, 3)  # two brokers survive no loss, as one broker does not; more than three do not fit on a laptop
MARK = ".portfolio-stream-broker"
SMALLEST_FREE_BYTES = 128 << 20  # two segments: with less, the broker would die when it opens its second segment
FULL_BYTES = 1 << 20  # with less, no index file fits, and the broker's log may lack the line about the full disk


@dataclass(frozen=True, kw_only=True, slots=True)
class ClusterRecord:
    """cluster.json: the identity that the next start must find again, and the ports that other processes need."""

    cluster_id: str
    brokers: int
    port: Port
    controller_ports: tuple[Port, ...]
    #: every node's directory is formatted; until then the directories hold nothing that could be lost
    is_formatted: bool = False
    #: the folder of the brokers' logs; None: logs/ in the data directory
    logs: str | None = None
    #: node i's JMX listens at this port + i; None: no JMX
    jmx_port: Port | None = None
    #: node i tells Prometheus its JMX figures at this port + i; None: it does not
    jmx_exporter_port: Port | None = None


@dataclass(frozen=True, slots=True)
class Layout:
    data_dir: Path
    #: None: logs/ in the data directory
    given_logs: Path | None = None

    @property
    def logs(self) -> Path:
        return self.data_dir / "logs" if self.given_logs is None else self.given_logs

    def log_dir(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}"

    def properties(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}.properties"

    def pid_file(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}.pid"

    def log(self, node: int) -> Path:
        return self.logs / f"{self._log_name(node)}.log"

    def output(self, node: int) -> Path:
        return self.logs / f"{self._log_name(node)}.out"

    def _log_name(self, node: int) -> str:
        if self.given_logs is None:
            return f"broker-{node}"
        return "server" if node == 0 else f"server-{node}"  # server.log: where operators of Kafka look

    @property
    def tmp(self) -> Path:
        return self.data_dir / "tmp"

    @property
    def record(self) -> Path:
        return self.data_dir / "cluster.json"

    @property
    def own_settings(self) -> Path:
        return self.data_dir / own_settings.FILE

    def is_foreign(self) -> bool:
        """Whether the path has files of somebody else. server.properties may come before the first start."""
        if self.is_ours() or not self.data_dir.exists():
            return False
        return not self.data_dir.is_dir() or any(path != self.own_settings for path in self.data_dir.iterdir())

    def claim(self) -> None:
        """Put our mark into a new or empty directory. Raises BrokerFolderUnusable."""
        mark = self.data_dir / MARK
        if "," in str(self.data_dir):
            raise BrokerFolderUnusable(self.data_dir, "Kafka accepts no comma in the path")
        if str(self.data_dir) != str(self.data_dir).strip() or not str(self.data_dir).isprintable():
            raise BrokerFolderUnusable(self.data_dir, "Kafka misreads a path with control characters or outer blanks")
        if self.is_foreign():
            raise BrokerFolderUnusable(self.data_dir, "it holds files that are not this broker's")
        if not mark.exists():
            self.data_dir.mkdir(parents=True, exist_ok=True)
            mark.touch()
        if not self.own_settings.exists():
            self.own_settings.write_text(own_settings.TEMPLATE, encoding="utf-8")
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if self.given_logs is None:
                raise
            raise LogFolderUnusable(self.logs, error.strerror or type(error).__name__) from None
        if not os.access(self.logs, os.W_OK | os.X_OK):
            raise LogFolderUnusable(self.logs, "this user may not write there")

    def is_ours(self) -> bool:
        return (self.data_dir / MARK).exists()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the directory's lock. Raises BrokerAlreadyRunning while another command holds it."""
        with (self.data_dir / MARK).open("rb") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BrokerAlreadyRunning(self.data_dir, None) from None
            yield

    def read_record(self) -> ClusterRecord | None:
        """Returns None before the first start. Raises ForeignDataDirectory if cluster.json is damaged."""
        try:
            content = json.loads(self.record.read_text(encoding="ascii"))
            record = msgspec.convert(content, ClusterRecord)
            if record.brokers not in SIZES or len(record.controller_ports) != record.brokers:
                raise ValueError
            return record
        except FileNotFoundError:
            return None
        except ValueError:  # msgspec's errors are ValueErrors too
            raise ForeignDataDirectory(self.data_dir, f"{self.record.name} is damaged") from None

    def write_record(self, record: ClusterRecord) -> None:
        write_atomically(self.record, json.dumps(asdict(record), indent=1).encode("ascii"))

    def check_room(self) -> None:
        """Raises BrokerDiskFull if less than SMALLEST_FREE_BYTES are free."""
        if shutil.disk_usage(self.data_dir).free < SMALLEST_FREE_BYTES:
            raise BrokerDiskFull(self.data_dir)

    def is_full(self) -> bool:
        return shutil.disk_usage(self.data_dir).free < FULL_BYTES

    def check_formatted(self, record: ClusterRecord) -> None:
        """Raises ForeignDataDirectory unless this cluster formatted every node's directory that is not empty."""
        for node in range(record.brokers):
            if self.is_emptied(node):
                continue
            folder = self.log_dir(node)
            found = read_properties(folder / "meta.properties")
            if not found:
                raise ForeignDataDirectory(self.data_dir, f"{folder.name} has lost its meta.properties")
            for name, expected in (("cluster.id", record.cluster_id), ("node.id", str(node))):
                if found.get(name) != expected:
                    reason = f"{folder.name} has {name} {found.get(name)}, but this cluster's is {expected}"
                    raise ForeignDataDirectory(self.data_dir, reason)
            if not (folder / "bootstrap.checkpoint").exists() and not (folder / "__cluster_metadata-0").exists():
                raise ForeignDataDirectory(self.data_dir, f"{folder.name} has lost the cluster's metadata")

    def is_emptied(self, node: int) -> bool:
        """Whether nothing is left of a node's data. `rm -rf broker-0/*` leaves files that begin with a dot."""
        folder = self.log_dir(node)
        return not folder.exists() or all(path.name.startswith(".") for path in folder.iterdir())

    def ended_abruptly(self, node: int) -> bool:
        """Whether the node has served, and did not end with a controlled shutdown: it is then still registered."""
        folder = self.log_dir(node)
        return (folder / "__cluster_metadata-0").exists() and not (folder / ".kafka_cleanshutdown").exists()

    def check_unlocked(self, brokers: int) -> None:
        """Raises BrokerAlreadyRunning if a broker without a pid file runs: Kafka's own lock on its directory tells."""
        for node in range(brokers):
            if is_locked(self.log_dir(node) / ".lock"):
                raise BrokerAlreadyRunning(self.data_dir, None)

    def delete_all(self) -> None:
        """Delete the files that this module's docstring lists. All other files stay, and settings of the operator's."""
        for path in (*self.data_dir.glob("broker-*"), self.data_dir / "logs", self.tmp, self.record):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (self.data_dir / MARK).unlink(missing_ok=True)
        if self.own_settings.exists() and self.own_settings.read_text(encoding="utf-8", errors="replace") == (
            own_settings.TEMPLATE
        ):
            self.own_settings.unlink()
        if not any(self.data_dir.iterdir()):
            self.data_dir.rmdir()


def recorded(data_dir: Path) -> Layout:
    """Returns the layout of the directory's cluster, with the log folder of its last start."""
    layout = Layout(data_dir)
    record = layout.read_record()
    return layout if record is None or record.logs is None else Layout(data_dir, Path(record.logs))


def as_operator_error(data_dir: Path, error: OSError) -> Exception:
    """Returns the operator's error for an OSError, or the OSError itself if it does not concern the data directory."""
    if error.errno in NO_ROOM:
        return BrokerDiskFull(data_dir)
    if not isinstance(error.filename, str):
        return error
    place = Path(error.filename)
    is_here = place.is_relative_to(data_dir) or data_dir.is_relative_to(place)
    return BrokerFolderUnusable(data_dir, error.strerror or type(error).__name__) if is_here else error


@contextmanager
def disk_errors(data_dir: Path) -> Iterator[None]:
    """Turn an OSError of the block into the error that `as_operator_error` gives."""
    try:
        yield
    except OSError as error:
        raise as_operator_error(data_dir, error) from error


def read_properties(path: Path) -> dict[str, str]:
    """Read a Java properties file. Returns nothing if the file does not exist."""
    if not path.is_file():
        return {}
    return dict(own_settings.parse(path.read_text(encoding="utf-8", errors="replace")))


def is_locked(path: Path) -> bool:
    """Whether another process holds a POSIX lock on the file; Java's FileChannel.tryLock takes such a lock."""
    if not path.exists():
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        return False

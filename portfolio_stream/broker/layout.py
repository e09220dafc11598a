"""The broker's data directory: what lies where, and whether it may be used.

    .portfolio-stream-broker  says that the directory is ours; locked while a command starts, stops or deletes
    cluster.json              cluster id, number of brokers, ports; written before the first format, and after it
    broker-0/                 Kafka's log.dirs of node 0; broker-0.properties, broker-0.pid beside it
    logs/broker-0.log         the broker's log; broker-0.out is what its process printed
    tmp/                      native libraries that Java unpacks; emptied at every start

A directory without the mark that holds anything is somebody else's: nothing is ever written into it or deleted from it.
"""

import errno
import fcntl
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import msgspec

from portfolio_stream.errors import BrokerAlreadyRunning, BrokerDiskFull, BrokerFolderUnusable, ForeignDataDirectory
from portfolio_stream.files import write_atomically

NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
Port = Annotated[int, msgspec.Meta(ge=1, le=65_535)]
SIZES = (1, 3)  # two brokers bear no loss either; more do not fit a laptop
MARK = ".portfolio-stream-broker"
SMALLEST_FREE_BYTES = 128 << 20  # two segments: with less, the broker would die at its first roll
FULL_BYTES = 1 << 20  # with less, no index file fits, and a log may have lost the line that says so


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """cluster.json: what must be the same at the next start, and what other processes need to find the brokers."""

    cluster_id: str
    brokers: int
    port: Port
    controller_ports: tuple[Port, ...]
    #: every node's directory was formatted once; until then they hold nothing that could be lost
    is_formatted: bool = False


@dataclass(frozen=True, slots=True)
class Layout:
    data_dir: Path

    def log_dir(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}"

    def properties(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}.properties"

    def pid_file(self, node: int) -> Path:
        return self.data_dir / f"broker-{node}.pid"

    def log(self, node: int) -> Path:
        return self.data_dir / "logs" / f"broker-{node}.log"

    def output(self, node: int) -> Path:
        return self.data_dir / "logs" / f"broker-{node}.out"

    @property
    def tmp(self) -> Path:
        return self.data_dir / "tmp"

    @property
    def record(self) -> Path:
        return self.data_dir / "cluster.json"

    def claim(self) -> None:
        """Make the directory ours, if it is new or empty. Raises ForeignDataDirectory."""
        mark = self.data_dir / MARK
        if "," in str(self.data_dir):
            raise BrokerFolderUnusable(self.data_dir, "Kafka cannot have a comma in its path")
        if str(self.data_dir) != str(self.data_dir).strip() or not str(self.data_dir).isprintable():
            raise BrokerFolderUnusable(self.data_dir, "Kafka would read white space or control characters otherwise")
        if not mark.exists():
            if self.data_dir.exists() and (not self.data_dir.is_dir() or any(self.data_dir.iterdir())):
                raise BrokerFolderUnusable(self.data_dir, "it holds files that are not this broker's")
            self.data_dir.mkdir(parents=True, exist_ok=True)
            mark.touch()
        (self.data_dir / "logs").mkdir(exist_ok=True)

    def is_ours(self) -> bool:
        return (self.data_dir / MARK).exists()

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """One command at a time. Raises BrokerAlreadyRunning if another one starts or stops right now."""
        with (self.data_dir / MARK).open("rb") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise BrokerAlreadyRunning(self.data_dir, None) from None
            yield

    def read_record(self) -> Record | None:
        """None before the first start. Raises ForeignDataDirectory if it is torn."""
        try:
            content = json.loads(self.record.read_text(encoding="ascii"))
            record = msgspec.convert(content, Record)
            if record.brokers not in SIZES or len(record.controller_ports) != record.brokers:
                raise ValueError
            return record
        except FileNotFoundError:
            return None
        except ValueError:  # msgspec's too
            raise ForeignDataDirectory(self.data_dir, f"{self.record.name} is damaged") from None

    def write_record(self, record: Record) -> None:
        write_atomically(self.record, json.dumps(asdict(record), indent=1).encode("ascii"))

    def check_room(self) -> None:
        """Raises BrokerDiskFull."""
        if shutil.disk_usage(self.data_dir).free < SMALLEST_FREE_BYTES:
            raise BrokerDiskFull(self.data_dir)

    def is_full(self) -> bool:
        return shutil.disk_usage(self.data_dir).free < FULL_BYTES

    def check_formatted(self, record: Record) -> None:
        """Every node's directory is the one that this cluster formatted. Raises ForeignDataDirectory."""
        for node in range(record.brokers):
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

    def ended_abruptly(self, node: int) -> bool:
        """The node served once, and its last end was not a controlled shutdown: its registration still stands."""
        folder = self.log_dir(node)
        return (folder / "__cluster_metadata-0").exists() and not (folder / ".kafka_cleanshutdown").exists()

    def check_unlocked(self, brokers: int) -> None:
        """No live broker holds Kafka's own lock, whatever the pid files say. Raises BrokerAlreadyRunning."""
        for node in range(brokers):
            if is_locked(self.log_dir(node) / ".lock"):
                raise BrokerAlreadyRunning(self.data_dir, None)

    def delete_all(self) -> None:
        """Delete what this module's text lists, the mark last; anything else is left where it is."""
        for path in (*self.data_dir.glob("broker-*"), self.data_dir / "logs", self.tmp, self.record):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        (self.data_dir / MARK).unlink(missing_ok=True)
        if not any(self.data_dir.iterdir()):
            self.data_dir.rmdir()


def as_operator_error(data_dir: Path, error: OSError) -> Exception:
    """What the disk's refusal means to an operator; the error itself if it is not about the data directory."""
    if error.errno in NO_ROOM:
        return BrokerDiskFull(data_dir)
    if not isinstance(error.filename, str):
        return error
    place = Path(error.filename)
    is_here = place.is_relative_to(data_dir) or data_dir.is_relative_to(place)
    return BrokerFolderUnusable(data_dir, error.strerror or type(error).__name__) if is_here else error


@contextmanager
def disk_errors(data_dir: Path) -> Iterator[None]:
    """Raises `as_operator_error` for an OSError of the block."""
    try:
        yield
    except OSError as error:
        raise as_operator_error(data_dir, error) from error


def read_properties(path: Path) -> dict[str, str]:
    """A Java properties file without escapes; empty if there is none."""
    if not path.is_file():
        return {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    pairs = (line.partition("=") for line in lines if "=" in line and not line.startswith("#"))
    return {name.strip(): value.strip() for name, _, value in pairs}


def is_locked(path: Path) -> bool:
    """Whether another process holds a POSIX lock on the file, as Java's FileChannel.tryLock takes it."""
    if not path.exists():
        return False
    with path.open("r+b") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            return True
        return False

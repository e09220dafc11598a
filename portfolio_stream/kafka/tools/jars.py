"""Jars of Kafka, and of what runs in its brokers: a lock lists them; they are fetched and checked once, then used
offline.

- A jar gets its name in the cache by an atomic rename, after its size and SHA-256 were checked. So two processes may
  fetch at the same time, and a killed process leaves no half-written jar under that name.
- A stamp file says that every jar of the lock was checked. While the stamp and the jars' sizes are right, no jar is
  hashed or fetched again.
"""

import errno
import hashlib
import http.client
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import IO, NamedTuple

from portfolio_stream.errors import BrokerCacheUnusable, BrokerDiskFull, BrokerDownloadFailed, BrokerJarMismatch
from portfolio_stream.files import write_atomically
from portfolio_stream.kafka.tools.repository import base_address

KAFKA_VERSION = "4.3.1"
LOCK = Path(__file__).with_name("kafka.lock")
#: the agent that lets a broker tell Prometheus its JMX figures
JMX_EXPORTER_LOCK = Path(__file__).with_name("jmx-exporter.lock")
STAMP = "verified"
THREADS = 8  # round trips bound a fetch, not bandwidth
ATTEMPTS = 3
RETRY_SECONDS = 0.5  # times the attempt's number: long enough for a refused connection, no longer
PIECE_BYTES = 64 << 10  # after each piece, a download checks whether another download has failed
REQUEST_TIMEOUT_SECONDS = 30.0  # of silence on the socket, not for the whole transfer

Progress = Callable[[str], None]


class Jar(NamedTuple):
    """One line of the lock: `group:artifact:version sha256 size`."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @classmethod
    def from_string(cls, line: str) -> "Jar":
        coordinate, sha256, size = line.split()
        group, artifact, version = coordinate.split(":")
        return cls(group, artifact, version, sha256, int(size))

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version} {self.sha256} {self.size}"

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    @property
    def path(self) -> str:
        """The jar's path in a Maven repository."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"

    def is_content(self, content: bytes) -> bool:
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


def read_lock(path: Path = LOCK) -> tuple[Jar, ...]:
    return tuple(Jar.from_string(line) for line in path.read_text(encoding="ascii").splitlines() if line)


def version_of(lock: Path) -> str:
    """Returns the version of Kafka, or of the JMX exporter, whose jars the lock lists."""
    group = "io.prometheus.jmx" if lock == JMX_EXPORTER_LOCK else "org.apache.kafka"
    versions = (jar.version for jar in read_lock(lock) if jar.group == group)
    return next(versions, KAFKA_VERSION)


def name_of(lock: Path) -> str:
    """Whose jars the lock lists, for people."""
    return "the JMX exporter" if lock == JMX_EXPORTER_LOCK else "Kafka"


def cache_dir(environment: Mapping[str, str], lock: Path = LOCK) -> Path:
    """Returns the folder in the user's cache for the jars of the lock's version."""
    base = environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    name = JMX_EXPORTER_LOCK.stem if lock == JMX_EXPORTER_LOCK else "kafka"
    return Path(base) / "portfolio-stream" / f"{name}-{version_of(lock)}"


def provide(environment: Mapping[str, str], progress: Progress, lock: Path = LOCK) -> Path:
    """Fetch the missing jars of the lock, and return the folder that holds all of them.

    Raises BrokerDownloadFailed, BrokerJarMismatch, BrokerDiskFull, BrokerCacheUnusable.
    """
    folder, jars = cache_dir(environment, lock), read_lock(lock)
    stamp, digest = folder / STAMP, hashlib.sha256(lock.read_bytes()).hexdigest()
    if _has_stamp(stamp, digest) and all(_size(folder / jar.name) == jar.size for jar in jars):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars if not _is_present(folder, jar)]
        fetch(missing, folder, base_address(environment), progress, f"{name_of(lock)} {version_of(lock)}")
        _drop_others(folder, jars)
        write_atomically(stamp, digest.encode("ascii"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BrokerDiskFull(folder) from error
        raise BrokerCacheUnusable(folder, error.strerror or type(error).__name__) from error
    return folder


def fetch(
    jars: Iterable[Jar], folder: Path, base: str, progress: Progress, what: str = f"Kafka {KAFKA_VERSION}"
) -> None:
    """Fetch jars into a folder, THREADS at a time. The first failure ends all downloads and is raised.

    `what` says to people what the jars are.
    """
    wanted = tuple(jars)
    total, done = sum(jar.size for jar in wanted), 0
    given_up = threading.Event()
    with ThreadPoolExecutor(THREADS, "fetch") as pool:
        futures = {pool.submit(_fetch_one, jar, folder, base, given_up): jar for jar in wanted}
        try:
            for count, future in enumerate(as_completed(futures), 1):
                future.result()
                done += futures[future].size
                progress(f"Fetched {count} of {len(wanted)} jars of {what}, {done / 1e6:.0f} of {total / 1e6:.0f} MB")
        finally:
            given_up.set()
            pool.shutdown(wait=False, cancel_futures=True)


def _fetch_one(jar: Jar, folder: Path, base: str, given_up: threading.Event) -> None:
    content = _download(jar, f"{base}/{jar.path}", given_up)
    if not jar.is_content(content):
        raise BrokerJarMismatch(jar.name)
    write_atomically(folder / jar.name, content)


def _download(jar: Jar, url: str, given_up: threading.Event) -> bytes:
    reason = "the fetch was given up"
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with urllib.request.urlopen(url, timeout=REQUEST_TIMEOUT_SECONDS) as response:
                return _read(response, jar.size, given_up)
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the repository answers {error.code}"
            if error.code < 500 and error.code != 429:
                break
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = _reason(error)
        if attempt == ATTEMPTS or given_up.wait(RETRY_SECONDS * attempt):
            break
    raise BrokerDownloadFailed(jar.name, reason)


def _read(response: IO[bytes], size: int, given_up: threading.Event) -> bytes:
    """Read the whole jar, and at most one piece beyond `size`: a longer answer is wrong anyway.

    Returns early once `given_up` is set.
    """
    content = bytearray()
    while len(content) <= size and not given_up.is_set():
        piece = response.read(PIECE_BYTES)
        if not piece:
            break
        content += piece
    return bytes(content)


def _reason(error: Exception) -> str:
    """Returns a short phrase for the error. It leaves out the address, which may hold a password."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, OSError):
        return cause.strerror or type(cause).__name__
    return "the repository's address or answer is malformed"


def _has_stamp(stamp: Path, digest: str) -> bool:
    return stamp.is_file() and stamp.read_text(encoding="ascii", errors="replace") == digest


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _is_present(folder: Path, jar: Jar) -> bool:
    path = folder / jar.name
    return _size(path) == jar.size and jar.is_content(path.read_bytes())


def _drop_others(folder: Path, jars: Iterable[Jar]) -> None:
    """Delete the jars that the lock does not list: the class path takes every jar of the folder."""
    kept = {jar.name for jar in jars}
    for path in folder.glob("*.jar"):
        if path.name not in kept:
            path.unlink(missing_ok=True)

"""Kafka's jars: what the lock names, fetched once and checked, then used offline.

- A jar has its name in the cache only after its size and SHA-256 were found right; it gets there by an atomic rename,
  so that two processes may fetch at once and a killed one leaves nothing half done.
- A stamp says that all of a lock was checked: afterwards sizes are compared, and nothing is hashed or fetched again.
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
STAMP = "verified"
THREADS = 8  # a fresh fetch is bound by round trips, not by bandwidth
ATTEMPTS = 3
RETRY_SECONDS = 0.5  # times the attempt: rides over a refused connection, no longer
PIECE_BYTES = 64 << 10  # between two looks at whether the fetch was given up
REQUEST_TIMEOUT_SECONDS = 30.0  # silence on the socket, not the whole transfer

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
        """Where a Maven repository keeps it."""
        return f"{self.group.replace('.', '/')}/{self.artifact}/{self.version}/{self.name}"

    def is_content(self, content: bytes) -> bool:
        return len(content) == self.size and hashlib.sha256(content).hexdigest() == self.sha256


def read_lock(path: Path = LOCK) -> tuple[Jar, ...]:
    return tuple(Jar.from_string(line) for line in path.read_text(encoding="ascii").splitlines() if line)


def version_of(lock: Path) -> str:
    """The Kafka version that a lock gives."""
    versions = (jar.version for jar in read_lock(lock) if jar.group == "org.apache.kafka")
    return next(versions, KAFKA_VERSION)


def cache_dir(environment: Mapping[str, str], lock: Path = LOCK) -> Path:
    """The user's cache of the jars of the lock's Kafka version."""
    base = environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "portfolio-stream" / f"kafka-{version_of(lock)}"


def provide(environment: Mapping[str, str], progress: Progress, lock: Path = LOCK) -> Path:
    """The folder that holds every jar of the lock; missing ones are fetched, THREADS at a time.

    Raises BrokerDownloadFailed, BrokerJarMismatch, BrokerDiskFull.
    """
    folder, jars = cache_dir(environment, lock), read_lock(lock)
    stamp, digest = folder / STAMP, hashlib.sha256(lock.read_bytes()).hexdigest()
    if _has_stamp(stamp, digest) and all(_size(folder / jar.name) == jar.size for jar in jars):
        return folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars if not _is_present(folder, jar)]
        fetch(missing, folder, base_address(environment), progress, version_of(lock))
        _drop_others(folder, jars)
        write_atomically(stamp, digest.encode("ascii"))
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise BrokerDiskFull(folder) from error
        raise BrokerCacheUnusable(folder, error.strerror or type(error).__name__) from error
    return folder


def fetch(jars: Iterable[Jar], folder: Path, base: str, progress: Progress, version: str = KAFKA_VERSION) -> None:
    """Fetch jars into a folder, in parallel; the first that fails ends it."""
    wanted = tuple(jars)
    total, done = sum(jar.size for jar in wanted), 0
    given_up = threading.Event()
    with ThreadPoolExecutor(THREADS, "fetch") as pool:
        futures = {pool.submit(_fetch_one, jar, folder, base, given_up): jar for jar in wanted}
        try:
            for count, future in enumerate(as_completed(futures), 1):
                future.result()
                done += futures[future].size
                progress(
                    f"Fetched {count} of {len(wanted)} jars of Kafka {version}, "
                    f"{done / 1e6:.0f} of {total / 1e6:.0f} MB"
                )
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
    """At most a piece more than the size, which shows that it is too long; less if the fetch was given up."""
    content = bytearray()
    while len(content) <= size and not given_up.is_set():
        piece = response.read(PIECE_BYTES)
        if not piece:
            break
        content += piece
    return bytes(content)


def _reason(error: Exception) -> str:
    """One short phrase without the address: it may hold a password."""
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
    """An older lock's jars would be on the class path too."""
    kept = {jar.name for jar in jars}
    for path in folder.glob("*.jar"):
        if path.name not in kept:
            path.unlink(missing_ok=True)

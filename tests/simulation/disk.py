"""A worker's disk: the store's database in memory, with the effects of kills, crashes and faults of the disk.

An answered write survives the process, as RocksDB's log does in the operating system's cache. A crash of the machine
may lose the newest writes. A lost write takes all later writes with it: RocksDB reads its log up to the torn end.
"""

from bisect import bisect_left, insort
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from portfolio_stream.exactly_once.database import FIRST_KEY, LAST_KEY, Cursor, DatabaseFigures, Extent, Item
from portfolio_stream.exactly_once.state_memory import StateMemory
from tests.simulation.loop import PROCESS, Process

#: hears of each write when it happens; None stands for a wipe
Witness = Callable[[list[Item] | None], None]

HISTORY = 50  # writes that a crash of the machine may take back


class DiskFull(Exception):
    """The error of a full disk; rocksdict raises a bare Exception."""


class Disk:
    """The disk of one worker. The disk outlives the worker's processes."""

    def __init__(self, witness: Witness) -> None:
        self.witness = witness
        self.is_full = False
        #: how many writes succeed before one fails; later writes succeed again
        self.fails_in: int | None = None
        self._values: dict[bytes, bytes] = {}
        self._keys: list[bytes] = []
        #: the former values under each of the newest writes
        self._undo: list[list[Item]] = []
        self.sequence = 0
        #: the copies of the database, by folder
        self.copies: dict[Path, MemoryCopy] = {}

    def open(self, path: Path, memory: StateMemory) -> "MemoryDatabase":
        return MemoryDatabase(self)

    def wipe(self) -> None:
        """Somebody removes the folder."""
        self._values, self._keys, self._undo = {}, [], []

    def tear(self, writes: int) -> None:
        """The machine crashes, and the newest writes are gone."""
        for _ in range(min(writes, len(self._undo))):
            for key, value in reversed(self._undo.pop()):
                self._put(key, value)

    def scan(self, from_key: bytes = b"") -> Iterator[tuple[bytes, bytes]]:
        keys, values = self._keys, self._values
        for index in range(bisect_left(keys, from_key), len(keys)):
            yield keys[index], values[keys[index]]

    def copied(self) -> tuple[list[bytes], dict[bytes, bytes]]:
        """Returns a copy of the ordered keys and of the values."""
        return self._keys.copy(), self._values.copy()

    def get(self, key: bytes) -> bytes | None:
        return self._values.get(key)

    def write(self, items: list[Item], *, is_wipe: bool = False) -> None:
        self.fail_if_due()
        undo = []
        for key, value in items:
            undo.append((key, self._values.get(key)))
            self._put(key, value)
        self._undo.append(undo)
        del self._undo[:-HISTORY]
        self.sequence += 1
        self.witness(None if is_wipe else items)

    def take_from(self, other: "Disk") -> None:
        """Take a copy of the other disk's folder."""
        self._values, self._keys, self._undo = dict(other._values), list(other._keys), []

    def copy(self, folder: Path) -> None:
        self.fail_if_due()
        assert folder not in self.copies, "the folder exists"
        self.copies[folder] = MemoryCopy(*self.copied())

    def fail_if_due(self) -> None:
        if self.fails_in is not None:
            self.fails_in -= 1
            if self.fails_in < 0:
                self.fails_in = None
                raise DiskFull("IO error: the write failed")
        if self.is_full:
            raise DiskFull("IO error: No space left on device")

    def _put(self, key: bytes, value: bytes | None) -> None:
        known = key in self._values
        if value is None:
            if known:
                del self._values[key]
                del self._keys[bisect_left(self._keys, key)]
            return
        self._values[key] = value
        if not known:
            insort(self._keys, key)


class MemoryDatabase:
    """`database.Database` on a disk, for the process that opened it."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._owner: Process | None = PROCESS.get()
        self.get = disk.get

    def sequence(self) -> int:
        return self._disk.sequence

    def cursor(self) -> Cursor:
        return _Cursor(*self._disk.copied())

    def write(self, items: Iterable[Item]) -> None:
        self._check_owner()
        self._disk.write(list(items))

    def delete(self, lower: bytes, upper: bytes, also: bytes) -> None:
        self._check_owner()
        keys = [key for key, _ in self._disk.scan(lower) if key < upper]
        self._disk.write([(key, None) for key in [*keys, also]], is_wipe=True)

    def extents(self) -> list[Extent]:
        rows = list(self._disk.scan())
        return [Extent(FIRST_KEY, LAST_KEY, len(rows), sum(len(key) + len(value) for key, value in rows))]

    def figures(self) -> DatabaseFigures:
        rows = list(self._disk.scan())
        return DatabaseFigures(sum(len(key) + len(value) for key, value in rows), 0, 0, len(rows), 0, 0, False)

    def flush(self) -> None:
        """The database holds no write back, but a disk may refuse the file."""
        self._check_owner()
        self._disk.fail_if_due()

    def copy(self, folder: Path) -> None:
        self._check_owner()
        self._disk.copy(folder)

    def close(self) -> None:
        """The database holds no write back."""

    def _check_owner(self) -> None:
        """A killed process must not write: otherwise the simulation itself would be wrong."""
        assert self._owner is None or self._owner.is_alive, "a dead process wrote"


class MemoryCopy:
    """`database.RocksCopy` in memory."""

    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self._keys = keys
        self._values = values

    def cursor(self) -> Cursor:
        return _Cursor(self._keys, self._values)

    def close(self) -> None:
        """Nothing is open."""


class _Cursor:
    def __init__(self, keys: list[bytes], values: dict[bytes, bytes]) -> None:
        self._keys = keys
        self._values = values
        self._at = len(keys)

    def seek(self, key: bytes) -> None:
        self._at = bisect_left(self._keys, key)

    def valid(self) -> bool:
        return self._at < len(self._keys)

    def key(self) -> bytes:
        return self._keys[self._at]

    def value(self) -> bytes:
        return self._values[self._keys[self._at]]

    def next(self) -> None:
        self._at += 1

    def status(self) -> None:
        """The cursor never fails."""

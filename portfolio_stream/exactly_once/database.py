"""The store's database: RocksDB, behind the few operations that the store needs. A simulated disk has the same ones.

Every operation may raise any Exception, because rocksdict raises bare ones. `store` turns them into StoreFailed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from rocksdict import AccessType, BlockBasedOptions, Cache, Checkpoint, Options, Rdict, WriteBatch, WriteOptions

from portfolio_stream.exactly_once.state_memory import StateMemory

#: one is written to, the other one becomes a file. Memtables of 8 MiB would cost 2 us an event more: their files are
#: merged more often
MEMTABLES = 2
MEMTABLE_BLOOM_SHARE = 0.1  # of the write buffer: the look-up of an absent key takes 0.7 us instead of 5
BLOOM_BITS = 10.0  # for each key: the look-up of an absent key, as of each new event_id, reads no disk

TYPICAL_ROW_BYTES = 100  # compressed, as of a position or a seen event; until the first file tells
FIRST_KEY, LAST_KEY = b"", b"\xff" * 3  # no key of a store is outside

Item = tuple[bytes, bytes | None]


class Cursor(Protocol):
    """The entries that the database had when the cursor was made, in key order."""

    def seek(self, key: bytes) -> None: ...
    def valid(self) -> bool: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...
    def next(self) -> None: ...
    def status(self) -> None:
        """Raises if a failure made the cursor invalid. The end of the keys is no failure."""
        ...


class Extent(NamedTuple):
    """A part of the database, as it lies there: old versions of a row and deletions count too."""

    #: the first and the last key
    first: bytes
    last: bytes
    rows: int
    bytes: int


class DatabaseFigures(NamedTuple):
    """What the database tells of itself. Each figure costs less than a microsecond, also while it writes."""

    #: of the files that hold its newest version
    live_sst_bytes: int
    #: of rows that are in no file yet
    memtable_bytes: int
    block_cache_bytes: int
    #: an estimate: old versions and deletions count until they are merged
    keys: int
    #: that compactions have still to rewrite
    pending_compaction_bytes: int
    running_compactions: int
    #: it takes no write until compactions have caught up
    is_write_stopped: bool


class Database(Protocol):
    def get(self, key: bytes) -> bytes | None: ...
    def cursor(self) -> Cursor: ...
    def sequence(self) -> int:
        """A number that grows with each write."""
        ...

    def write(self, items: Iterable[Item]) -> None:
        """Write all items in order, or none of them. The value None deletes the key.

        The written items survive a killed process, but not a lost machine.
        """
        ...

    def delete(self, lower: bytes, upper: bytes, also: bytes) -> None:
        """Delete the keys of [lower, upper) and the key `also`: all of them, or none."""
        ...

    def extents(self) -> list[Extent]:
        """What the database knows of its size without reading a row."""
        ...

    def figures(self) -> DatabaseFigures: ...
    def flush(self) -> None:
        """Write to files what is written but in memory only, so that `copy` finds little of it."""
        ...

    def copy(self, folder: Path) -> None:
        """Make `folder`, which must not exist, a database of its own with the entries of this moment.

        If it raises, there is no such folder, and the database itself is as before.
        """
        ...

    def close(self) -> None: ...


class RocksDatabase:
    def __init__(self, path: Path, memory: StateMemory) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(path), _options(memory))
        self._write_options = WriteOptions()
        self.get = self._db.get  # the method itself, without a Python call around it: folds wait for this call

    def cursor(self) -> Cursor:
        return self._db.iter()  # type: ignore[no-any-return]

    def sequence(self) -> int:
        return self._db.latest_sequence_number()  # type: ignore[no-any-return]

    def write(self, items: Iterable[Item]) -> None:
        batch = WriteBatch(raw_mode=True)
        put, delete = batch.put, batch.delete
        for key, value in items:
            if value is None:
                delete(key)
            else:
                put(key, value)
        self._db.write(batch, self._write_options)

    def delete(self, lower: bytes, upper: bytes, also: bytes) -> None:
        batch = WriteBatch(raw_mode=True)
        batch.delete_range(lower, upper)
        batch.delete(also)
        self._db.write(batch, self._write_options)

    def extents(self) -> list[Extent]:
        """The files, and the memtables as one part: tens of microseconds.

        RocksDB tells the memory of a memtable and not the bytes of its rows: their rows count as those in the files.
        """
        files = [
            Extent(file["start_key"], file["end_key"], file["num_entries"], file["size"])
            for file in self._db.live_files()
        ]
        rows = sum(map(self._number, ("num-entries-active-mem-table", "num-entries-imm-mem-tables")))
        known = sum(file.rows for file in files)
        row_bytes = sum(file.bytes for file in files) / known if known else TYPICAL_ROW_BYTES
        return [*files, Extent(FIRST_KEY, LAST_KEY, rows, round(rows * row_bytes))]

    def figures(self) -> DatabaseFigures:
        number = self._number
        return DatabaseFigures(
            live_sst_bytes=number("live-sst-files-size"),
            memtable_bytes=number("size-all-mem-tables"),
            block_cache_bytes=number("block-cache-usage"),
            keys=number("estimate-num-keys"),
            pending_compaction_bytes=number("estimate-pending-compaction-bytes"),
            running_compactions=number("num-running-compactions"),
            is_write_stopped=number("is-write-stopped") == 1,
        )

    def _number(self, name: str) -> int:
        return self._db.property_int_value(f"rocksdb.{name}") or 0

    def flush(self) -> None:
        self._db.flush()

    def copy(self, folder: Path) -> None:
        """RocksDB links its files, which never change, and copies the short list of the files.

        rocksdict holds the GIL while it makes a checkpoint: some 2 ms. A checkpoint would also write the memtable to a
        file, so that is done before, without the GIL.
        """
        folder.parent.mkdir(exist_ok=True)
        self._db.flush()
        Checkpoint(self._db).create_checkpoint(str(folder))

    def close(self) -> None:
        self._db.close()


class RocksCopy:
    """What `RocksDatabase.copy` made, opened to be read. Any number of processes may read it."""

    def __init__(self, folder: Path) -> None:
        self._db = Rdict(str(folder), Options(raw_mode=True), access_type=AccessType.read_only())

    def cursor(self) -> Cursor:
        return self._db.iter()  # type: ignore[no-any-return]

    def close(self) -> None:
        self._db.close()


def _options(memory: StateMemory) -> Any:
    table = BlockBasedOptions()
    table.set_bloom_filter(BLOOM_BITS, False)
    table.set_block_cache(Cache(memory.block_cache))
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(memory.memtables // MEMTABLES)
    options.set_max_write_buffer_number(MEMTABLES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(3)
    options.set_block_based_table_factory(table)
    return options

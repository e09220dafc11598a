"""The store's database: RocksDB, behind the few operations that the store needs. A simulated disk has the same.

Whatever fails raises an Exception, rocksdict's being bare ones: `store` turns them into StoreFailed.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from rocksdict import BlockBasedOptions, Cache, Options, Rdict, WriteBatch, WriteOptions

BLOCK_CACHE_BYTES = 64 << 20
WRITE_BUFFER_BYTES = 32 << 20
MEMTABLE_BLOOM_SHARE = 0.1  # of the write buffer: a key that is not there costs 0.7 us instead of 5
BLOOM_BITS = 10.0  # a key that is not there costs no disk read: every new event_id asks for one

Item = tuple[bytes, bytes | None]


class Cursor(Protocol):
    """What stood in the database when the cursor was made, in key order."""

    def seek(self, key: bytes) -> None: ...
    def valid(self) -> bool: ...
    def key(self) -> bytes: ...
    def value(self) -> bytes: ...
    def next(self) -> None: ...
    def status(self) -> None:
        """Raises if it is not valid because of a failure."""
        ...


class Database(Protocol):
    def get(self, key: bytes) -> bytes | None: ...
    def cursor(self) -> Cursor: ...
    def sequence(self) -> int:
        """It grows with each write."""
        ...

    def write(self, items: Iterable[Item]) -> None:
        """All or nothing, in order; None deletes. What is written survives the process, not the machine."""
        ...

    def delete(self, lower: bytes, upper: bytes, also: bytes) -> None:
        """The keys of [lower, upper), and one more, all or nothing."""
        ...

    def close(self) -> None: ...


class RocksDatabase:
    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._db = Rdict(str(path), _options())
        self._write_options = WriteOptions()
        self.get = self._db.get  # without a call of Python's in between: folds wait for it

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

    def close(self) -> None:
        self._db.close()


def _options() -> Any:
    table = BlockBasedOptions()
    table.set_bloom_filter(BLOOM_BITS, False)
    table.set_block_cache(Cache(BLOCK_CACHE_BYTES))
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    options.set_write_buffer_size(WRITE_BUFFER_BYTES)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_SHARE)
    options.set_memtable_whole_key_filtering(True)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(3)
    options.set_block_based_table_factory(table)
    return options

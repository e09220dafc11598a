"""How the memory for a worker's state is shared out: PORTFOLIO_STATE_MEMORY bounds all parts together.

Not counted: Python and its modules, the transactions under way, and RocksDB's indexes and filters of its files (some
2.5 bytes a row). docs/operations.md has the arithmetic.
"""

from typing import NamedTuple

DEFAULT_MEBIBYTES = 304
PARTS = 19
#: of PARTS
VIEWS, BLOCK_CACHE, MEMTABLES, RECENT_ROWS = 8, 4, 4, 3


class StateMemory(NamedTuple):
    """Bytes."""

    #: decoded values in the views
    views: int
    #: blocks of RocksDB's files, decompressed
    block_cache: int
    #: RocksDB's newest rows, which are not in its files yet
    memtables: int
    #: committed rows that RocksDB does not have yet
    recent_rows: int

    @classmethod
    def of(cls, mebibytes: int) -> "StateMemory":
        part = (mebibytes << 20) // PARTS
        return cls(VIEWS * part, BLOCK_CACHE * part, MEMTABLES * part, RECENT_ROWS * part)


DEFAULT = StateMemory.of(DEFAULT_MEBIBYTES)

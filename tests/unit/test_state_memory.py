"""The setting that bounds the memory for a worker's state."""

from pathlib import Path

import pytest

from portfolio_stream.exactly_once.database import RocksDatabase
from portfolio_stream.exactly_once.state_memory import (
    BLOCK_CACHE,
    DEFAULT,
    MEMTABLES,
    PARTS,
    RECENT_ROWS,
    VIEWS,
    StateMemory,
)
from portfolio_stream.settings import Settings

ROW_BYTES = 1_000


@pytest.mark.parametrize("mebibytes", [64, 304, 5_000])
def test_the_parts_are_the_whole(mebibytes: int) -> None:
    """Nothing is given twice, and no part grows alone."""
    assert PARTS == VIEWS + BLOCK_CACHE + MEMTABLES + RECENT_ROWS
    assert (mebibytes << 20) - PARTS < sum(StateMemory.of(mebibytes)) <= mebibytes << 20


def test_the_default_is_the_settings() -> None:
    """A store without a setting is as large as a worker's."""
    assert StateMemory.of(Settings().state_memory) == DEFAULT


def test_memtables_are_bounded(tmp_path: Path) -> None:
    """A small memory makes files of rows that a large one still holds in its memtables."""
    files = {}
    for mebibytes in (64, 640):
        folder = tmp_path / str(mebibytes)
        database = RocksDatabase(folder, StateMemory.of(mebibytes))
        for start in range(0, 20_000, 1_000):
            rows = range(start, start + 1_000)
            database.write([(b"%08d" % number, number.to_bytes(4, "big") * (ROW_BYTES // 4)) for number in rows])
        files[mebibytes] = len(list(folder.glob("*.sst")))
        database.close()
    assert files[640] == 0 < files[64]

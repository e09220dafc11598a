"""Whatever happens to RocksDB's files: the store fails, or holds all that some moment of its past held, and says which.

Never a mixture of two moments: it would be folded on, and committed. What a crash of the machine can take is the end of
the newest log. Not covered, because RocksDB does not notice it: a MANIFEST that lost a record, which is synced before
anything depends on it, and a whole log that is gone from between others.
"""

import asyncio
import os
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.store import ChangelogPosition, Store, prefix_of

KEYS, KEYS_A_WRITE, WRITES, VALUE_BYTES = 200, 20, 60, 1_000
PARTITION = 3
PREFIX = prefix_of(PARTITION) + b"table\x00"
FLIPPED_BYTES = 16


class Killed(NamedTuple):
    """Its files, as a killed process leaves them, and what it held after each write."""

    folder: Path
    moments: list[dict[bytes, bytes]]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Killed:
    """Three tables, each with older and newer values of the same keys, and a log."""
    folder = tmp_path_factory.mktemp("made")
    moments = asyncio.run(_make(folder / "open", folder / "killed"))
    return Killed(folder / "killed", moments)


async def _make(path: Path, killed: Path) -> list[dict[bytes, bytes]]:
    random, held, moments = Random(1), dict[bytes, bytes](), []
    store = Store(path)
    for number in range(WRITES):
        if number and number % (WRITES // 4) == 0:
            store.close()  # makes a table of its log
            store = Store(path)
        keys = random.sample(range(KEYS), KEYS_A_WRITE)
        items = [(PREFIX + b"%05d" % key, random.randbytes(VALUE_BYTES)) for key in keys]
        await store.write(items, {PARTITION: ChangelogPosition(topic_id="t", offset=number, written_at=1.0)})
        held.update(items)
        moments.append(dict(held))
    shutil.copytree(path, killed)
    store.close()
    return moments


def gone(file: Path) -> None:
    file.unlink()


def empty(file: Path) -> None:
    os.truncate(file, 0)


def cut(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def shorter(file: Path) -> None:
    os.truncate(file, file.stat().st_size - 1)


def zeroed(file: Path) -> None:
    """The file system knew its size, and not what was in it."""
    size = file.stat().st_size
    os.truncate(file, size // 2)
    os.truncate(file, size)


def flipped(file: Path) -> None:
    """A few bytes in the middle."""
    with file.open("r+b") as opened:
        opened.seek(file.stat().st_size // 2)
        there = opened.read(FLIPPED_BYTES)
        opened.seek(-len(there), os.SEEK_CUR)
        opened.write(bytes(byte ^ 0xFF for byte in there))


DAMAGES = (gone, empty, cut, shorter, zeroed, flipped)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("which", ["*.log", "*.sst", "CURRENT"])
def test_a_damaged_store_fails_or_is_older(
    made: Killed, tmp_path: Path, which: str, damage: Callable[[Path], None]
) -> None:
    """Each file of the kind is damaged in a store of its own, which is read by key and by a scan.

    RocksDB waits for a second before it closes a damaged store, so the stores are read side by side.
    """
    files = sorted(made.folder.glob(which))
    assert files

    def read(file: Path) -> None:
        folder = tmp_path / file.name
        shutil.copytree(made.folder, folder)
        damage(folder / file.name)
        with suppress(StoreFailed):
            _read_all(folder, made.moments)

    with ThreadPoolExecutor(len(files)) as pool:
        list(pool.map(read, files))


@pytest.mark.parametrize("damage", [gone, empty, zeroed, flipped])
def test_a_damaged_manifest_is_refused(made: Killed, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """Its records have checksums, and the first ones name the log."""
    folder = tmp_path / "store"
    shutil.copytree(made.folder, folder)
    damage(next(folder.glob("MANIFEST-*")))
    with pytest.raises(StoreFailed):
        Store(folder)


@pytest.mark.parametrize(("which", "damage"), [("*.sst", flipped), ("*.sst", gone), ("CURRENT", cut)])
def test_damage_where_no_log_has_it_is_told(
    made: Killed, tmp_path: Path, which: str, damage: Callable[[Path], None]
) -> None:
    """So that the operator knows: a scan that ends at a damaged block would look like a table's end."""
    folder = tmp_path / "store"
    shutil.copytree(made.folder, folder)
    damage(sorted(folder.glob(which))[0])
    with pytest.raises(StoreFailed, match=str(folder)):
        _read_all(folder, made.moments)


@pytest.mark.parametrize("damage", [gone, empty, cut, shorter, zeroed, flipped])
def test_a_torn_log_gives_the_writes_before_it(made: Killed, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    """No operator is needed after a crash of the machine: the changelog has the rest."""
    folder = tmp_path / "store"
    shutil.copytree(made.folder, folder)
    damage(sorted(folder.glob("*.log"))[-1])
    assert WRITES - WRITES // 4 - 1 <= _read_all(folder, made.moments) < WRITES - 1


def test_the_store_is_whole_without_damage(made: Killed, tmp_path: Path) -> None:
    """Or the tests above would prove nothing."""
    folder = tmp_path / "store"
    shutil.copytree(made.folder, folder)
    assert WRITES - 1 == _read_all(folder, made.moments)


def _read_all(folder: Path, moments: list[dict[bytes, bytes]]) -> int:
    """The write that it holds all of, and nothing behind it. Raises StoreFailed."""
    store = Store(folder)
    try:
        position = store.position(PARTITION)
        assert position is not None
        expected = moments[position.offset]
        scanned = dict(store.scan(PREFIX))
        read = {key: value for key in moments[-1] if (value := store.get(key)) is not None}
    finally:
        store.close()
    assert (expected, expected) == (scanned, read)
    return position.offset

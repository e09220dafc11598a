"""Committed rows that wait in memory before they go to the database: visible at once, and lost by a killed process."""

import asyncio
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from random import Random

import pytest

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once import recent as module
from portfolio_stream.exactly_once.database import Item, RocksDatabase
from portfolio_stream.exactly_once.recent import (
    PERIOD_SECONDS,
    ROW_BYTES,
    STEPS,
    RecentRows,
    StoreRows,
    Written,
    merged,
)
from portfolio_stream.exactly_once.store import ChangelogPosition, Store, prefix_of

TABLE = b"numbers\x00"


def key(name: str, partition: int = 0) -> bytes:
    return prefix_of(partition) + TABLE + name.encode()


def written(partition: int = 0, /, **values: bytes | None) -> Written:
    return Written({key(name, partition): value for name, value in values.items()}, 0)


def position(offset: int) -> ChangelogPosition:
    return ChangelogPosition(topic_id="c", offset=offset, written_at=1.0)


async def commit(store: Store, offset: int, partition: int = 0, /, **values: bytes | None) -> None:
    await store.commit({partition: written(partition, **values)}, {partition: position(offset)})


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


async def test_every_reader_sees_a_commit_at_once(store: Store) -> None:
    """By key, by scan and in a snapshot; rows of the database, of a write on its way, and of later commits."""
    await commit(store, 1, a=b"1", b=b"1", c=b"1", e=b"1")
    await store.flush()
    await commit(store, 2, b=b"2", c=None, d=b"2")
    leaving = asyncio.create_task(store.flush())
    await asyncio.sleep(0)
    await commit(store, 3, a=b"3", e=None)
    for _ in range(2):
        expected = {"a": b"3", "b": b"2", "d": b"2"}
        assert [(key(name), value) for name, value in expected.items()] == store.scan(prefix_of(0))
        assert [(key("b"), b"2")] == store.scan(prefix_of(0), key("a"), 1)
        rows = store.rows(0)
        assert [(TABLE + name.encode(), value) for name, value in expected.items()] == list(rows.scan(b"", b"\xff"))
        assert list(expected.values()) == [rows.get(TABLE + name) for name in (b"a", b"b", b"d")]
        assert [None, None, None] == [rows.get(TABLE + b"c"), store.get(key("c")), store.get(key("e"))]
        assert position(3) == store.position(0)
        await leaving


async def test_a_snapshot_keeps_its_rows(store: Store) -> None:
    """Also those that were not in the database when it was taken."""
    await commit(store, 1, a=b"1", b=b"1")
    before = store.rows(0)
    await commit(store, 2, a=b"2", b=None)
    assert [(TABLE + b"a", b"1"), (TABLE + b"b", b"1")] == list(before.scan(b"", b"\xff"))
    await store.flush()
    assert [(TABLE + b"a", b"1"), (TABLE + b"b", b"1")] == list(before.scan(b"", b"\xff"))
    assert [(TABLE + b"a", b"2")] == list(store.rows(0).scan(b"", b"\xff"))


async def test_a_killed_process_leaves_a_moment_of_each_partition(tmp_path: Path) -> None:
    """And the changelog position that belongs to it: a replay brings the rest."""
    store = Store(tmp_path / "store")
    await commit(store, 1, a=b"1", b=b"1")
    await commit(store, 7, 5, a=b"7")
    await store.flush()
    await commit(store, 2, a=b"2", b=None)
    shutil.copytree(store.path, tmp_path / "killed")
    store.close()
    for folder, a, b, offset in ((tmp_path / "killed", b"1", b"1", 1), (store.path, b"2", None, 2)):
        found = Store(folder)
        assert (a, b, position(offset)) == (found.get(key("a")), found.get(key("b")), found.position(0))
        assert (b"7", position(7)) == (found.get(key("a", 5)), found.position(5))
        found.close()


async def test_rows_go_to_the_database_within_a_period(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if no other commit follows."""
    monkeypatch.setattr("portfolio_stream.exactly_once.store.PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(module, "PERIOD_SECONDS", 0.01)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    class Telling(RocksDatabase):
        def write(self, items: Iterable[Item]) -> None:
            super().write(items)
            loop.call_soon_threadsafe(arrived.set)

    store = Store(tmp_path / "store", Telling)
    await commit(store, 1, a=b"1")
    async with asyncio.timeout(10):
        await arrived.wait()
    store.close()


async def test_a_wipe_takes_recent_rows_too(store: Store) -> None:
    """Neither those that wait nor those on their way come back."""
    await commit(store, 1, a=b"1")
    leaving = asyncio.create_task(store.flush())
    await asyncio.sleep(0)
    await commit(store, 2, b=b"2")
    await store.wipe(0)
    await leaving
    await store.flush()
    assert ([], None) == (store.scan(prefix_of(0)), store.position(0))


async def test_a_replay_writes_behind_recent_rows(store: Store) -> None:
    """A replay's rows are newer than those that waited."""
    await commit(store, 1, a=b"1", b=b"1")
    await store.write([(key("a"), b"2")], {0: position(2)})
    assert (b"2", b"1", position(2)) == (store.get(key("a")), store.get(key("b")), store.position(0))


class Refusing(RocksDatabase):
    """A disk that refuses one write."""

    refuses = False

    def write(self, items: Iterable[Item]) -> None:
        if Refusing.refuses:
            Refusing.refuses = False
            raise OSError("no space left")
        super().write(items)


async def test_nothing_is_written_behind_refused_rows(tmp_path: Path) -> None:
    """The database would hold a later position without the refused rows. The next commit tells."""
    store = Store(tmp_path / "store", Refusing)
    await commit(store, 1, a=b"1")
    await store.flush()
    await commit(store, 2, a=b"2", b=b"2")
    Refusing.refuses = True
    with pytest.raises(StoreFailed, match="no space left"):
        await store.flush()
    with pytest.raises(StoreFailed, match="no space left"):
        await commit(store, 3, a=b"3")
    with pytest.raises(StoreFailed, match="no space left"):
        await store.write([(key("a"), b"4")], {0: position(4)})
    shutil.copytree(store.path, tmp_path / "killed")
    store.close()
    for folder, a, b, offset in ((tmp_path / "killed", b"1", None, 1), (store.path, b"3", b"2", 3)):
        found = Store(folder)
        assert (a, b, position(offset)) == (found.get(key("a")), found.get(key("b")), found.position(0))
        found.close()


async def test_a_refused_last_write_leaves_the_database_closed(tmp_path: Path) -> None:
    """The next store of this process can open the folder: RocksDB locks a database that is not closed."""
    store = Store(tmp_path / "store", Refusing)
    await commit(store, 1, a=b"1")
    await store.flush()
    await commit(store, 2, a=b"2")
    Refusing.refuses = True
    store.close()
    found = Store(store.path)
    assert (b"1", position(1)) == (found.get(key("a")), found.position(0))
    found.close()


# --- which partitions are due


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [1_000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])

    def go_on(seconds: float) -> None:
        now[0] += seconds

    return go_on


def test_each_step_of_a_period_writes_its_part(clock: Callable[[float], None]) -> None:
    """The oldest rows first; after a period every partition was due once."""
    recent = RecentRows(1 << 30)
    due: list[bytes] = []
    for number in range(2 * STEPS):
        recent.add(prefix_of(number), written(number, a=b"1"))
    for _ in range(STEPS):
        clock(PERIOD_SECONDS / STEPS)
        now = recent.due()
        assert [] == recent.due()
        for prefix in now:
            recent.written(prefix, recent.take(prefix))
            recent.add(prefix, written(int.from_bytes(prefix, "big"), a=b"2"))
        due += now
    assert [prefix_of(number) for number in range(2 * STEPS)] == due


def test_too_many_rows_are_due_at_once(clock: Callable[[float], None]) -> None:
    """The largest partition goes first. While too many rows are on their way, a commit waits."""
    recent = RecentRows(10 * ROW_BYTES)
    recent.add(prefix_of(3), written(3, a=b""))
    clock(PERIOD_SECONDS)
    assert [prefix_of(3)] == recent.due()
    recent.written(prefix_of(3), recent.take(prefix_of(3)))
    recent.add(prefix_of(1), Written({key(str(n), 1): b"" for n in range(4)}, 0))
    recent.add(prefix_of(2), Written({key(str(n), 2): b"" for n in range(6)}, 0))
    assert [] == recent.due()
    recent.add(prefix_of(1), written(1, a=b""))
    assert [prefix_of(2)] == recent.due()
    taken = recent.take(prefix_of(2))
    assert ([], False) == (recent.due(), recent.is_full)
    recent.add(prefix_of(1), Written({key("x", 1): b""}, 10 * ROW_BYTES))
    assert recent.is_full
    recent.written(prefix_of(2), taken)
    assert not recent.is_full


def test_layers_over_stored_rows() -> None:
    """The newest layer that has a key decides, whatever the order of keys."""
    random = Random(1)
    for _ in range(300):
        layers = tuple(
            {b"%d" % random.randrange(9): random.choice([None, b"%d" % number]) for _ in range(random.randrange(5))}
            for number in range(random.randrange(4))
        )
        stored: StoreRows = {b"%d" % random.randrange(9): b"s" for _ in range(random.randrange(6))}
        expected = dict(stored)
        for layer in reversed(layers):
            expected.update(layer)
        rows = ((name, value) for name, value in sorted(stored.items()) if value is not None and b"2" <= name < b"7")
        assert [
            (name, value) for name, value in sorted(expected.items()) if value is not None and b"2" <= name < b"7"
        ] == list(merged(rows, layers, b"2", b"7"))

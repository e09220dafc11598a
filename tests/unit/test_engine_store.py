"""What is on this worker's disk: its identity, the store, and the views in front of it."""

import asyncio
import errno
import json
import os
import re
import resource
import shutil
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from portfolio_stream.errors import (
    DataDirectoryInUse,
    DataDirectoryUnusable,
    PortfolioStreamError,
    StoreFailed,
    TableNameInvalid,
)
from portfolio_stream.exactly_once.identity import Identity, claim, resign
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import (
    META_KEY,
    ChangelogPosition,
    Meta,
    Store,
    encode_meta,
    prefix_of,
    read_meta,
)
from portfolio_stream.exactly_once.stored_view import ENTRY_BYTES, StoredView
from portfolio_stream.exactly_once.views import Views

NUMBERS: TableDefinition[int] = TableDefinition(
    name="numbers", encode=lambda value: b"%d" % value, decode=lambda data: int(data)
)


def free(identity: Identity) -> None:
    """What the end of its process does."""
    os.close(identity.lock)


# --- identity


def test_a_restart_is_the_same_member(tmp_path: Path) -> None:
    """Or it would wait for its own dead session."""
    first = claim(tmp_path, "w1")
    free(first)
    again = claim(tmp_path, "w1")
    assert first.member_id == again.member_id
    free(again)


def test_a_restart_knows_what_became_of_its_name(tmp_path: Path) -> None:
    """The next process learns that a join or a goodbye under the member id may be under way; the identity stays."""
    first = claim(tmp_path, "w1")
    first.name.unsettle()
    free(first)
    second = claim(tmp_path, "w1")
    assert (first.member_id, True) == (second.name.value, second.name.is_unsettled)
    second.name.settle(takes_next=True)
    free(second)
    third = claim(tmp_path, "w1")
    assert (f"{first.member_id}.1", False) == (third.name.value, third.name.is_unsettled)
    assert first.member_id == second.member_id == third.member_id
    free(third)


def test_a_name_that_cannot_be_kept_is_the_disks_fault(tmp_path: Path) -> None:
    """Nothing may be sent that the next process would not know of."""
    identity = claim(tmp_path, "w1")
    shutil.rmtree(identity.folder)
    with pytest.raises(StoreFailed, match="w1"):
        identity.name.unsettle()
    free(identity)


def test_a_locked_folder_is_refused(tmp_path: Path) -> None:
    """Two processes with one identity would fence each other."""
    first = claim(tmp_path, "w1")
    with pytest.raises(DataDirectoryInUse, match="w1"):
        claim(tmp_path, "w1")
    free(first)
    free(claim(tmp_path, "w1"))


def test_unnamed_workers_share_out_the_folders(tmp_path: Path) -> None:
    """Each takes one of its own, and after a restart finds one of them again."""
    first, second = claim(tmp_path, None), claim(tmp_path, None)
    assert 2 == len({first.member_id, second.member_id}) == len({first.folder, second.folder})
    free(first)
    again = claim(tmp_path, None)
    assert first.member_id == again.member_id
    free(second)
    free(again)


@pytest.mark.parametrize("killed", [0, 1])
def test_an_unnamed_worker_goes_on_for_a_killed_one(tmp_path: Path, killed: int) -> None:
    """And not for one that left, whose store is old and whose partitions others have."""
    both = claim(tmp_path, None), claim(tmp_path, None)
    resign(both[1 - killed])
    for identity in both:
        free(identity)
    again = claim(tmp_path, None)
    assert both[killed].member_id == again.member_id
    free(again)  # killed once more
    third = claim(tmp_path, None)
    assert both[killed].member_id == third.member_id
    free(third)


@pytest.mark.parametrize("field", ["host", "device", "inode", "instance_id"])
def test_an_identity_from_elsewhere_is_void(tmp_path: Path, field: str) -> None:
    """A copied folder's: another inode, another machine, another name."""
    first = claim(tmp_path, "w1")
    free(first)
    file = first.folder / "identity.json"
    stored = json.loads(file.read_text())
    stored[field] = stored[field] + 1 if isinstance(stored[field], int) else "other"
    file.write_text(json.dumps(stored))
    second = claim(tmp_path, "w1")
    assert first.member_id != second.member_id
    free(second)


def test_a_copied_folder_makes_its_own(tmp_path: Path) -> None:
    """The original is running meanwhile."""
    first = claim(tmp_path / "a", "w1")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    second = claim(tmp_path / "b", "w1")
    assert first.member_id != second.member_id
    free(first)
    free(second)


TORN = {
    "empty": lambda _: b"",
    "cut": lambda whole: whole[:20],
    "a list": lambda _: b"[]",
    "binary": lambda _: bytes(range(256)),
    "huge": lambda _: b"\0" * (65 << 10),
    "of a newer version": lambda _: b'{"version":9,"member":{"id":"x"}}',
    "a name that no broker takes": lambda whole: whole.replace(b'"member_id":"', b'"member_id":"../' + b"x" * 70_000),
    "no name": lambda whole: re.sub(rb'"member_id":"[^"]*"', b'"member_id":""', whole),
    "a negative number of names": lambda whole: whole.replace(b'"renames":0', b'"renames":-1'),
}


@pytest.mark.parametrize("how", TORN)
def test_a_torn_identity_is_made_anew(tmp_path: Path, how: str) -> None:
    """A fresh one costs one session time-out, a wrong one data."""
    first = claim(tmp_path, "w1")
    free(first)
    file = first.folder / "identity.json"
    whole = file.read_bytes()
    file.write_bytes(TORN[how](whole))
    assert whole != file.read_bytes()
    second = claim(tmp_path, "w1")
    assert first.member_id != second.member_id
    free(second)
    third = claim(tmp_path, "w1")
    assert second.member_id == third.member_id
    free(third)


@pytest.mark.parametrize("name", ["a b\nc", "wörker", "x" * 65, ".hidden"])
def test_a_folder_of_another_name_is_no_workers(tmp_path: Path, name: str) -> None:
    """Its name would stand in client ids, in the log and in requests of other workers."""
    free(claim(tmp_path, "w1"))
    (tmp_path / "w1").rename(tmp_path / name)
    made = claim(tmp_path, None)
    assert made.instance_id.startswith("worker-")
    free(made)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A bad setting: exit code 2, as for every other one."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DataDirectoryUnusable, match="file") as caught:
        claim(tmp_path / "file", "w1")
    assert 2 == caught.value.exit_code


@pytest.mark.parametrize(
    ("number", "exit_code"), [(errno.EACCES, 2), (errno.EROFS, 2), (errno.ENOSPC, 1), (errno.EIO, 1), (errno.EDQUOT, 1)]
)
@pytest.mark.parametrize("instance_id", ["w1", None])
def test_a_folder_without_permission_is_a_bad_setting_and_a_full_disk_is_none(
    number: int, exit_code: int, instance_id: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder helps against the one, room against the other; both name the folder and the reason."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(PortfolioStreamError, match=f"{tmp_path}.*{os.strerror(number)}") as caught:
        claim(tmp_path, instance_id)
    assert exit_code == caught.value.exit_code


# --- store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


def meta(offset: int) -> Meta:
    return Meta(topic_id="t", offset=offset, partitions=8, changelog="c", fold="f")


async def put(store: Store, partition: int, offset: int, **values: bytes | None) -> None:
    prefix = prefix_of(partition)
    items = [(prefix + b"numbers\x00" + key.encode(), value) for key, value in values.items()]
    items.append((prefix + META_KEY, encode_meta(meta(offset))))
    await store.write(items, {partition: ChangelogPosition(topic_id="c", offset=offset * 10, written_at=1.0)})


async def test_values_meta_and_position_are_written_together(tmp_path: Path) -> None:
    """And are there after the process has gone."""
    store = Store(tmp_path / "store")
    await put(store, 3, 7, a=b"1", b=b"2")
    await put(store, 3, 8, a=None)
    store.close()
    store = Store(tmp_path / "store")
    prefix = prefix_of(3) + b"numbers\x00"
    assert (None, b"2") == (store.get(prefix + b"a"), store.get(prefix + b"b"))
    assert (meta(8), ChangelogPosition(topic_id="c", offset=80, written_at=1.0)) == (store.meta(3), store.position(3))
    assert (None, None) == (store.meta(4), store.position(4))
    store.close()


async def test_a_wipe_takes_one_partition(store: Store) -> None:
    """Its neighbours keep theirs, also the last and the first key."""
    for partition in (4, 5, 6):
        await put(store, partition, 1, a=b"1", **{"\U0010ffff": b"2"})
    await store.wipe(5)
    assert [] == store.scan(prefix_of(5))
    assert (None, None) == (store.meta(5), store.position(5))
    for partition in (4, 6):
        assert 3 == len(store.scan(prefix_of(partition)))
        assert store.position(partition) is not None


async def test_a_snapshot_stays_what_it_was(store: Store) -> None:
    """Values and META of one moment, whatever is written, deleted or wiped meanwhile; only what is in the range."""
    await put(store, 3, 7, a=b"1", b=b"2", c=b"3")
    before = store.rows(3)
    await put(store, 3, 8, a=b"9", b=None, d=b"4")
    await store.wipe(3)
    assert (b"1", None, meta(7)) == (
        before.get(b"numbers\x00a"),
        before.get(b"numbers\x00d"),
        read_meta(before.get(META_KEY)),
    )
    assert [(b"numbers\x00b", b"2")] == list(before.scan(b"numbers\x00a\x00", b"numbers\x00c"))
    after = store.rows(3)
    assert (None, None, []) == (
        after.get(b"numbers\x00a"),
        read_meta(after.get(META_KEY)),
        list(after.scan(b"numbers\x00", b"o")),
    )


async def test_a_snapshot_ends_with_its_partition(store: Store) -> None:
    """Neither a scan nor a key reaches into the neighbours."""
    for partition in (4, 5, 6):
        await put(store, partition, partition, a=b"%d" % partition)
    assert [(META_KEY, encode_meta(meta(5))), (b"numbers\x00a", b"5")] == list(store.rows(5).scan(b"", b"\xff"))
    assert store.rows(5).get(b"") is None


async def test_a_snapshot_is_of_one_moment_while_the_store_is_written(store: Store) -> None:
    """Value, META and scanned rows all belong to the same transaction."""
    writing = asyncio.create_task(_write_numbers(store))
    seen = set()
    while not writing.done():
        snapshot = store.rows(3)
        found = read_meta(snapshot.get(META_KEY))
        if found is not None:
            number = b"%d" % found.offset
            assert [number, number] == [snapshot.get(b"numbers\x00a"), *dict(snapshot.scan(b"numbers", b"o")).values()]
            seen.add(number)
        await asyncio.sleep(0)
    await writing
    assert len(seen) > 10


async def _write_numbers(store: Store) -> None:
    for number in range(500):
        await put(store, 3, number, a=b"%d" % number)


async def test_a_long_read_runs_beside_the_loop(tmp_path: Path) -> None:
    """In a thread of its own, while writes go on; closing waits for it."""
    store = Store(tmp_path / "own")
    release = threading.Event()
    reading = asyncio.create_task(store.read_aside(lambda: release.wait(10) and threading.current_thread().name))
    await put(store, 0, 1, a=b"1")
    assert b"1" == store.get(prefix_of(0) + b"numbers\x00a")
    threading.Timer(0.05, release.set).start()
    store.close()
    assert release.is_set()
    assert "store-reads" in str(await reading)


async def test_the_store_is_written_in_order_of_calls(store: Store) -> None:
    """A later commit's value is never overwritten by an earlier one's; drained() waits for all."""
    writes = [asyncio.create_task(put(store, 0, number, a=b"%d" % number)) for number in range(50)]
    await asyncio.sleep(0)
    await store.drained()
    assert (b"49", meta(49)) == (store.get(prefix_of(0) + b"numbers\x00a"), store.meta(0))
    await asyncio.gather(*writes)


def test_a_store_that_fails_names_its_path(tmp_path: Path) -> None:
    """rocksdict raises bare Exceptions."""
    store = Store(tmp_path / "store")
    store.close()
    with pytest.raises(StoreFailed, match=str(store.path)):
        store.get(b"x")


def test_a_full_disk_fails_the_write_and_not_the_close(tmp_path: Path) -> None:
    """A worker that ends because of it still leaves the group and exits as every other does."""
    store = Store(tmp_path / "store")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(StoreFailed, match=str(store.path)):
            asyncio.run(store.write([(prefix_of(0) + b"numbers\x00a", b"1" * (2 << 20))], {}))
        store.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


# --- views


@pytest.fixture
async def view(store: Store) -> StoredView[int]:
    """a=1, b=2, c=3 are stored, in partition 2."""
    await put(store, 2, 1, a=b"1", b=b"2", c=b"3")
    await put(store, 3, 1, a=b"33")
    return StoredView(NUMBERS, store, 2)


def test_a_view_reads_through(view: StoredView[int]) -> None:
    """Its own partition and table; None for what is not there."""
    assert [1, 2, None] == [view[b"a"], view[b"b"], view[b"x"]]
    assert {} == view.dirty


def test_writes_are_taken_once(view: StoredView[int]) -> None:
    """None is a deletion; the values stay visible."""
    view.put(b"a", 10)
    view.put(b"a", 11)
    view.put(b"b", None)
    assert prefix_of(2) + b"numbers\x00" == view.prefix
    assert {b"a": 11, b"b": None} == view.take_dirty()
    assert {} == view.take_dirty()
    assert [11, None, 3] == [view[b"a"], view[b"b"], view[b"c"]]


def test_a_scan_merges_stored_older_and_new(view: StoredView[int]) -> None:
    """The newest of each key, deletions left out, in key order, by prefix."""
    view.put(b"a", 10)
    view.put(b"b", None)
    view.age()
    view.put(b"a", 100)
    view.put(b"aa", 5)
    assert view[b"zz"] is None  # a miss is remembered, and is no entry
    assert [(b"a", 100), (b"aa", 5), (b"c", 3)] == list(view.scan(b""))
    assert [(b"a", 100), (b"aa", 5)] == list(view.scan(b"a"))


def test_a_scan_of_what_is_stored_has_a_limit(view: StoredView[int]) -> None:
    """In pieces, by the last key; newest values, deletions named, what is not stored and other prefixes left out."""
    view.put(b"a", 10)
    view.put(b"aa", 5)
    view.age()
    view.put(b"b", None)
    assert [(b"a", 10), (b"b", None)] == view.scan_stored(b"", b"", 2)
    assert [(b"c", 3)] == view.scan_stored(b"", b"b", 2)
    assert [(b"b", None)] == view.scan_stored(b"b", b"", 9)
    assert [] == view.scan_stored(b"b", b"b", 9)


async def test_a_view_forgets_what_was_not_used_for_two_generations(view: StoredView[int], store: Store) -> None:
    """What was used in between stays."""
    assert [1, 2] == [view[b"a"], view[b"b"]]
    view.age()
    assert 1 == view[b"a"]
    view.age()
    await put(store, 2, 2, a=b"10", b=b"20")  # not how the engine writes; it shows where the value comes from
    assert [1, 20] == [view[b"a"], view[b"b"]]


# --- all views


OTHERS = replace(NUMBERS, name="others")


@pytest.fixture
def views(store: Store) -> Views:
    """Five entries of one byte fit into a generation."""
    return Views(store, {"numbers": NUMBERS, "others": OTHERS}, limit=2 * 5 * ENTRY_BYTES)


def test_a_large_table_makes_room_and_a_small_one_stays(views: Views) -> None:
    """The values of both stay readable, and no small table is read again because of a large one."""
    large, small = views.view(0, NUMBERS), views.view(0, OTHERS)
    for number in range(4):
        large.put(b"%d" % number, number)
    small.put(b"s", 1)
    large.take_dirty(), small.take_dirty()
    views.age(2, 1)
    assert (4, 1) == (len(large), len(small))
    large.put(b"4", 4)
    views.age(3, 2)
    assert (0, 1) == (len(large), len(small))
    assert [0, 1, 2, 3, 4] == [large[b"%d" % number] for number in range(5)]


def test_nothing_is_forgotten_before_it_is_stored(views: Views) -> None:
    """The store lags behind: however often the views age, a value that only they know stays."""
    view = views.view(0, NUMBERS)
    for number in range(9):
        view.put(b"%d" % number, number)
    view.take_dirty()
    for _ in range(3):
        views.age(3, 1)
    assert 9 == len(view)
    for opened in (4, 5, 6):
        for number in range(9):
            view.put(b"%d" % number, opened)
        views.age(opened, opened - 1)
        assert [opened] * 9 == [view[b"%d" % number] for number in range(9)]
        view.take_dirty()


def test_large_values_count_more(views: Views) -> None:
    """A view learns from the changelog how large its values are."""
    view = views.view(0, NUMBERS)
    view.put(b"a", 1)
    view.weigh(1, 5 * ENTRY_BYTES)
    views.age(2, 1)
    assert 0 == len(view)


def test_an_identity_is_a_value(tmp_path: Path) -> None:
    """Nobody changes who a process is."""
    identity = claim(tmp_path, "w1")
    with pytest.raises(AttributeError):
        identity.member_id = "x"  # type: ignore[misc]
    assert replace(identity) == identity
    free(identity)


@pytest.mark.parametrize("name", ["", "a\x00b"])
def test_a_tables_name_is_a_part_of_its_keys(name: str) -> None:
    """Keys of two tables, or the engine's own, would be told apart no more."""
    with pytest.raises(TableNameInvalid):
        TableDefinition(name=name, encode=NUMBERS.encode, decode=NUMBERS.decode)

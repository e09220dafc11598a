"""Where a replay begins, what it believes, and what it says of a changelog that holds no whole state."""

import asyncio
import threading
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once import replay as module
from portfolio_stream.exactly_once import replay_reading, replay_writes
from portfolio_stream.exactly_once.database import Item, RocksDatabase
from portfolio_stream.exactly_once.replay import ABSENCE_SHARE, AGING_SHARE, ChangelogReplay, Replayed
from portfolio_stream.exactly_once.replay_progress import Remaining
from portfolio_stream.exactly_once.replay_writes import newest_values
from portfolio_stream.exactly_once.store import ChangelogPosition, Store, prefix_of
from portfolio_stream.kafka.offset_lookup import EARLIEST, NO_OFFSET
from portfolio_stream.kafka.reader import BatchUnreadable
from portfolio_stream.kafka.record_batches import HEADER_BYTES, unreadable
from portfolio_stream.observe.events import RecoveryProgress

PARTITION = 3
TOMBSTONE_SECONDS = 2 * 3600.0  # as the changelog is set, and not as the contract says
KEY = prefix_of(PARTITION) + b"numbers\x00a"


class ReplayedLog:
    """A changelog: one record a batch, the key `numbers a`, the value its offset."""

    def __init__(self, first: int = 0, end: int = 5) -> None:
        self.first, self.end = first, end
        self.reading: dict[int, int] = {}
        self.asked_from: list[int] = []
        #: offset -> how often it is unreadable
        self.corrupt: dict[int, int] = {}

    def resume(self, partition: int, offset: int) -> None:
        self.reading[partition] = offset
        self.asked_from.append(offset)

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.reading.pop(partition, None)

    async def position(self, partition: int) -> int:
        return self.reading[partition]

    async def fetch(self, timeout_ms: int) -> dict[int, list[list[Any]]]:
        at = self.reading[PARTITION]
        if self.corrupt.get(at, 0):
            self.corrupt[at] -= 1
            raise BatchUnreadable(unreadable("log", PARTITION, bytes(HEADER_BYTES), at, "corrupt"))
        self.reading[PARTITION] = at + 1
        return {PARTITION: [[SimpleNamespace(key=KEY[2:], value=b"%d" % at, offset=at)]]}


@pytest.fixture
def log() -> ReplayedLog:
    return ReplayedLog()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    made = Store(tmp_path / "store")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _offsets(log: ReplayedLog, monkeypatch: pytest.MonkeyPatch) -> None:
    async def log_offsets(_: Any, topic: str, partitions: Collection[int], which: int) -> dict[int, int]:
        return dict.fromkeys(partitions, log.first if which == EARLIEST else log.end)

    monkeypatch.setattr(module, "log_offsets", log_offsets)


def new_replay(store: Store, log: Any, **options: Any) -> ChangelogReplay:
    topics: Any = SimpleNamespace(tombstone_seconds=TOMBSTONE_SECONDS)
    return ChangelogReplay(SimpleNamespace(), store, log, topic="log", topic_id="now", topics=topics, **options)  # type: ignore[arg-type]


async def run(store: Store, log: ReplayedLog, group_offset: int = 7) -> Replayed:
    replay = new_replay(store, log)
    return (await replay.run({PARTITION: group_offset}, lambda *_: None))[PARTITION]


async def stored(store: Store, *, topic_id: str = "now", offset: int = 2, absent: float = 0.0) -> None:
    """What a former run left: a value, and up to where the changelog is in it."""
    position = ChangelogPosition(topic_id=topic_id, offset=offset, written_at=time.time() - absent)
    await store.write([(KEY, b"old"), (prefix_of(PARTITION) + b"numbers\x00b", b"kept")], {PARTITION: position})


def kept(store: Store) -> bool:
    return store.get(prefix_of(PARTITION) + b"numbers\x00b") == b"kept"


async def test_a_store_is_continued(store: Store, log: ReplayedLog) -> None:
    """Only the tail is read."""
    await stored(store)
    assert Replayed(3) == await run(store, log)
    assert ([2], b"4", True) == (log.asked_from, store.get(KEY), kept(store))
    position = store.position(PARTITION)
    assert position is not None
    assert ("now", 5) == (position.topic_id, position.offset)


async def test_an_empty_store_is_filled(store: Store, log: ReplayedLog) -> None:
    """From the beginning."""
    assert Replayed(5) == await run(store, log)
    assert ([0], b"4") == (log.asked_from, store.get(KEY))


@pytest.mark.parametrize(
    "found",
    [{"topic_id": "before"}, {"absent": TOMBSTONE_SECONDS * ABSENCE_SHARE + 1}],
    ids=["of another topic", "tombstones may be gone"],
)
async def test_what_cannot_be_continued_is_made_anew(store: Store, log: ReplayedLog, found: dict[str, Any]) -> None:
    """Wiped first: a key that was deleted meanwhile would stay."""
    await stored(store, **found)
    assert Replayed(5) == await run(store, log)
    assert ([0], b"4", False) == (log.asked_from, store.get(KEY), kept(store))


async def test_a_replay_that_is_interrupted_makes_the_store_no_younger(store: Store, log: ReplayedLog) -> None:
    """The tombstones that it has not reached are as old as before: two interruptions must not outlast them."""
    await stored(store, absent=600.0)
    before = store.position(PARTITION)
    log.corrupt[3] = 99  # the replay ends behind offset 2
    assert (await run(store, log)).problem is not None
    after = store.position(PARTITION)
    assert before is not None and after is not None
    assert (3, before.written_at) == (after.offset, after.written_at)


async def test_a_replay_that_reaches_the_end_counts_from_the_look_at_the_end(store: Store, log: ReplayedLog) -> None:
    """What was written since then stands behind the position."""
    await stored(store, absent=600.0)
    began = time.time()
    await run(store, log)
    position = store.position(PARTITION)
    assert position is not None and 5 == position.offset
    assert began <= position.written_at <= time.time()


async def test_a_whole_store_says_so_anew_before_it_looks_too_old(store: Store, log: ReplayedLog) -> None:
    """An idle partition that is followed for weeks is not wiped; nothing is written while its store looks young."""
    for absent, is_renewed in (
        (AGING_SHARE * TOMBSTONE_SECONDS - 60, False),
        (AGING_SHARE * TOMBSTONE_SECONDS + 1, True),
    ):
        await stored(store, offset=5, absent=absent)
        before, began = store.position(PARTITION), time.time()
        assert Replayed(0) == await run(store, log)
        after = store.position(PARTITION)
        assert before is not None and after is not None
        assert (5, is_renewed) == (after.offset, after.written_at >= began)
        assert is_renewed or before == after


async def test_a_changelog_that_ends_too_early_is_believed_when_it_lasts(
    store: Store, log: ReplayedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader that has just woken does not know what its successor wrote, nor that there is one."""
    await stored(store, offset=6)
    replay = new_replay(store, log)
    assert {} == await replay.run({PARTITION: 7}, lambda *_: None)
    log.end = 6
    assert {PARTITION: Replayed(0)} == await replay.run({PARTITION: 7}, lambda *_: None)
    log.end = 5
    assert {} == await replay.run({PARTITION: 7}, lambda *_: None)
    assert kept(store)
    monkeypatch.setattr(module, "BELIEF_SECONDS", 0.0)
    assert {PARTITION: Replayed(5)} == await replay.run({PARTITION: 7}, lambda *_: None)
    assert not kept(store)


async def test_an_end_that_an_earlier_recovery_saw_is_no_belief(
    store: Store, log: ReplayedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partition was given back meanwhile: the end may have been there and gone again."""
    now = time.monotonic()
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    await stored(store, offset=6)
    replay = new_replay(store, log)
    assert {} == await replay.run({PARTITION: 7}, lambda *_: None)
    now += module.BELIEF_SECONDS + 1
    replay.begin([PARTITION])
    assert {} == await replay.run({PARTITION: 7}, lambda *_: None)
    now += module.BELIEF_SECONDS + 1
    assert {PARTITION: Replayed(5)} == await replay.run({PARTITION: 7}, lambda *_: None)


async def test_the_absence_is_each_partitions_own(store: Store, log: ReplayedLog) -> None:
    """A partition that was elsewhere for a week is stale, whatever else was written here meanwhile."""
    await stored(store, absent=TOMBSTONE_SECONDS * ABSENCE_SHARE + 1)
    await store.write(
        [(prefix_of(1) + b"numbers\x00a", b"1")],
        {1: ChangelogPosition(topic_id="now", offset=9, written_at=time.time())},
    )
    assert Replayed(5) == await run(store, log)


async def test_an_empty_changelog_replaces_no_store(store: Store, log: ReplayedLog) -> None:
    """The group has committed: what the store holds may be the only copy."""
    log.end = 0
    await stored(store, topic_id="before")
    assert Replayed(0) == await run(store, log, group_offset=7)
    assert kept(store)


async def test_a_new_cluster_starts_afresh(store: Store, log: ReplayedLog) -> None:
    """Nothing was ever committed there: the store is another cluster's."""
    log.end = 0
    await stored(store, topic_id="before")
    assert Replayed(0) == await run(store, log, group_offset=NO_OFFSET)
    assert not kept(store)


@pytest.mark.parametrize("offset", [None, 2])
async def test_a_trimmed_changelog_is_no_state(store: Store, log: ReplayedLog, offset: int | None) -> None:
    """What stood before its beginning is gone, and nobody can say what it was."""
    log.first = 3
    if offset is not None:
        await stored(store, offset=offset)
    replayed = await run(store, log)
    assert "begins at 3" in (replayed.problem or "") and [] == log.asked_from


async def test_a_store_beyond_the_trim_is_continued(store: Store, log: ReplayedLog) -> None:
    """It has what is gone."""
    log.first = 2
    await stored(store, offset=3)
    assert Replayed(2) == await run(store, log)
    assert kept(store)


async def test_damage_on_the_way_is_read_again(store: Store, log: ReplayedLog) -> None:
    """Twice; then the batch is fine."""
    log.corrupt = {3: 2}
    assert Replayed(5) == await run(store, log)


async def test_an_unreadable_changelog_is_said(store: Store, log: ReplayedLog) -> None:
    """After three tries at one offset."""
    log.corrupt = {3: 3}
    replayed = await run(store, log)
    assert "offsets 3 to 3 of log-3 cannot be read: its CRC is wrong" in (replayed.problem or "")
    assert {} == log.reading


class LongLogs(ReplayedLog):
    """Of several partitions, with ends of their own; a fetch brings a record of each that is read."""

    def __init__(self, ends: dict[int, int]) -> None:
        super().__init__()
        self.ends = ends

    async def fetch(self, timeout_ms: int) -> dict[int, list[list[Any]]]:
        found = {partition: at for partition, at in self.reading.items() if at < self.ends[partition]}
        self.reading |= {partition: at + 1 for partition, at in found.items()}
        return {p: [[SimpleNamespace(key=KEY[2:], value=b"%d" % at, offset=at)]] for p, at in found.items()}


@pytest.fixture
def logs(monkeypatch: pytest.MonkeyPatch) -> LongLogs:
    made = LongLogs({1: 3, 2: 50, 3: 90})

    async def log_offsets(_: Any, topic: str, partitions: Collection[int], which: int) -> dict[int, int]:
        return {partition: 0 if which == EARLIEST else made.ends[partition] for partition in partitions}

    monkeypatch.setattr(module, "log_offsets", log_offsets)
    return made


async def test_a_partition_does_not_wait_for_anothers_replay(
    store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is told when it is at its end; what was read of the others is not read again."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    replay = new_replay(store, logs)
    left, told = {1: 7, 2: 7, 3: 7}, []
    while left:
        replayed = await replay.run(left, lambda *_: None)
        told.append(replayed)
        left = {partition: offset for partition, offset in left.items() if partition not in replayed}
    assert [{1: Replayed(3)}, {2: Replayed(50)}, {3: Replayed(90)}] == told
    assert [0, 0, 3, 0, 47] == logs.asked_from
    assert b"89" == store.get(KEY)


async def test_short_replays_are_told_together(store: Store, logs: LongLogs) -> None:
    """To ask again after each would cost a restart more than it gains."""
    replay = new_replay(store, logs)
    logs.ends = {1: 3, 2: 5, 3: 0}
    assert {1: Replayed(3), 2: Replayed(5), 3: Replayed(0)} == await replay.run({1: 7, 2: 7, 3: -1}, lambda *_: None)


async def test_a_changelog_that_hangs_holds_no_other_partition(store: Store, logs: LongLogs) -> None:
    """Its last stable offset stands still: nobody ends a transaction that the broker has forgotten."""
    replay = new_replay(store, logs)

    async def hangs(timeout_ms: int) -> dict[int, list[list[Any]]]:
        found = await LongLogs.fetch(logs, timeout_ms)
        if 2 in found:
            logs.reading[2] -= 1
            del found[2]
        return found

    logs.fetch = hangs  # type: ignore[method-assign]
    assert {1: Replayed(3)} == await replay.run({1: 7, 2: 7}, lambda *_: None)
    assert {} == logs.reading


async def test_a_partition_that_cannot_be_asked_about_yet_waits_for_no_replay(
    store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its offset is held by its dead owner's transaction: who asks for it must be heard between."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    replay = new_replay(store, logs)
    assert {} == await replay.run({2: 7}, lambda *_: None, others=1)
    assert {2: Replayed(50)} == await replay.run({2: 7}, lambda *_: None)


async def test_a_stretch_without_records_is_read_once(
    store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Aborted transactions only: a turn that ends amid them is no reason to begin again. What was not read stays as old
    as it was, for tombstones may be gone."""
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.05)
    replay = new_replay(store, logs)

    async def aborted(timeout_ms: int) -> dict[int, list[list[Any]]]:
        await asyncio.sleep(0.04)
        if 2 in logs.reading:
            logs.reading[2] += 10
        return {}

    monkeypatch.setattr(logs, "fetch", aborted)
    await stored(store, absent=60.0)
    before = store.position(PARTITION)
    told: list[int] = []
    for _ in range(50):
        if not told:
            told += await replay.run({2: 7, PARTITION: 7}, lambda *_: None, others=1)
    assert ([2], before) == (told, store.position(PARTITION))


async def test_a_wipe_that_a_cancelled_replay_began_is_over_before_the_next_looks(
    tmp_path: Path, log: ReplayedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wipe goes on in the store's thread. A replay that read the position meanwhile would go on in a store that is
    emptied under it."""
    monkeypatch.setattr(module, "BELIEF_SECONDS", 0.0)
    begins, may_wipe = threading.Event(), threading.Event()

    class StallingDatabase(RocksDatabase):
        def delete(self, lower: bytes, upper: bytes, also: bytes) -> None:
            begins.set()
            may_wipe.wait(5)
            super().delete(lower, upper, also)

    store = Store(tmp_path / "store", StallingDatabase)
    await stored(store, offset=6)
    replay = new_replay(store, log)
    first = asyncio.create_task(replay.run({PARTITION: 7}, lambda *_: None))
    assert await asyncio.to_thread(begins.wait, 5)
    first.cancel()
    log.end = 8  # the leader has heard of its successor
    second = asyncio.create_task(replay.run({PARTITION: 7}, lambda *_: None))
    await asyncio.sleep(0.05)  # it does not look before
    may_wipe.set()
    assert {PARTITION: Replayed(8)} == await second
    assert ([0], b"7") == (log.asked_from, store.get(KEY))
    store.close()


async def test_a_cancelled_replay_writes_nothing_after_its_end(tmp_path: Path, log: ReplayedLog) -> None:
    """The owner writes to the partition next: a write that was begun must be over when the replay is."""
    begins, may_write = threading.Event(), threading.Event()

    class StallingDatabase(RocksDatabase):
        def write(self, items: Iterable[Item]) -> None:
            begins.set()
            may_write.wait(5)
            super().write(items)

    store = Store(tmp_path / "store", StallingDatabase)
    replay = asyncio.create_task(new_replay(store, log).run({PARTITION: 7}, lambda *_: None))
    assert await asyncio.to_thread(begins.wait, 5)
    replay.cancel()
    asyncio.get_running_loop().call_later(0.05, may_write.set)
    with pytest.raises(asyncio.CancelledError):
        await replay
    assert may_write.is_set() and store.get(KEY) == b"4"
    store.close()


async def test_what_one_fetch_brings_is_written_at_once(
    store: Store, log: ReplayedLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A transaction is a batch of some ten records; a write of each waited for the folds beside it: 45 seconds for
    100,000 records instead of two.
    """
    written: list[int] = []
    write = store.write

    async def noted(items: Any, marks: Any) -> None:
        whole = list(items)
        written.append(len(whole))
        await write(whole, marks)

    async def fetch(timeout_ms: int) -> dict[int, list[list[Any]]]:
        batches = [(await ReplayedLog.fetch(log, timeout_ms))[PARTITION][0] for _ in range(log.end)]
        return {PARTITION: batches}

    monkeypatch.setattr(store, "write", noted)
    monkeypatch.setattr(log, "fetch", fetch)
    assert Replayed(5) == await run(store, log)
    assert ([1, 0], b"4") == (written, store.get(KEY))  # five values of one key; the last write marks the end


async def test_the_newest_values_are_written_in_key_order() -> None:
    """RocksDB takes sorted keys several times as fast. A deletion is a value, too."""
    rows = [SimpleNamespace(key=key, value=value) for key, value in [(b"b", b"1"), (b"a", b"2"), (b"b", None)]]
    assert [(b"\x00\x03a", b"2"), (b"\x00\x03b", None)] == list(newest_values(PARTITION, [rows[:1], rows[1:]]))


async def test_the_shortest_replays_are_read_first(store: Store, logs: LongLogs) -> None:
    """Two at once: the first partition gives outputs long before the last one has reached its end."""
    logs.ends = {0: 40, 1: 90, 2: 3, 3: 50}
    replay, at_once, resumed = new_replay(store, logs), 0, []
    resume, fetch = logs.resume, logs.fetch

    def noted(partition: int, offset: int) -> None:
        resumed.append(partition)
        resume(partition, offset)

    async def fetched(timeout_ms: int) -> dict[int, list[list[Any]]]:
        nonlocal at_once
        at_once = max(at_once, len(logs.reading))
        return await fetch(timeout_ms)

    logs.resume, logs.fetch = noted, fetched  # type: ignore[method-assign]
    replayed = await replay.run(dict.fromkeys(range(4), 7), lambda *_: None)
    assert {0: Replayed(40), 1: Replayed(90), 2: Replayed(3), 3: Replayed(50)} == replayed
    assert (2, [2, 0, 3, 1]) == (at_once, resumed)


async def test_only_a_changelog_that_hangs_is_waited_for(
    store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator who is told to look for hanging transactions must not be told so by a long replay that goes on."""
    monkeypatch.setattr(replay_reading, "HANGING_FETCHES", 5)
    replay, told = new_replay(store, logs), []
    fetch, empty = logs.fetch, 0

    async def hangs(timeout_ms: int) -> dict[int, list[list[Any]]]:
        nonlocal empty
        if logs.reading.get(2) == 20 and empty < 10:
            empty += 1
            return {}
        return await fetch(timeout_ms)

    logs.fetch = hangs  # type: ignore[method-assign]
    assert {2: Replayed(50)} == await replay.run({2: 7}, lambda partitions, what: told.append((*partitions, what)))
    assert [(2, module.CHANGELOG_END)] * 6 == told


async def test_partitions_that_hang_make_room_for_others(store: Store, logs: LongLogs) -> None:
    """The two shortest changelogs have no leader that answers: the others are read all the same."""
    replay = new_replay(store, logs)
    logs.ends = {0: 5, 1: 6, 2: 50, 3: 90}
    fetch = logs.fetch

    async def hangs(timeout_ms: int) -> dict[int, list[list[Any]]]:
        found = await fetch(timeout_ms)
        for partition in found.keys() & {0, 1}:
            logs.reading[partition] -= 1
            del found[partition]
        return found

    logs.fetch = hangs  # type: ignore[method-assign]
    assert {2: Replayed(50), 3: Replayed(90)} == await replay.run(dict.fromkeys(range(4), 7), lambda *_: None)


@pytest.mark.parametrize(("is_busy", "most"), [(True, 4), (False, 16)])
async def test_a_replay_beside_folds_writes_little_at_once(
    store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch, is_busy: bool, most: int
) -> None:
    """Sorting holds the GIL: partitions that run would stand still."""
    monkeypatch.setattr(module, "FEW_RECORDS", 4)
    monkeypatch.setattr(module, "MANY_RECORDS", 16)
    every_record = lambda _, batches: [(b"k", b"v") for batch in batches for _ in batch]  # noqa: E731
    monkeypatch.setattr(replay_writes, "newest_values", every_record)
    logs.ends, written, write = {2: 50}, [], store.write

    async def noted(items: Any, marks: Any) -> None:
        written.append(len(items))
        await write(items, marks)

    monkeypatch.setattr(store, "write", noted)
    replay = new_replay(store, logs, is_busy=lambda: is_busy)
    assert {2: Replayed(50)} == await replay.run({2: 7}, lambda *_: None)
    assert most == max(written)


async def test_a_failed_write_ends_the_replay(store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although the replay reads on while the store's thread writes: the position would say more than the store has."""
    monkeypatch.setattr(module, "MANY_RECORDS", 4)

    async def fails(items: Any, marks: Any) -> None:
        raise StoreFailed(store.path, "disk full")

    monkeypatch.setattr(store, "write", fails)
    with pytest.raises(StoreFailed):
        await new_replay(store, logs).run({1: 7, 2: 7, 3: 7}, lambda *_: None)
    assert store.position(2) is None


async def test_a_long_replay_tells_how_far_it_is(store: Store, logs: LongLogs, monkeypatch: pytest.MonkeyPatch) -> None:
    """Now and then, and for whoever asks; a partition that has ended is no longer part of it."""
    now, told = time.monotonic(), []
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    replay = new_replay(store, logs, tell=told.append)
    fetch = logs.fetch

    async def slow(timeout_ms: int) -> dict[int, list[list[Any]]]:
        nonlocal now
        now += 0.5
        return await fetch(timeout_ms)

    logs.fetch = slow  # type: ignore[method-assign]
    monkeypatch.setattr(module, "GATHER_SECONDS", 0.0)
    assert {1: Replayed(3)} == await replay.run({1: 7, 2: 7, 3: 7}, lambda *_: None)
    assert {2: Remaining(3, 47), 3: Remaining(0, 90)} == replay.progress.now(now).by_partition
    assert {2: Replayed(50)} == await replay.run({2: 7, 3: 7}, lambda *_: None)
    (first, *_) = told
    assert (
        RecoveryProgress(
            partitions=(2, 3), percent=12, records_remaining=123, records_per_second=4.0, seconds_left=30.75
        )
        == first
    )

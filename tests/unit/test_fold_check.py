"""How the state was folded is seen before the group is joined, wherever META lies near a changelog partition's end."""

import asyncio
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError

from portfolio_stream.errors import FoldMismatch
from portfolio_stream.exactly_once import fold_check
from portfolio_stream.exactly_once.fold_check import check_fold
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, encode_meta, prefix_of
from portfolio_stream.kafka.offset_lookup import EARLIEST

MINE, OTHER = "version=2 deduplication_window=500", "version=2 deduplication_window=10000"
OLDER = "version=1 deduplication_window=500"


def meta(fold: str, changelog: str = "c") -> bytes:
    return encode_meta(Meta(topic_id="t", offset=5, partitions=2, changelog=changelog, fold=fold))


class Changelog:
    """Partitions with records at some offsets; what lies between them are markers and aborted records."""

    def __init__(self, ends: dict[int, int], records: dict[int, dict[int, tuple[bytes, bytes | None]]]) -> None:
        self.ends = ends
        self.records = records
        self.positions: dict[int, int] = {}
        self.fetches = 0

    async def log_offsets(
        self, client: Any, topic: str, partitions: Collection[int], which: int, isolation_level: int = 0
    ) -> dict[int, int]:
        return {p: 0 if which == EARLIEST else self.ends[p] for p in partitions if p in self.ends}

    def resume(self, partition: int, offset: int) -> None:
        self.positions[partition] = offset

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self.positions.pop(partition, None)

    async def position(self, partition: int) -> int:
        return self.positions[partition]

    async def fetch(self, timeout_ms: int) -> dict[int, Any]:
        self.fetches += 1
        found = {}
        for partition, start in self.positions.items():
            rows = self.records.get(partition, {})
            batch = [MemoryRecord(at, 1, *rows[at]) for at in sorted(rows) if at >= start]
            if batch:
                found[partition] = [batch]
            self.positions[partition] = self.ends[partition]
        await asyncio.sleep(0)
        return found


async def look(
    monkeypatch: pytest.MonkeyPatch, folder: Path, changelog: Changelog, stored: bytes | None = None
) -> bool:
    """Whether a fold like ours is known. Raises FoldMismatch."""
    monkeypatch.setattr(fold_check, "log_offsets", changelog.log_offsets)
    store = Store(folder / "store")
    if stored is not None:
        await store.write([(prefix_of(0) + META_KEY, stored)], {})
    try:
        is_known = await check_fold(
            object(),  # type: ignore[arg-type]
            changelog,  # type: ignore[arg-type]
            store,
            topic="log",
            topic_id="c",
            partitions=2,
            fold=MINE,
            older_folds=(OLDER,),
        )
    finally:
        store.close()
    assert {} == changelog.positions
    return is_known


@pytest.mark.parametrize("behind", [1, 10, 900, 10_000])
async def test_an_older_fold_is_found_behind_aborted_transactions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, behind: int
) -> None:
    """One fetch in the usual case, a few more behind a long aborted transaction. The error says how to start."""
    rows = {99: (META_KEY, meta(MINE)), 100: (b"totals\x00s", b"1"), 101: (META_KEY, meta(OTHER))}
    changelog = Changelog({0: 0, 1: 102 + behind}, {1: rows})
    with pytest.raises(FoldMismatch) as refused:
        await look(monkeypatch, tmp_path, changelog)
    assert "The state of partition 1" in refused.value.cause
    assert "Start the worker with PORTFOLIO_DEDUPLICATION_WINDOW=10000. To fold" in refused.value.action
    assert changelog.fetches <= 4 and (behind > 1 or changelog.fetches == 1)


async def test_an_older_fold_that_is_readable_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whether the changelog has it or the store."""
    assert await look(monkeypatch, tmp_path, Changelog({0: 0, 1: 102}, {1: {101: (META_KEY, meta(OLDER))}}))
    assert await look(monkeypatch, tmp_path, Changelog({}, {}), stored=meta(OLDER))


async def test_the_newest_meta_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Also against a store that is older than the changelog."""
    rows = {100: (META_KEY, meta(OTHER)), 101: (META_KEY, meta(MINE))}
    await look(monkeypatch, tmp_path, Changelog({0: 103, 1: 0}, {0: rows}), stored=meta(OTHER))


async def test_the_store_tells_where_the_changelog_does_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """If it was written from this very changelog: another one's state is wiped at the recovery."""
    await look(monkeypatch, tmp_path, Changelog({}, {}), stored=meta(OTHER, changelog="deleted"))
    with pytest.raises(FoldMismatch):
        await look(monkeypatch, tmp_path, Changelog({}, {}), stored=meta(OTHER))


async def test_what_cannot_be_told_is_no_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No leader, no META, a META of a stranger, a changelog that hangs: recovery decides later."""
    changelog = Changelog({0: 50, 1: 9}, {0: {3: (b"x\x00y", b"1")}, 1: {7: (META_KEY, b"\xc1")}})
    await look(monkeypatch, tmp_path, changelog)

    async def away(*_: Any) -> Any:
        raise NodeNotReadyError

    async def hangs(_: int) -> dict[int, Any]:
        await asyncio.Event().wait()
        return {}

    changelog.fetch = hangs  # type: ignore[method-assign]
    monkeypatch.setattr(fold_check, "CHECK_SECONDS", 0.01)
    await look(monkeypatch, tmp_path, changelog)
    changelog.log_offsets = away  # type: ignore[method-assign]
    await look(monkeypatch, tmp_path, changelog)


@pytest.mark.parametrize("forged", [b"\xc1", b"\x81\xa4fold\xa2\xff\xfe", b""])
async def test_a_meta_that_cannot_be_read_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, forged: bytes
) -> None:
    """Neither in the changelog, whatever its bytes are, nor in the store: recovery halts that partition alone."""
    changelog = Changelog({0: 5, 1: 9}, {0: {4: (META_KEY, forged)}, 1: {7: (META_KEY, meta(MINE))}})
    assert await look(monkeypatch, tmp_path, changelog, stored=forged)


async def test_one_partition_that_was_folded_otherwise_ends_no_worker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No worker folds one partition otherwise than another: somebody else wrote that META, and recovery halts it."""
    rows = {0: {4: (META_KEY, meta(OTHER))}, 1: {7: (META_KEY, meta(MINE))}}
    assert await look(monkeypatch, tmp_path, Changelog({0: 5, 1: 9}, rows))
    with pytest.raises(FoldMismatch):
        await look(monkeypatch, tmp_path, Changelog({0: 5}, {0: rows[0]}))


@pytest.mark.parametrize(
    ("found", "action"),
    [
        (
            "version=1 deduplication_window=500",
            "Start the worker with the version of the code whose fold is 1. To fold",
        ),
        (
            "version=1 deduplication_window=9",
            "Start the worker with the version of the code whose fold is 1 and PORTFOLIO_DEDUPLICATION_WINDOW=9. To ",
        ),
        ("sensors 7", "Start the worker with the version of the code whose fold is sensors 7. To fold"),
    ],
)
def test_what_differs_is_named(found: str, action: str) -> None:
    """Variable and value, or the version; an app that names its fold freely is told that name."""
    assert FoldMismatch(3, found, MINE).action.startswith(action)

"""The ring of seen_chunks: against a plain list of ids, its bound for one record, restarts, and states without it."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.portfolio_events import Counts, fold_slice
from agents.seen_ring import SWEPT
from portfolio_stream.domain.deduplication import SeenEvent, fingerprint
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord, MemoryView
from portfolio_stream.exactly_once.recent import StoreRows, Written
from portfolio_stream.exactly_once.store import Store, prefix_of
from portfolio_stream.exactly_once.transaction import Batches
from portfolio_stream.exactly_once.views import Views
from tables.portfolios import PORTFOLIOS
from tables.seen_chunks import CHUNK, SEEN_CHUNKS, number_of, slots
from tables.seen_events import SEEN_EVENTS

KEY, PREFIX = b"P1", b"P1\x00"
SURPLUS = 2 * CHUNK
IDS = st.integers(0, 40).map("e{}".format)
WINDOWS = st.sampled_from([1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 3])


def record(offset: int, event_id: str) -> MemoryRecord:
    event = {"event_id": event_id, "type": "cash", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z"}
    return MemoryRecord(offset, 1000, KEY, json.dumps(event | {"amount": "1", "currency": "USD"}).encode())


def fold(piece: Any, window: int) -> Counts:
    return fold_slice(piece, input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=window)


class Reference:
    """The ids of all accepted events, oldest first."""

    def __init__(self, window: int) -> None:
        self.window = window
        self.accepted: list[str] = []

    def accepts(self, event_id: str) -> bool:
        if event_id in self.accepted[-self.window :]:
            return False
        self.accepted.append(event_id)
        return True

    def table(self) -> dict[str, int]:
        first = max(0, len(self.accepted) - self.window)
        return {event_id: first + n + 1 for n, event_id in enumerate(self.accepted[first:])}


def held(partition: MemoryPartition) -> dict[str, int]:
    """The sequences of all entries, removed ones left out, in or out of the window."""
    entries = partition.view(SEEN_EVENTS).scan(PREFIX)
    return {key.removeprefix(PREFIX).decode(): seen.sequence for key, seen in entries}


def in_window(entries: dict[str, int], reference: Reference) -> dict[str, int]:
    oldest = len(reference.accepted) - reference.window
    return {event_id: sequence for event_id, sequence in entries.items() if sequence > oldest}


@settings(max_examples=200)
@given(st.lists(st.tuples(IDS, st.booleans()), max_size=150), WINDOWS)
def test_the_table_is_the_last_ids(made: Sequence[tuple[str, bool]], window: int) -> None:
    """After every record, with or without a restart: same verdict, same entries, few more, each listed once."""
    partition, reference = MemoryPartition(), Reference(window)
    for offset, (event_id, restarts) in enumerate(made):
        accepted = fold(partition.slice([record(offset, event_id)]), window).accepted == 1
        assert reference.accepts(event_id) == accepted
        entries = held(partition)
        assert reference.table() == in_window(entries, reference)
        assert len(entries) <= window + SURPLUS
        chunks = dict(partition.view(SEEN_CHUNKS).scan(PREFIX)).values()
        assert sorted(entries) == sorted(one for chunk in chunks for one in chunk.event_ids)
        assert not any(chunk.unlisted for chunk in chunks)
        for chunk in chunks:
            assert {number_of(chunk.last)} >= {number_of(entries[one]) for one in chunk.event_ids}
        if restarts:
            partition = partition.restore()


# --- the bound


class CountingView(MemoryView[Any]):
    """Counts removals, reads of what a worker may have to ask its store for, and entries scanned."""

    def __init__(self) -> None:
        super().__init__()
        self.counted: Counter[str] = Counter()

    def __getitem__(self, key: bytes) -> Any:
        self.counted["reads"] += 1
        return super().__getitem__(key)

    def put(self, key: bytes, value: Any) -> None:
        self.counted["removals"] += value is None
        super().put(key, value)

    def scan(self, prefix: bytes) -> Iterator[tuple[bytes, Any]]:
        raise AssertionError("a scan has no bound")

    def scan_stored(self, prefix: bytes, after: bytes, limit: int) -> list[tuple[bytes, Any]]:
        found = super().scan_stored(prefix, after, limit)
        self.counted["scanned"] += len(found)
        return found


class CountingPartition(MemoryPartition):
    def __init__(self) -> None:
        super().__init__()
        self._views.update({table.name: CountingView() for table in (SEEN_EVENTS, SEEN_CHUNKS)})
        self._definitions.update({table.name: table for table in (SEEN_EVENTS, SEEN_CHUNKS)})

    def most(self, work: Callable[[], None]) -> Counter[str]:
        views = [self._views[table.name] for table in (SEEN_EVENTS, SEEN_CHUNKS)]
        before = sum((view.counted for view in views), Counter())  # type: ignore[attr-defined]
        work()
        return sum((view.counted for view in views), Counter()) - before  # type: ignore[attr-defined]

    def worst(self, offsets: range, window: int) -> Counter[str]:
        """The most of each that any one of the records, with an id each, did."""
        worst: Counter[str] = Counter()
        for offset in offsets:
            worst |= self.most(lambda at=offset: fold(self.slice([record(at, f"e{at}")]), window))  # type: ignore[misc]
        return worst


@pytest.mark.parametrize("window", [1, 100, 1_000])
def test_one_record_has_a_bound(window: int) -> None:
    """At most one chunk's entries are removed, none of them read, none scanned; the same for every window."""
    worst = CountingPartition().worst(range(3 * window + 5 * CHUNK), window)
    assert {"removals": CHUNK, "reads": 4} == worst  # the event_id, its chunk, the chunk before, the slot's old one


@pytest.mark.parametrize("window", [1, 100, 300])
def test_one_record_has_a_bound_in_a_state_without_the_ring(window: int) -> None:
    """A step of the sweep more, and reads of one chunk's entries; then no entry of that state is left."""
    partition = CountingPartition()
    accepted = 2 * window - 1 or 1
    seen = partition.view(SEEN_EVENTS)
    fold(partition.slice([record(n, f"e{n}") for n in range(accepted)]), window)
    value = fingerprint(b"")
    seen.update({PREFIX + b"e%d" % n: SeenEvent(n + 1, n, value) for n in range(accepted)})
    partition.view(SEEN_CHUNKS).clear()
    worst = partition.worst(range(accepted, accepted + 3 * window + 12 * CHUNK), window)
    assert worst["removals"] <= CHUNK + SWEPT
    assert worst["scanned"] <= SWEPT
    assert worst["reads"] <= 4 + CHUNK
    assert len(held_counted(partition)) <= window + SURPLUS


def held_counted(partition: CountingPartition) -> list[SeenEvent]:
    return [seen for seen in partition.view(SEEN_EVENTS).values() if seen is not None]


# --- states that a worker without the ring wrote, or wrote in between


class OlderWorker:
    """Folds as the version before the ring: chunks stay as they are, all that left goes when the window is full."""

    def __init__(self, partition: MemoryPartition, window: int) -> None:
        self.partition = partition
        self.window = window

    def fold(self, one: MemoryRecord) -> Counts:
        seen, chunks = self.partition.view(SEEN_EVENTS), self.partition.view(SEEN_CHUNKS)
        entries = {key: value for key, value in seen.items() if value is not None}
        rows = {key: SEEN_CHUNKS.decode(SEEN_CHUNKS.encode(row)) for key, row in chunks.items() if row is not None}
        counts = fold(self.partition.slice([one]), self.window)
        if counts.accepted:
            portfolio = self.partition.view(PORTFOLIOS)[KEY]
            assert portfolio is not None
            key = PREFIX + json.loads(one.value or b"")["event_id"].encode()
            entries[key] = SeenEvent(portfolio.sequence, one.offset, fingerprint(one.value or b""))
            if portfolio.sequence % self.window == 0:
                entries = {k: v for k, v in entries.items() if v.sequence > portfolio.sequence - self.window}
        seen.clear()
        seen.update(entries)
        chunks.clear()
        chunks.update(rows)
        return counts


PHASES = st.lists(st.tuples(st.booleans(), st.lists(IDS, max_size=60)), max_size=6)


@settings(max_examples=200)
@given(PHASES, WINDOWS)
def test_a_state_without_the_ring_goes_on(phases: Sequence[tuple[bool, Sequence[str]]], window: int) -> None:
    """Workers of both versions take turns: every verdict and every entry of the window is right; old entries go."""
    partition, reference, offset = MemoryPartition(), Reference(window), 0
    older = OlderWorker(partition, window)
    for is_older, ids in phases:
        for event_id in ids:
            offset += 1
            one = record(offset, event_id)
            counts = older.fold(one) if is_older else fold(partition.slice([one]), window)
            assert reference.accepts(event_id) == (counts.accepted == 1)
            assert reference.table() == in_window(held(partition), reference)
    for _ in range(4 * window + 12 * CHUNK):
        offset += 1
        assert fold(partition.slice([record(offset, f"n{offset}")]), window).accepted == 1
        assert reference.accepts(f"n{offset}")
        assert reference.table() == in_window(held(partition), reference)
    assert len(held(partition)) <= window + SURPLUS
    assert not any(chunk.unlisted for _, chunk in partition.view(SEEN_CHUNKS).scan(PREFIX))


# --- over a store


class RestoredPartition:
    """Partition 0 over a store, as a worker holds it; it is the slice as well."""

    partition, partition_count = 0, 1

    def __init__(self, store: Store) -> None:
        self.records: Sequence[MemoryRecord] = ()
        self.store = store
        self.drop()

    def drop(self) -> None:
        """Everything that is not committed is gone, as after a crash."""
        self._tables: dict[str, Any] = {}
        self._views = Views(self.store, self._tables)

    def view(self, table: Any) -> Any:
        self._tables.setdefault(table.name, table)
        return self._views.view(0, table)

    def appender(self, _topic: str) -> Any:
        return lambda *_: None

    def fold(self, records: Sequence[MemoryRecord], window: int) -> None:
        self.records = records
        fold(self, window)

    async def commit(self) -> None:
        rows: StoreRows = {}
        for table, prefix, values in self._views.take_dirty(0):
            Batches().encode(0, values.items(), table, prefix, rows)
        await self.store.commit({0: Written(rows, 0)}, {})
        self._views.age(2, 2)


async def stored(records: Sequence[MemoryRecord], cuts: Sequence[tuple[int, bool]], window: int) -> Any:
    """What a store holds in the end, when transactions end at the cuts, and some fail at first and are folded again."""
    with TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        partition, start = RestoredPartition(store), 0
        for end, fails in [*cuts, (len(records), True)]:
            if fails:
                partition.fold(records[start:end], window)
                partition.drop()
            partition.fold(records[start:end], window)
            await partition.commit()
            start = end
        try:
            return store.scan(prefix_of(0))
        finally:
            store.close()


@pytest.mark.parametrize("window", [1, CHUNK, 3 * CHUNK + 1])
@pytest.mark.parametrize(
    "cuts", [[(1, True), (50, False), (51, True), (200, True)], [(n, n % 3 == 0) for n in range(3, 300, 3)]]
)
async def test_restarts_and_transactions_change_no_byte(cuts: Sequence[tuple[int, bool]], window: int) -> None:
    """A state that was loaded from the store, and work that is dropped and done again, give the same bytes."""
    records = [record(offset, f"e{offset * 7 % 90}") for offset in range(300)]
    assert await stored(records, [], window) == await stored(records, cuts, window)


def test_the_ring_holds_a_window() -> None:
    """Never less than the window, and at most two chunks more."""
    for window in range(1, 10 * CHUNK):
        listed_when_a_chunk_opens = (slots(window) - 1) * CHUNK + 1
        assert window <= listed_when_a_chunk_opens < window + CHUNK


def test_a_third_acceptance_survives_the_chunk_of_the_first() -> None:
    """Workers of both versions took turns, so two chunks may list one event_id: neither removes a newer entry."""
    window = 2
    for seed in range(40):
        random = Random(seed)
        partition, reference = MemoryPartition(), Reference(window)
        older = OlderWorker(partition, window)
        turns = sorted(random.sample(range(1, 400), 3))
        for offset in range(600):
            is_older = turns[0] <= offset < turns[1]
            event_id = f"e{random.randrange(12)}"
            one = record(offset, event_id)
            counts = older.fold(one) if is_older else fold(partition.slice([one]), window)
            assert reference.accepts(event_id) == (counts.accepted == 1), (seed, offset)

"""The ring of seen_chunks: against a plain list of ids, its bound for one record, restarts, and states of format 2."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.portfolio_events import Counts, fold_slice
from portfolio_stream.compiled.ring import CHUNK, SWEPT, number_of, slots
from portfolio_stream.compiled.seen import sequence_of
from portfolio_stream.domain.deduplication import older_fingerprint
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord, MemoryView
from portfolio_stream.exactly_once.recent import StoreRows, Written
from portfolio_stream.exactly_once.store import Store, prefix_of
from portfolio_stream.exactly_once.transaction import Batches
from portfolio_stream.exactly_once.views import Views
from tables.portfolios import PORTFOLIOS
from tables.seen_chunks import SEEN_CHUNKS
from tables.seen_events import SEEN_EVENTS

KEY, PREFIX = b"P1", b"P1\x00"
SURPLUS = 2 * CHUNK
IDS = st.integers(0, 40).map("e{}".format)
OLDER_IDS = st.lists(IDS, min_size=1, max_size=120)
IDS_AND_RESTARTS = st.lists(st.tuples(IDS, st.booleans()), max_size=150)
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
    return {key.removeprefix(PREFIX).decode(): sequence_of(row) for key, row in entries}


def listed(partition: MemoryPartition, window: int) -> list[str]:
    """The event_ids that the portfolio and the chunks list. What the slot of the open chunk lists is removed."""
    portfolio = partition.view(PORTFOLIOS)[KEY]
    if portfolio is None:
        return []
    is_open = portfolio.sequence % CHUNK != 0
    taken = PREFIX + b"%d" % (number_of(portfolio.sequence) % slots(window)) if is_open else b""
    lists = [chunk.event_ids for key, chunk in partition.view(SEEN_CHUNKS).scan(PREFIX) if key != taken]
    return [one for event_ids in (portfolio.recent, *lists) if event_ids for one in event_ids.split("\n")]


def in_window(entries: dict[str, int], reference: Reference) -> dict[str, int]:
    oldest = len(reference.accepted) - reference.window
    return {event_id: sequence for event_id, sequence in entries.items() if sequence > oldest}


@settings(max_examples=200)
@given(IDS_AND_RESTARTS, WINDOWS)
def test_the_table_is_the_last_ids(made: Sequence[tuple[str, bool]], window: int) -> None:
    """After every record, with or without a restart: same verdict, same entries, few more, each listed once."""
    partition, reference = MemoryPartition(), Reference(window)
    for offset, (event_id, restarts) in enumerate(made):
        accepted = fold(partition.slice([record(offset, event_id)]), window).accepted == 1
        assert reference.accepts(event_id) == accepted
        entries = held(partition)
        assert reference.table() == in_window(entries, reference)
        assert len(entries) <= window + SURPLUS
        assert sorted(entries) == sorted(listed(partition, window))
        for _, chunk in partition.view(SEEN_CHUNKS).scan(PREFIX):
            assert 0 == chunk.unlisted
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
    assert {"removals": CHUNK, "reads": 2} == worst  # the event_id, and the slot's old chunk


def test_a_chunk_is_written_once() -> None:
    """One row of seen_chunks for CHUNK events, when they are full; the portfolio's own row has the others."""
    partition, written = MemoryPartition(), 0
    for offset in range(100 * CHUNK + 3):
        fold(partition.slice([record(offset, f"e{offset}")]), 50)
        written += len(partition.take_dirty()["seen_chunks"])
    assert 100 == written
    portfolio = partition.view(PORTFOLIOS)[KEY]
    assert portfolio is not None
    assert "\n".join(f"e{100 * CHUNK + n}" for n in range(3)) == portfolio.recent


@pytest.mark.parametrize("window", [1, 100, 300])
@pytest.mark.parametrize("has_ring", [False, True])
def test_one_record_has_a_bound_in_a_state_of_format_2(window: int, has_ring: bool) -> None:
    """A step of the sweep more, and reads of one chunk's entries; then no entry of that state is left."""
    partition = CountingPartition()
    accepted = 2 * window - 1 or 1
    older = OlderState(window, has_ring)
    for offset in range(accepted):
        older.fold(offset, f"e{offset}")
    older.store(partition)
    worst = partition.worst(range(accepted, accepted + 3 * window + 12 * CHUNK), window)
    assert worst["removals"] <= CHUNK + SWEPT
    assert worst["scanned"] <= SWEPT
    assert worst["reads"] <= 4 + CHUNK
    assert sum(row is not None for row in partition.view(SEEN_EVENTS).values()) <= window + SURPLUS


# --- states of format 2, whose workers had no ring at first


class OlderState:
    """What workers of format 2 made of one portfolio, with the ring or, before it, without.

    Without the ring, all entries that had left the window were removed each time that the window was full.
    """

    def __init__(self, window: int, has_ring: bool) -> None:
        self.window = window
        self.has_ring = has_ring
        self.reference = Reference(window)
        self.entries: dict[str, tuple[int, int]] = {}
        self.chunks: dict[int, tuple[int, list[str]]] = {}

    def fold(self, offset: int, event_id: str) -> None:
        if not self.reference.accepts(event_id):
            return
        sequence = len(self.reference.accepted)
        if self.has_ring:
            self.list_event(sequence, event_id)
        self.entries[event_id] = (sequence, offset)
        if not self.has_ring and sequence % self.window == 0:
            oldest = sequence - self.window
            self.entries = {one: entry for one, entry in self.entries.items() if entry[0] > oldest}

    def list_event(self, sequence: int, event_id: str) -> None:
        before = self.entries.get(event_id)
        if before is not None:
            _, event_ids = self.chunks.get(number_of(before[0]) % slots(self.window), (0, []))
            if event_id in event_ids:
                event_ids.remove(event_id)
        slot = number_of(sequence) % slots(self.window)
        if (sequence - 1) % CHUNK == 0:
            for one in self.chunks.get(slot, (0, []))[1]:
                self.entries.pop(one, None)
            self.chunks[slot] = (sequence, [event_id])
        else:
            self.chunks[slot] = (sequence, [*self.chunks[slot][1], event_id])

    def store(self, partition: MemoryPartition) -> None:
        sequence = len(self.reference.accepted)
        rows: dict[Any, dict[bytes, tuple[Any, ...]]] = {
            PORTFOLIOS: {
                KEY: (sequence, {"USD": Decimal(sequence)}, {}, {}, {"cash": sequence}, NOON, NOON, START, b"\1")
            },
            SEEN_EVENTS: {
                PREFIX + one.encode(): (*entry, older_fingerprint(record(entry[1], one).value or b""))
                for one, entry in self.entries.items()
            },
            SEEN_CHUNKS: {
                PREFIX + b"%d" % slot: (last, event_ids, 0, "") for slot, (last, event_ids) in self.chunks.items()
            },
        }
        for table, values in rows.items():
            view = partition.view(table)
            for key, members in values.items():
                view[key] = table.read(ENCODER.encode((2, *members)))


NOON, START = "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00Z"
ENCODER = msgspec.msgpack.Encoder(order="deterministic")


@settings(max_examples=200)
@given(
    st.lists(IDS, min_size=1, max_size=120),
    st.booleans(),
    st.lists(st.tuples(IDS, st.booleans()), max_size=120),
    WINDOWS,
)
def test_a_state_of_format_2_goes_on(
    before: Sequence[str], has_ring: bool, after: Sequence[tuple[str, bool]], window: int
) -> None:
    """Every verdict and every entry of the window is right, and in the end no older entry is left."""
    older = OlderState(window, has_ring)
    for offset, event_id in enumerate(before):
        older.fold(offset, event_id)
    partition, reference, offset = MemoryPartition(), older.reference, len(before)
    older.store(partition)
    assert reference.table() == in_window(held(partition), reference)
    more = [(f"n{n}", False) for n in range(4 * window + 12 * CHUNK)]
    for event_id, restarts in [*after, *more]:
        offset += 1
        counts = fold(partition.slice([record(offset, event_id)]), window)
        assert reference.accepts(event_id) == (counts.accepted == 1)
        assert reference.table() == in_window(held(partition), reference)
        if restarts:
            partition = partition.restore()
    assert len(held(partition)) <= window + SURPLUS
    assert sorted(held(partition)) == sorted(listed(partition, window))
    newest = max((chunk for _, chunk in partition.view(SEEN_CHUNKS).scan(PREFIX)), key=lambda chunk: chunk.last)
    assert (0, "") == (newest.unlisted, newest.swept)


@pytest.mark.parametrize(("changed", "outcome"), [(False, "duplicates"), (True, "event_id_conflict")])
def test_an_entry_of_format_2_is_compared_by_its_own_fingerprint(changed: bool, outcome: str) -> None:
    """A producer's re-send after the upgrade is a duplicate, other bytes are a conflict, and the row stays as it is."""
    older, partition = OlderState(10, has_ring=True), MemoryPartition()
    older.fold(0, "e")
    older.store(partition)
    again = record(0, "e")
    again.value = (again.value or b"").replace(b'"1"', b'"2"') if changed else again.value
    counts = fold(partition.slice([again]), 10)
    assert {outcome: 1} == +Counter(counts.rejected, duplicates=counts.duplicates)
    assert not partition.take_dirty()["seen_events"]


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
        self._views = Views(self.store, self._tables, self.store.memory.views)

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
        self._views.age(1, 0)
        for view, values in self._views.take_dirty(0):
            Batches().encode(0, values.items(), view.table, view.prefix, rows)
        await self.store.commit({0: Written(rows, 0)}, {})


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

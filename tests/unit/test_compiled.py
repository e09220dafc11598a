"""The compiled fold against the reference: the fold over decimals, as the auditor runs it, record by record.

The modules run compiled where they are, and interpreted with PORTFOLIO_COMPILED=off: the tests are the same.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from fractions import Fraction
from string import ascii_uppercase
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.portfolio_events import fold_slice
from portfolio_stream import compiled
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.tables import decode_value, show_value
from portfolio_stream.compiled import amounts
from portfolio_stream.domain.money import plain
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS
from tables.table import Table, exact
from tests.unit.strategies import events, to_bytes

PORTFOLIO_IDS = ("P1", "P2")
CURRENCIES = ("USD", "EUR", *(f"{first}{second}X" for first in "AB" for second in ascii_uppercase[:12]))
NOON = 1_795_435_200_000
DAY = 86_400_000
NINES = "9" * 18


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


times = st.one_of(
    st.integers(0, 5).map(lambda minutes: NOON + minutes * 60_000),
    st.integers(-3, 3).map(lambda days: NOON + days * DAY),
    st.integers(-1441, 1441).map(lambda minutes: NOON + minutes * 60_000),
)
clocks = st.sampled_from((NOON, NOON, NOON, NOON - 1, NOON - 2 * DAY, NOON + 9 * DAY, 0, -1))
own = st.fixed_dictionaries(
    {"event_id": st.integers(0, 12).map("e{}".format), "portfolio_id": st.sampled_from(PORTFOLIO_IDS)},
    optional={"currency": st.sampled_from(CURRENCIES), "quantity": st.sampled_from(("1", "0.5", NINES, "0.00000001"))},
)
#: what a record is besides its event: the event's time, the record's clock, whether it repeats an earlier record
records = st.lists(
    st.tuples(events, own, times, clocks, st.sampled_from(("new", "new", "new", "again", "broken", "no key"))),
    max_size=40,
)


def made(drawn: Sequence[tuple[Any, ...]]) -> list[MemoryRecord]:
    found: list[MemoryRecord] = []
    for event, members, at, clock, kind in drawn:
        changes = {name: value for name, value in members.items() if name in event}
        value = to_bytes(event | changes | {"occurred_at": _time(at)})
        key = members["portfolio_id"].encode()
        if kind == "again" and found:
            key, value = found[-1].key or key, found[-1].value or value
        found.append(
            MemoryRecord(
                3 * len(found), clock, None if kind == "no key" else key, value[:-1] if kind == "broken" else value,
                [("trace", b"1")],
            )
        )  # fmt: skip
    return found


class State:
    """The views of a partition as a reader of tables sees them."""

    def __init__(self, partition: MemoryPartition, window: int) -> None:
        self._partition = partition
        self.deduplication_window = window

    def value(self, table: Any, *parts: str) -> Any:
        return self._partition.view(table)["\0".join(parts).encode()]


def tables_of(partition: MemoryPartition, window: int) -> dict[bytes, tuple[Any, object]]:
    """All entries of all tables, as the audit reads their bytes and as people see them."""
    found: dict[bytes, tuple[Any, object]] = {}
    state = State(partition, window)
    for table in (ACTIVITY, PORTFOLIOS, POSITIONS, SEEN_EVENTS):
        shown: Table[Any] = table  # type: ignore[assignment]
        for key, value in partition.view(shown).scan(b""):
            if shown.is_current(state, shown.parts_of(key), value):
                stored = f"{shown.name}\0".encode() + key
                found[stored] = decode_value(stored, shown.encode(value)), shown.show(value)
    return found


@settings(max_examples=300, deadline=None)
@given(records, st.integers(1, 40), st.booleans(), st.sampled_from((1, 3, 8, 10_000)))
def test_the_compiled_fold_is_the_reference(
    drawn: Sequence[tuple[Any, ...]], size: int, restarts: bool, window: int
) -> None:
    """Outputs, dead letters and tables are the same to the byte, however slices are cut, also over restarts."""
    source = made(drawn)
    partition, replay = MemoryPartition(0, 1), SourceReplay(0, 1, "in", window)
    replay.feed(source)
    outputs, letters = [], []
    accepted = duplicates = 0
    for start in range(0, len(source), size):
        counts = fold_slice(
            partition.slice(source[start : start + size]), input_topic="in", output_topic="out", dlq_topic="dlq",
            deduplication_window=window,
        )  # fmt: skip
        accepted, duplicates = accepted + counts.accepted, duplicates + counts.duplicates
        outputs += partition.appended.pop("out")
        letters += partition.appended.pop("dlq")
        if restarts:
            partition = partition.restore()
    assert (accepted, duplicates) == (replay.counts["accepted"], replay.counts["duplicates"])
    for found, expected in ((outputs, replay.outputs), (letters, replay.dead_letters)):
        rows = [(effect.timestamp, effect.key, effect.value, tuple(effect.headers)) for effect in expected.values()]
        assert rows == [(*row[:3], tuple(row.headers)) for row in found]
    tables = tables_of(partition, window)
    assert {key: value for key, (value, _) in tables.items()} == replay.values
    assert {key: shown for key, (_, shown) in tables.items()} == {
        key: show_value(key, value) for key, value in replay.values.items()
    }


@settings(max_examples=100, deadline=None)
@given(records)
def test_a_rejected_event_changes_nothing(drawn: Sequence[tuple[Any, ...]]) -> None:
    """Values are changed in place: after a rejection, every value encodes to the bytes of before."""
    partition = MemoryPartition(0, 1)
    for record in made(drawn):
        before = partition.state()
        partition.take_dirty()
        counts = fold_slice(
            partition.slice([record]), input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=5
        )
        if not counts.accepted:
            assert before == {name: rows for name, rows in partition.state().items() if name in before}
            assert not any(partition.take_dirty().values())


# --- amounts

scaled = st.one_of(
    st.integers(-200, 200),
    st.integers(-(10**12), 10**12),
    st.integers(-(2**64), 2**64),
    st.integers(-(10**32), 10**32),
    st.integers(-(10**6), 10**6).map(lambda n: n * 10**8),
)


def rounded(exact_value: Fraction) -> int:
    return round(exact_value)  # Python rounds a Fraction half-even


@given(scaled, scaled)
def test_products_round_once(left: int, right: int) -> None:
    """Half-even, of the exact value, whatever the size."""
    assert rounded(Fraction(left * right, 10**8)) == amounts.product(left, right)


@given(scaled, scaled.filter(bool), scaled)
def test_quotients_round_once(dividend: int, divisor: int, part: int) -> None:
    assert rounded(Fraction(dividend, divisor)) == amounts.quotient(dividend, divisor)
    assert rounded(Fraction(dividend * part, divisor)) == amounts.share(dividend, part, divisor)


@given(scaled)
def test_plain_text(amount: int) -> None:
    """As the domain writes the same amount."""
    assert plain(exact(amount)) == amounts.plain(amount)


@pytest.mark.parametrize("size", [10**32 - 1, 10**32, 2**62, 4 * 10**18, 4 * 10**18 - 1])
def test_the_bound_of_a_stored_amount(size: int) -> None:
    for amount in (size, -size):
        assert (size < 10**32) == amounts.is_storable(amount)


# --- the build


def test_every_module_is_compiled() -> None:
    """All modules of the package but those that the compiled ones stand on."""
    found = {path.stem for path in compiled.FOLDER.glob("*.py")}
    assert found == {*compiled.MODULES, "__init__", "hints"}

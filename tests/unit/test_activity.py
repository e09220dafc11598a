"""The table activity: windows, late and early events, what leaves and when; agent and auditor against the oracle."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agents.portfolio_events import Counts, fold_slice
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.tables import show_value
from portfolio_stream.domain.activity import latest_in_time
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from tables.activity import ACTIVITY
from tests.judge.arithmetic import OracleAccount
from tests.unit.strategies import events, to_bytes

DAY = 24 * 60
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
START = datetime(2026, 11, 23, 4, 30, tzinfo=UTC)
NINES = "9" * 18


def cash(minutes: float = 0.0, **other: Any) -> dict[str, Any]:
    """A deposit, so many minutes after START."""
    at = START + timedelta(minutes=minutes)
    common = {"type": "cash", "portfolio_id": "P1", "occurred_at": at.isoformat(timespec="milliseconds")}
    return common | {"amount": "1", "currency": "USD"} | other


def trade(minutes: float, side: str, quantity: str, price: str, **other: Any) -> dict[str, Any]:
    own = {"type": "trade", "side": side, "symbol": "ACME", "quantity": quantity, "price": price}
    return cash(minutes) | own | other


def milliseconds(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(milliseconds=1)


class Fold:
    """One partition under the agent. Records bear the time at which their event occurred, or the one given."""

    def __init__(self) -> None:
        self.partition = MemoryPartition()
        self.counts: Counter[str] = Counter()
        self.offset = 0

    def record(self, event: dict[str, Any], timestamp: int | None = None) -> MemoryRecord:
        self.offset += 1
        value = to_bytes({"event_id": f"e{self.offset}"} | event)
        at = milliseconds(datetime.fromisoformat(event["occurred_at"])) if timestamp is None else timestamp
        return MemoryRecord(self.offset, at, event["portfolio_id"].encode(), value)

    def fold(self, *records: MemoryRecord) -> Counts:
        counts = fold_slice(
            self.partition.slice(records), input_topic="in", output_topic="out", dlq_topic="dlq",
            deduplication_window=10_000,
        )  # fmt: skip
        self.counts.update(accepted=counts.accepted, late=counts.late, early=counts.early)
        self.counts.update(counts.rejected)
        return counts

    def add(self, *added: dict[str, Any]) -> Counts:
        return self.fold(*(self.record(event) for event in added))

    def table(self, portfolio: str = "P1") -> dict[str, Any]:
        entries = self.partition.view(ACTIVITY).scan(portfolio.encode() + b"\0")
        return {key.decode().partition("\0")[2]: ACTIVITY.show(value) for key, value in entries}


def test_a_window_is_a_minute() -> None:
    """Its start names it, in UTC; every accepted event counts, and trades of either side bring their notional."""
    fold = Fold()
    fold.add(
        trade(0.0, "buy", "3", "1.5"),
        trade(0.999, "sell", "2", "1.25", occurred_at="2026-11-23T05:30:59.999+01:00", fee="7"),
        trade(0.5, "buy", "1", "8", symbol="BOLT", currency="EUR"),
        cash(0.2),
        cash(1.0),
    )
    first = {"events": 4, "notional": {"EUR": "8", "USD": "7"}}
    assert {"2026-11-23T04:30:00Z": first, "2026-11-23T04:31:00Z": {"events": 1, "notional": {}}} == fold.table()
    assert {"accepted": 5} == +fold.counts


def test_what_is_not_accepted_is_not_counted() -> None:
    """Neither a duplicate nor a rejected event, and the latter opens no window."""
    fold = Fold()
    again = fold.record(cash())
    fold.fold(again, again, fold.record(trade(9, "buy", NINES, NINES)))
    assert ["2026-11-23T04:30:00Z"] == list(fold.table())
    assert 1 == fold.table()["2026-11-23T04:30:00Z"]["events"]


@pytest.mark.parametrize("order", [(0, DAY - 1), (DAY - 1, 0)])
def test_the_oldest_of_1440_windows_is_kept(order: tuple[int, int]) -> None:
    """1,439 minutes before the newest is in the table, whichever came first; one more is not."""
    fold = Fold()
    fold.add(*map(cash, order))
    assert 2 == len(fold.table())
    fold.add(cash(DAY))
    assert ["2026-11-24T04:29:00Z", "2026-11-24T04:30:00Z"] == list(fold.table())


def test_late() -> None:
    """Older than the 1,440 windows: accepted, counted as late, in no window; a later one may still be in time."""
    fold = Fold()
    fold.add(cash(DAY), cash(0), cash(0.999), cash(1))
    assert {"accepted": 4, "late": 2} == +fold.counts
    assert ["2026-11-23T04:31:00Z", "2026-11-24T04:30:00Z"] == list(fold.table())
    assert 4 == len(fold.partition.appended["out"])


def test_early() -> None:
    """More than 24 hours after the record's own time: accepted, counted as early, and no window moves for it."""
    fold = Fold()
    noon = milliseconds(START)
    day_after = fold.record(cash(DAY), noon)
    too_early = fold.record(cash(DAY, occurred_at="2026-11-24T04:30:00.001Z"), noon)
    finer = fold.record(cash(DAY, occurred_at="2026-11-24T04:30:00.0009Z"), noon)
    century = fold.record(cash(DAY, occurred_at="2100-12-31T23:59:59.999Z"), noon)
    fold.fold(day_after, too_early, finer, century, fold.record(cash(1)))
    assert {"accepted": 5, "early": 2} == +fold.counts
    assert {"2026-11-23T04:31:00Z": 1, "2026-11-24T04:30:00Z": 2} == {
        start: window["events"] for start, window in fold.table().items()
    }


def test_early_depends_on_the_events_own_record() -> None:
    """Records of one slice need not be in the order of their timestamps."""
    fold = Fold()
    old, new = milliseconds(START), milliseconds(START + timedelta(days=9))
    fold.fold(fold.record(cash(9 * DAY), new), fold.record(cash(9 * DAY), old), fold.record(cash(9 * DAY), new))
    assert {"accepted": 3, "early": 1} == +fold.counts


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        (0, "1970-01-02T00:00:00.000Z"),
        (-1, "1970-01-01T23:59:59.999Z"),
        (1_795_408_200_123, "2026-11-24T04:30:00.123Z"),
        (2**63 - 1, "~"),
        (-(2**63), ""),
    ],
)
def test_latest_in_time(timestamp: int, expected: str) -> None:
    """A producer may write any 64 bits as a timestamp, and text order must be time order whatever they are."""
    assert expected == latest_in_time(timestamp)


def test_notional_has_a_range() -> None:
    """A stored amount of 1e24 or more rejects the event, also where cash and position could take it."""
    fold = Fold()
    there_and_back = [trade(0, side, "1000000", "9" * 17) for side in ("buy", "sell") * 6]
    fold.add(*there_and_back)
    assert {"accepted": 10, "out_of_range": 2} == +fold.counts
    fold.add(trade(1, "sell", "1000000", "9" * 17))
    assert 11 == fold.counts["accepted"]


def test_windows_leave_with_the_event_that_pushes_them_out() -> None:
    """Each once, with a tombstone in that very slice; other portfolios keep theirs, however old."""
    fold = Fold()
    fold.add(*(cash(minute) for minute in range(0, 100, 3)), cash(0, portfolio_id="P10"))
    fold.partition.take_dirty()
    fold.add(cash(DAY + 5))
    written = fold.partition.take_dirty()["activity"]
    gone = sorted(key for key, value in written.items() if value is None)
    assert [b"P1\x002026-11-23T04:30:00Z", b"P1\x002026-11-23T04:33:00Z"] == gone
    assert 1 == len(fold.table("P10"))
    fold.add(cash(10 * DAY))
    written = fold.partition.take_dirty()["activity"]
    assert 33 == sum(value is None for value in written.values())
    assert ["2026-12-03T04:30:00Z"] == list(fold.table())


def test_a_tombstone_for_a_window_at_most() -> None:
    """What leaves is known, not looked for: the writes of a long history are its windows, opened and removed once."""
    fold = Fold()
    tombstones = values = 0
    for hours in range(0, 24 * 30, 7):
        fold.add(cash(hours * 60), cash(hours * 60 - 90))
        written = fold.partition.take_dirty()["activity"].values()
        tombstones += sum(value is None for value in written)
        values += sum(value is not None for value in written)
    assert values == tombstones + len(fold.table())


moments = st.one_of(
    st.integers(0, 200), st.integers(0, 3 * DAY), st.integers(DAY - 3, DAY + 3), st.integers(0, 60 * DAY)
).map(lambda minutes: START + timedelta(minutes=minutes, milliseconds=minutes * 997 % 60_000))
clocks = st.one_of(st.integers(-5, 5), st.integers(-3 * DAY, DAY), st.sampled_from([-DAY, -DAY - 1]))
histories = st.lists(st.tuples(events, moments, clocks), max_size=25)


@given(histories, st.integers(1, 9), st.booleans())
def test_agent_and_auditor_agree_with_the_oracle(history: list[Any], size: int, restarts: bool) -> None:
    """Any history, cut into any slices, gives the windows that the contract's text gives, and the same rejections."""
    fold, account, replay = Fold(), OracleAccount(), SourceReplay(0, 1, "in", 10_000)
    records, expected = [], Counter[str]()
    for event, at, clock in history:
        event |= {"occurred_at": at.isoformat(timespec="milliseconds")}
        timestamp = milliseconds(at + timedelta(minutes=clock))
        records.append(fold.record(event, timestamp))
        answer = account.apply(event, timestamp)
        expected[answer if isinstance(answer, str) else "accepted"] += 1
    for start in range(0, len(records), size):
        fold.fold(*records[start : start + size])
        if restarts:
            fold.partition = fold.partition.restore()
    replay.feed(records)

    minutes = account.minutes
    expected.update(late=minutes.late, early=minutes.early)
    assert +expected == +fold.counts
    assert minutes.table() == fold.table()
    found = {key: show_value(key, value) for key, value in replay.values.items() if key.startswith(b"activity\0")}
    assert {b"activity\0P1\0" + start.encode(): window for start, window in minutes.table().items()} == found
    assert (minutes.late, minutes.early) == (replay.counts["late"], replay.counts["early"])
    stored = fold.partition.state().get("activity", {})
    assert stored == {key: ACTIVITY.encode(ACTIVITY.decode(value)) for key, value in stored.items()}

"""The fold against the oracle, and the invariants of accounting."""

import json
from copy import deepcopy
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.audit.tables import decode_value
from portfolio_stream.domain.fold import FoldOutcome, fold
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.outputs import encode_processed
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS, exact_position
from tests.judge.arithmetic import OracleAccount
from tests.unit.strategies import events, to_bytes, trades
from tests.unit.table_values import table_value


class Book:
    """One portfolio under the real fold: like `oracle.Account`, so that both can be asked the same."""

    def __init__(self) -> None:
        self.portfolio: Portfolio | None = None
        self.positions: dict[str, Position] = {}

    def apply(self, members: dict[str, Any]) -> dict[str, Any] | str:
        event = decode_event(to_bytes(members))
        assert not isinstance(event, Rejected), event
        symbol = members.get("symbol", "")
        moves_position = members["type"] in ("trade", "split", "adjustment")
        outcome = fold(event, self.portfolio, self.positions.get(symbol) if moves_position else None)
        if isinstance(outcome, Rejected):
            return outcome.code
        self.portfolio = outcome.portfolio
        if outcome.position is not None:
            self.positions[symbol] = outcome.position
        balance = None if outcome.currency is None else outcome.portfolio.cash[outcome.currency]
        sequence = outcome.portfolio.sequence
        shown = json.loads(encode_processed(event, sequence, outcome.position, outcome.currency, balance, 3, 7))
        return {name: shown[name] for name in ("position", "cash") if name in shown}


def same(left: dict[str, Decimal], right: dict[str, Fraction]) -> bool:
    return {name: Fraction(amount) for name, amount in left.items()} == right


def amounts_of(book: Book) -> list[Decimal]:
    portfolio = book.portfolio
    of_portfolio = [] if portfolio is None else [portfolio.cash, portfolio.fees, portfolio.dividends]
    stored = [amount for amounts in of_portfolio for amount in amounts.values()]
    for p in book.positions.values():
        stored += [p.quantity, p.cost_basis, p.average_cost, p.realised_pnl]
    return stored


@given(st.lists(events, max_size=25))
def test_fold_agrees_with_the_oracle(history: list[dict[str, Any]]) -> None:
    """Any history gives the outputs, rejections and accounts that the contract's text gives over fractions."""
    book, account = Book(), OracleAccount()
    for event in history:
        assert account.apply(event) == book.apply(event), event
        if book.portfolio is not None:
            assert same(book.portfolio.cash, account.cash)
            assert same(book.portfolio.fees, account.fees)
            assert same(book.portfolio.dividends, account.dividends)
            assert book.portfolio.sequence == account.sequence
        for amount in amounts_of(book):
            assert amount.as_tuple().exponent == -8, "stored amounts have one form"
            assert amount or not amount.is_signed(), "no negative zero"


@given(st.lists(events, max_size=15))
def test_tables_are_canonical(history: list[dict[str, Any]]) -> None:
    """A value decoded from the changelog is equal to the one that was encoded, and encodes to the same bytes."""
    book = Book()
    for event in history:
        book.apply(event)
    for position in book.positions.values():
        stored = POSITIONS.encode(table_value(position))  # type: ignore[arg-type]
        assert position == exact_position(POSITIONS.decode(stored)) == decode_value(b"positions\0P1\0S", stored)
        assert stored == POSITIONS.encode(POSITIONS.decode(stored))
    if book.portfolio is not None:
        stored = PORTFOLIOS.encode(table_value(book.portfolio))  # type: ignore[arg-type]
        assert book.portfolio == decode_value(b"portfolios\0P1", stored)
        assert stored == PORTFOLIOS.encode(PORTFOLIOS.decode(stored))
        turned = Portfolio(
            book.portfolio.sequence,
            *(dict(reversed(m.items())) for m in (book.portfolio.cash, book.portfolio.fees, book.portfolio.dividends)),
            dict(reversed(book.portfolio.events.items())),
            book.portfolio.earliest,
            book.portfolio.latest,
        )
        assert stored == PORTFOLIOS.encode(table_value(turned))  # type: ignore[arg-type]


@given(st.lists(events, max_size=25))
def test_accounts_balance(history: list[dict[str, Any]]) -> None:
    """By currency: what was paid for is held at cost or realised; so cash, cost and profit add up to what came in.

    cash + cost basis - realised = deposits + dividends - fees + what adjustments brought. No event creates money.
    """
    book = Book()
    brought: dict[str, Fraction] = {}
    for event in history:
        if isinstance(book.apply(event), str) or event["type"] == "split":
            continue
        kind, zero = event["type"], Fraction(0)
        came = {
            "trade": -Fraction(event.get("fee", 0)),
            "cash": Fraction(event.get("amount", 0)),
            "dividend": Fraction(event.get("amount", 0)),
            "fee": -Fraction(event.get("amount", 0)),
            "adjustment": Fraction(event.get("cost_basis", 0)) - Fraction(event.get("realised_pnl", 0)),
        }[kind]
        brought[event["currency"]] = brought.get(event["currency"], zero) + came
    for currency, amount in brought.items():
        assert book.portfolio is not None
        held = [p for p in book.positions.values() if p.currency == currency]
        cost = sum((Fraction(p.cost_basis) - Fraction(p.realised_pnl) for p in held), Fraction(0))
        assert amount == Fraction(book.portfolio.cash.get(currency, Decimal(0))) + cost


@given(st.lists(trades, max_size=25))
def test_flat_means_no_cost(history: list[dict[str, Any]]) -> None:
    """Without adjustments a flat position has no cost basis and no average cost, and cost has the quantity's sign."""
    book = Book()
    for event in history:
        book.apply(event)
        for position in book.positions.values():
            if not position.quantity:
                assert (Decimal(0), Decimal(0)) == (position.cost_basis, position.average_cost)
            assert position.cost_basis * position.quantity.copy_sign(Decimal(1)) * position.quantity >= 0


def trade(side: str, quantity: str, price: str, **other: str) -> dict[str, Any]:
    return {
        "event_id": "e", "type": "trade", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z", "side": side,
        "symbol": "ACME", "quantity": quantity, "price": price, "currency": "USD",
    } | other  # fmt: skip


def adjustment(quantity: str, cost_basis: str, **other: str) -> dict[str, Any]:
    return {
        "event_id": "e", "type": "adjustment", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z",
        "symbol": "ACME", "quantity": quantity, "cost_basis": cost_basis, "currency": "USD",
    } | other  # fmt: skip


def split(numerator: int, denominator: int) -> dict[str, Any]:
    return {
        "event_id": "e", "type": "split", "portfolio_id": "P1", "occurred_at": "2026-01-01T00:00:00Z",
        "symbol": "ACME", "numerator": numerator, "denominator": denominator,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([trade("buy", "10", "5"), trade("sell", "4", "7")], ("6", "30", "5", "8"), id="partial close"),
        pytest.param(
            [trade("buy", "3", "10"), trade("sell", "1", "0")], ("2", "20", "10", "-10"), id="sold for nothing"
        ),
        pytest.param([trade("sell", "10", "5")], ("-10", "-50", "5", "0"), id="short"),
        pytest.param([trade("sell", "10", "5"), trade("buy", "4", "7")], ("-6", "-30", "5", "-8"), id="short, closing"),
        pytest.param([trade("buy", "10", "5"), trade("sell", "15", "6")], ("-5", "-30", "6", "10"), id="through zero"),
        pytest.param(
            [trade("sell", "10", "5"), trade("buy", "15", "6")], ("5", "30", "6", "-10"), id="back through zero"
        ),
        pytest.param([trade("buy", "10", "5"), trade("sell", "10", "6")], ("0", "0", "0", "10"), id="flat stays"),
        pytest.param([trade("buy", "3", "1"), split(1, 3)], ("1", "3", "3", "0"), id="reverse split keeps the cost"),
        pytest.param([adjustment("0", "5"), trade("buy", "1", "1")], ("1", "6", "6", "0"), id="cost without quantity"),
        pytest.param([adjustment("-1000", "0.00000001")], ("-1000", "0.00000001", "0", "0"), id="rounds to zero"),
        pytest.param([adjustment("-0", "-0.00")], ("0", "0", "0", "0"), id="negative zeros"),
        pytest.param([trade("buy", "0.00000001", "0.5")], ("0.00000001", "0", "0", "0"), id="half to even, down"),
        pytest.param([trade("buy", "0.00000003", "0.5")], ("0.00000003", "0.00000002", "0.66666667", "0"), id="and up"),
    ],
)
def test_positions(history: list[dict[str, Any]], expected: tuple[str, ...]) -> None:
    """Quantity, cost basis, average cost and realised profit after a few textbook histories."""
    book = Book()
    shown: Any = [book.apply(event) for event in history][-1]
    assert not any(amount.is_signed() for amount in amounts_of(book) if not amount), "no negative zero"
    assert expected == tuple(
        shown["position"][name] for name in ("quantity", "cost_basis", "average_cost", "realised_pnl")
    )


NINES = "9" * 18


@pytest.mark.parametrize(
    ("history", "expected"),
    [
        pytest.param([trade("buy", NINES, NINES)], "out_of_range", id="cost basis"),
        pytest.param([trade("buy", NINES, "1000000")], {}, id="just below 1e24"),
        pytest.param([adjustment("0.00000001", "1" + "0" * 16)], "out_of_range", id="average cost"),
        pytest.param([adjustment("0.00000001", "9" * 15)], {}, id="average cost just below"),
        pytest.param([adjustment("1", "1"), split(1, 1_000_000), split(1, 1000)], "out_of_range", id="rounds to 0"),
        pytest.param([trade("buy", "1", "1"), trade("buy", "1", "1", currency="EUR")], "currency_mismatch", id="other"),
        pytest.param(
            [trade("buy", "1", "1"), trade("sell", "1", "2"), adjustment("0", "0", currency="EUR")],
            "currency_mismatch",
            id="flat with a profit keeps its currency",
        ),
        pytest.param(
            [trade("buy", "1", "1"), trade("sell", "1", "1"), trade("buy", "1", "1", currency="EUR")],
            {},
            id="all zero takes another currency",
        ),
        pytest.param(
            [trade("buy", "1", "1"), trade("buy", NINES, NINES, currency="EUR")],
            "currency_mismatch",
            id="currency first",
        ),
    ],
)
def test_limits(history: list[dict[str, Any]], expected: object) -> None:
    """What rejects the last event of a history; a rejected one changes nothing."""
    book = Book()
    *_, answer = [book.apply(event) for event in history]
    assert expected == (answer if isinstance(answer, str) else {})
    if isinstance(answer, str):
        before = Book()
        for event in history[:-1]:
            before.apply(event)
        assert (before.portfolio, before.positions) == (book.portfolio, book.positions)


def test_split_of_nothing_is_accepted() -> None:
    """Without such a position a split counts, and shows neither position nor cash."""
    book = Book()
    assert {} == book.apply(split(2, 1))
    assert book.portfolio is not None
    assert (1, {"split": 1}) == (book.portfolio.sequence, book.portfolio.events)


def test_times_are_the_smallest_and_the_largest() -> None:
    """They follow occurred_at, whatever order the log has."""
    book = Book()
    for at in ("2026-01-02T00:00:00Z", "2026-01-01T23:00:00-02:00", "2025-12-31T23:59:59.9999Z"):
        book.apply(trade("buy", "1", "1", occurred_at=at))
    assert book.portfolio is not None
    assert "2025-12-31T23:59:59.999Z" == book.portfolio.earliest
    assert "2026-01-02T01:00:00.000Z" == book.portfolio.latest


def test_fold_does_not_change_what_it_was_given() -> None:
    """The portfolio before an event is a value: it stays."""
    book = Book()
    book.apply(trade("buy", "1", "1", fee="1"))
    before = book.portfolio
    assert before is not None
    copy = deepcopy(before)
    outcome = fold(decode_event(to_bytes(trade("buy", "1", "1", fee="1"))), before, None)  # type: ignore[arg-type]
    assert isinstance(outcome, FoldOutcome)
    assert copy == before

"""The global table, portfolios valued at its prices, and its metrics."""

import json
from collections.abc import AsyncIterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.domain.money import arithmetic
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.valuation import Price, Value, total, value
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.web.server import WebServer
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.table import join_key
from tests.unit.table_values import table_value
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, get, serving

AS_OF = "2026-11-23T04:30:00.000Z"
PARTITION = partition_of(b"P1", PARTITIONS)
OTHERS = tuple(partition for partition in range(PARTITIONS) if partition != PARTITION)


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", FakeCoordinator())


@pytest.fixture
async def server(engine: FakeEngine) -> AsyncIterator[WebServer]:
    async with serving(engine) as server:
        yield server


def tell(engine: FakeEngine, offset: int, symbol: str, price: str | None, currency: str = "USD") -> None:
    """A record of market-prices; None: null."""
    members = {"symbol": symbol, "price": price, "currency": currency, "as_of": AS_OF}
    content = None if price is None else json.dumps(members).encode()
    record: Any = SimpleNamespace(offset=offset, key=symbol.encode(), value=content)
    engine.prices.apply([record])


# --- /tables/prices


async def test_a_price(engine: FakeEngine, server: WebServer) -> None:
    """Of any worker, member or not: key, value, and the prices topic's partition and offset."""
    tell(engine, 7, "BRK/B", "103.10")
    tell(engine, 9, "GONE", None)
    found = await get(server, "/tables/prices/BRK%2FB")
    shown = {"price": "103.1", "currency": "USD", "as_of": AS_OF}
    expected = {"key": ["BRK/B"], "value": shown, "partition": 0, "offset": 9, "worker": "w1"}
    assert (200, expected) == (found.status, found.json)
    unknown = await get(server, "/tables/prices/GONE")
    assert (404, 0, 9) == (unknown.status, unknown.json["partition"], unknown.json["offset"])
    assert 400 == (await get(server, "/tables/prices/BRK/B")).status


async def test_pages_of_prices(engine: FakeEngine, server: WebServer) -> None:
    """In the order of symbols, by prefix and range as any table."""
    for offset in range(25):
        tell(engine, offset, f"S{offset:02d}", "1")
    symbols: list[str] = []
    cursor = ""
    while True:
        page = (await get(server, f"/tables/prices?limit=10&from=S03{cursor}")).json
        symbols += [row["key"][0] for row in page["rows"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert [f"S{n:02d}" for n in range(3, 25)] == symbols
    assert [{"partition": 0, "offset": 24, "worker": "w1"}] == page["partitions"]
    assert [["S10"], ["S11"]] == [
        row["key"] for row in (await get(server, "/tables/prices?prefix=S1&to=S12")).json["rows"]
    ]


async def test_no_prices_before_the_topic_was_read(engine: FakeEngine, server: WebServer) -> None:
    """Half a table is none: values, pages and valuations wait, and say when to try again."""
    engine.join(*range(PARTITIONS))
    engine.prices.is_ready = False
    for path in ("/tables/prices", "/tables/prices/ACME", "/portfolios/P1"):
        answer = await get(server, path)
        assert (503, "1") == (answer.status, answer.headers["retry-after"])
        assert "prices" in answer.json["detail"]
    listed = {table["table"]: table["partitions"] for table in (await get(server, "/tables")).json["tables"]}
    assert [None] == [held["keys"] for held in listed["prices"]]


async def test_metrics_of_prices(engine: FakeEngine, server: WebServer) -> None:
    """What was read and what was wrong, by code."""
    tell(engine, 0, "A", "1")
    tell(engine, 1, "B", "2")
    tell(engine, 2, "A", None)
    tell(engine, 3, "C", "-1")
    engine.prices.lag = 4
    text = (await get(server, "/metrics")).body.decode()
    samples = {
        (sample.name, *(sample.labels[name] for name in ("outcome", "code") if name in sample.labels)): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if "price" in sample.name
    }
    assert {
        ("portfolio_stream_prices",): 1.0,
        ("portfolio_stream_prices_ready",): 1.0,
        ("portfolio_stream_prices_lag_records",): 4.0,
        ("portfolio_stream_price_records_total", "price", ""): 2.0,
        ("portfolio_stream_price_records_total", "deletion", ""): 1.0,
        ("portfolio_stream_price_records_total", "invalid", "invalid_field"): 1.0,
    } == samples


# --- /portfolios


def position(currency: str, quantity: str, cost_basis: str) -> Position:
    return Position(currency, Decimal(quantity), Decimal(cost_basis), Decimal(1), Decimal(0))


HELD = {
    "A": position("USD", "12", "1215"),
    "B": position("USD", "-0.5", "-10"),
    "BRK/B": position("EUR", "3", "30"),
    "FLAT": position("GBP", "0", "0"),
    "NONE": position("USD", "1", "1"),
    "OTHER": position("USD", "7", "7"),
}


async def hold(engine: FakeEngine) -> None:
    portfolio = Portfolio(6, {"USD": Decimal("-5.50")}, {"USD": Decimal(1)}, {}, {"trade": 6}, AS_OF, AS_OF)
    held = {(POSITIONS, join_key("P1", symbol)): table_value(one) for symbol, one in HELD.items()}
    stranger = {(POSITIONS, join_key("P10", "A")): table_value(position("USD", "1", "1"))}
    await engine.commit(PARTITION, 1041, {(PORTFOLIOS, join_key("P1")): table_value(portfolio), **held})
    await engine.commit(partition_of(b"P10", PARTITIONS), 5, stranger)
    for offset, (symbol, price, currency) in enumerate(
        [("A", "103.10", "USD"), ("B", "7.00000001", "USD"), ("BRK/B", "20", "EUR"), ("OTHER", "1", "EUR")]
    ):
        tell(engine, offset, symbol, price, currency)


async def test_a_portfolio(engine: FakeEngine, server: WebServer) -> None:
    """Everything of one portfolio, positions by symbol, exact values by currency, and what has no price."""
    engine.join(*range(PARTITIONS))
    await hold(engine)
    answer = await get(server, "/portfolios/%50%31")
    found = answer.json
    assert (200, "P1", 6, {"USD": "-5.5"}, {"USD": "1"}, {}) == (
        answer.status, *(found[name] for name in ("portfolio_id", "sequence", "cash", "fees", "dividends")),
    )  # fmt: skip
    assert sorted(HELD) == [one["symbol"] for one in found["positions"]]
    assert {
        "symbol": "B", "currency": "USD", "quantity": "-0.5", "cost_basis": "-10", "average_cost": "1",
        "realised_pnl": "0", "price": "7.00000001", "market_value": "-3.5", "unrealised_pnl": "6.5",
    } == found["positions"][1]  # fmt: skip
    assert {
        "EUR": {"market_value": "60", "cost_basis": "30", "unrealised_pnl": "30"},
        "GBP": {"market_value": "0", "cost_basis": "0", "unrealised_pnl": "0"},
        "USD": {"market_value": "1233.7", "cost_basis": "1205", "unrealised_pnl": "28.7"},
    } == found["valuation"]
    assert [
        {"symbol": "NONE", "currency": "USD", "reason": "no_price"},
        {"symbol": "OTHER", "currency": "USD", "reason": "other_currency"},
    ] == found["unpriced"]
    assert (None, None, None) == tuple(
        found["positions"][5][name] for name in ("price", "market_value", "unrealised_pnl")
    )
    assert (PARTITION, 1041, "w1") == (found["partition"], found["offset"], found["worker"])
    assert {"partition": 0, "offset": 3, "worker": "w1"} == found["prices"]


async def test_a_portfolio_that_is_not_there(engine: FakeEngine, server: WebServer) -> None:
    """404 of a known state; what is no portfolio id is refused."""
    engine.join(*range(PARTITIONS))
    await hold(engine)
    unknown = await get(server, "/portfolios/P10")
    assert (404, 5) == (unknown.status, unknown.json["offset"])
    assert [400, 400, 404] == [(await get(server, f"/portfolios/{path}")).status for path in ("P1/A", "%ff", "")]


async def test_a_portfolio_of_another_worker(tmp_path: Path) -> None:
    """Forwarded like a key: the owner values it at its own prices."""
    coordinator = FakeCoordinator()
    first, second = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    first.join(*OTHERS)
    second.join(PARTITION)
    await hold(second)
    async with serving(first) as one, serving(second) as two:
        coordinator.members = {f"w1@{one.address}": OTHERS, f"w2@{two.address}": (PARTITION,)}
        found = (await get(one, "/portfolios/P1")).json
        second.membership.is_fresh = False
        refused = await get(one, "/portfolios/P1")
    assert ("w2", 1041, "1233.7") == (found["worker"], found["offset"], found["valuation"]["USD"]["market_value"])
    assert (503, "w2") == (refused.status, refused.json["worker"])


amounts = st.decimals(min_value=-(10**23), max_value=10**23, places=8)
prices = st.decimals(min_value=0, max_value=10**18 - 1, places=8)


@given(st.lists(st.tuples(amounts, amounts, prices), max_size=5))
def test_a_valuation_is_exact(held: list[tuple[Decimal, Decimal, Decimal]]) -> None:
    """One half-even rounding to 1e-8 a position, by fractions; sums and differences are exact at any size."""
    values = []
    expected_market = expected_cost = Fraction(0)
    for quantity, cost_basis, price in held:
        one = value(Position("USD", quantity, cost_basis, Decimal(0), Decimal(0)), Price("A", price, "USD", AS_OF))
        assert isinstance(one, Value)
        values.append(("USD", one))
        expected_market += Fraction(round(Fraction(quantity) * Fraction(price) * 10**8), 10**8)
        expected_cost += Fraction(cost_basis)
    found = total(values)
    if held:
        sums = found["USD"]
        assert (expected_market, expected_cost, expected_market - expected_cost) == (
            Fraction(sums.market_value), Fraction(sums.cost_basis), Fraction(sums.unrealised_pnl),
        )  # fmt: skip
        with arithmetic():
            assert sums.unrealised_pnl == sum(one.unrealised_pnl for _, one in values)
    else:
        assert {} == found

"""Market prices: what a record means, what the table then holds, and what the generator makes."""

import json
from decimal import Decimal
from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest

from agents.market_prices import read_record
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.domain.valuation import Price
from portfolio_stream.load.events import CURRENCIES, Mixture
from portfolio_stream.load.prices import STEP_MILLISECONDS, generate_prices
from tables import prices
from tables.prices import Prices

MEMBERS: dict[str, Any] = {
    "symbol": "ACME",
    "price": "103.10",
    "currency": "USD",
    "as_of": "2026-11-23T04:30:00.000Z",
}
ACME = Price("ACME", Decimal("103.10"), "USD", "2026-11-23T04:30:00.000Z")


def value(**other: Any) -> bytes:
    return json.dumps({name: given for name, given in (MEMBERS | other).items() if given is not ...}).encode()


def code(key: bytes | None, value: bytes | None) -> str:
    read = read_record(key, value)
    return read.code if isinstance(read, Rejected) else f"accepted {read}"


def test_a_price_is_read_and_shown() -> None:
    """Decimals stay exact, the time becomes UTC, unknown fields are ignored, of equal names the last counts."""
    assert ACME == read_record(b"ACME", value(venue="X"))
    assert {"price": "103.1", "currency": "USD", "as_of": "2026-11-23T04:30:00.000Z"} == prices.show_price(ACME)
    offset = read_record(b"BRK/B", value(symbol="BRK/B", price="0", as_of="2026-11-23T06:30:00.1239+02:00"))
    assert Price("BRK/B", Decimal(0), "USD", "2026-11-23T04:30:00.123Z") == offset
    assert ACME == read_record(b"ACME", b'{"price":"1",' + value()[1:])


@pytest.mark.parametrize(
    ("other", "expected"),
    [
        *(({name: ...}, "missing_field") for name in MEMBERS),
        *(({name: None}, "invalid_field") for name in MEMBERS),
        ({"price": 103.1}, "invalid_field"),
        ({"price": "-0.01"}, "invalid_field"),
        ({"price": "1e2"}, "invalid_field"),
        ({"price": "0.123456789"}, "invalid_field"),
        ({"price": "1234567890123456789"}, "invalid_field"),
        ({"currency": "usd"}, "invalid_field"),
        ({"symbol": "acme"}, "invalid_field"),
        ({"as_of": "2026-11-23T04:30:00"}, "invalid_field"),
        ({"as_of": "2026-02-30T04:30:00Z"}, "invalid_field"),
        ({"symbol": "OTHER"}, "key_mismatch"),
    ],
)
def test_a_bad_price_is_named(other: dict[str, Any], expected: str) -> None:
    """By the codes of events."""
    assert expected == code(b"ACME", value(**other))


@pytest.mark.parametrize(
    ("key", "content", "expected"),
    [
        (b"ACME", b"", "empty_value"),
        (b"ACME", b"[]", "malformed_json"),
        (b"ACME", value()[:-1] + b',"x":NaN}', "malformed_json"),
        (b"ACME", value(x="x" * 65_536), "too_large"),
        (None, value(), "key_mismatch"),
        (None, None, "key_mismatch"),
        (b"acme", None, "key_mismatch"),
        (b"\xff", None, "key_mismatch"),
    ],
)
def test_a_bad_record_is_named(key: bytes | None, content: bytes | None, expected: str) -> None:
    """No JSON, no key, or a deletion of what is no symbol."""
    assert expected == code(key, content)


def record(offset: int, key: bytes | None, content: bytes | None) -> Any:
    return SimpleNamespace(offset=offset, key=key, value=content)


def test_the_table_is_what_the_topic_said_last() -> None:
    """The last record of a symbol counts whatever its as_of; null deletes; a bad one is counted and changes nothing."""
    prices = Prices(read_record)
    prices.apply(
        [
            record(3, b"ACME", value()),
            record(4, b"B", value(symbol="B")),
            record(7, b"ACME", value(price="99", as_of="2020-01-01T00:00:00Z")),
            record(8, b"B", None),
            record(9, b"NEVER", None),
            record(12, b"ACME", b"nonsense"),
        ]
    )
    assert {"ACME": Price("ACME", Decimal(99), "USD", "2020-01-01T00:00:00.000Z")} == prices.by_symbol
    assert ({"price": 3, "deletion": 2, "malformed_json": 1}, 12) == (dict(prices.counts), prices.offset)
    prices.clear()
    assert ({}, None, 6) == (prices.by_symbol, prices.offset, prices.counts.total())


def test_generated_prices_are_a_function_of_seed_and_start_time() -> None:
    """Every one is valid; first one for each symbol in the mixture's currencies, then a walk in small steps."""
    mixture = Mixture(seed=5, start_time=1_795_408_200_000, symbols=20)
    made = list(islice(generate_prices(mixture), 500))
    assert made == list(islice(generate_prices(mixture), 500))
    assert made != list(islice(generate_prices(Mixture(seed=6, start_time=1_795_408_200_000, symbols=20)), 500))
    read = [read_record(one.key, one.value) for one in made]
    prices = [price for price in read if isinstance(price, Price)]
    assert 500 == len(prices)
    assert [(f"S{n:04d}", CURRENCIES[n % 4]) for n in range(20)] == [(p.symbol, p.currency) for p in prices[:20]]
    assert [1_795_408_200_000 + n * STEP_MILLISECONDS for n in range(1, 481)] == [one.timestamp for one in made[20:]]
    last = {price.symbol: price.price for price in prices[:20]}
    for price in prices[20:]:
        assert abs(price.price - last[price.symbol]) <= Decimal("0.10")
        last[price.symbol] = price.price
    assert "2026-11-23T04:30:48.000Z" == prices[-1].as_of

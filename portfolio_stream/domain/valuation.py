"""The value of positions at market prices. A position's value is round(quantity * price), exact but for that rounding.

A position that has no price in its own currency has no value and is in no sum. A flat position needs no price: its
market value is 0.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, final

import msgspec

from portfolio_stream.domain.money import ZERO, arithmetic, rounded_product
from portfolio_stream.domain.positions import Position

#: the symbol has no price, or its price is in another currency than the position
WhyUnpriced = Literal["no_price", "other_currency"]


@final
class Price(msgspec.Struct, frozen=True, gc=False):
    """A symbol's market price, from its newest record in market-prices."""

    symbol: str
    #: the price of one unit; not negative
    price: Decimal
    currency: str
    #: UTC with milliseconds, in the form of an event's occurred_at
    as_of: str


@final
class Value(msgspec.Struct, frozen=True, gc=False):
    """The value of one position, or the sum of several positions' values in one currency."""

    #: negative for a short position
    market_value: Decimal
    cost_basis: Decimal
    unrealised_pnl: Decimal


NOTHING = Value(ZERO, ZERO, ZERO)


def value(position: Position, price: Price | None) -> Value | WhyUnpriced:
    if not position.quantity:
        return _value(ZERO, position.cost_basis)
    if price is None:
        return "no_price"
    if price.currency != position.currency:
        return "other_currency"
    with arithmetic():
        return _value(rounded_product(position.quantity, price.price), position.cost_basis)


def total(values: Iterable[tuple[str, Value]]) -> Mapping[str, Value]:
    """Returns the sums by currency, sorted. A currency without a value is left out."""
    sums: dict[str, Value] = {}
    with arithmetic():
        for currency, one in values:
            before = sums.get(currency, NOTHING)
            sums[currency] = _value(before.market_value + one.market_value, before.cost_basis + one.cost_basis)
    return dict(sorted(sums.items()))


def _value(market_value: Decimal, cost_basis: Decimal) -> Value:
    with arithmetic():
        return Value(market_value, cost_basis, market_value - cost_basis)

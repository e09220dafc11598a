"""What positions are worth at the market's prices, by currency. Exact, with one rounding each: round(quantity * price).

A position without a price in its own currency has no value here: it is listed, and counts in no sum. A flat one needs
no price: nothing of it is left to be valued.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Literal, final

import msgspec

from portfolio_stream.domain.money import ZERO, arithmetic, rounded_product
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.prices import Price

#: there is none, or it is in another currency than the position
WhyUnpriced = Literal["no_price", "other_currency"]


@final
class Value(msgspec.Struct, frozen=True, gc=False):
    """Of one position, or the sum of several in one currency."""

    #: negative for a short
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
    """The sums by currency; what is unpriced is not given, and a currency without any value is not in it."""
    sums: dict[str, Value] = {}
    with arithmetic():
        for currency, one in values:
            before = sums.get(currency, NOTHING)
            sums[currency] = _value(before.market_value + one.market_value, before.cost_basis + one.cost_basis)
    return dict(sorted(sums.items()))


def _value(market_value: Decimal, cost_basis: Decimal) -> Value:
    with arithmetic():
        return Value(market_value, cost_basis, market_value - cost_basis)

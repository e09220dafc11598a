"""Decode the price records of market-prices, as strictly as events: same JSON, same rules for fields, same rejections.

There is no fast path, because prices are far fewer than events.
"""

from portfolio_stream.domain.money import plain
from portfolio_stream.domain.prices import Price
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import read_members, read_values
from portfolio_stream.records.fields import PRICE


def read_price(value: bytes | None) -> Price | Rejected:
    """Returns the price, or the first rejection of the checks from `empty_value` to `invalid_field`."""
    members = read_members(value)
    if isinstance(members, Rejected):
        return members
    values = read_values(members, PRICE)
    return values if isinstance(values, Rejected) else Price(**values)  # type: ignore[arg-type]  # PRICE has the same fields


def show_price(price: Price) -> dict[str, object]:
    """Returns the price with the contract's field names, ready for JSON."""
    return {"price": plain(price.price), "currency": price.currency, "as_of": price.as_of}

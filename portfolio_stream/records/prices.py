"""Price records of market-prices, as strict as events: the same JSON and fields, the same words for what is wrong.

Prices are few beside events: there is no fast path.
"""

from portfolio_stream.domain.money import plain
from portfolio_stream.domain.prices import Price
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import read_members, read_values
from portfolio_stream.records.fields import PRICE


def read_price(value: bytes | None) -> Price | Rejected:
    """The price, or the first of the checks from `empty_value` to `invalid_field` that fails."""
    members = read_members(value)
    if isinstance(members, Rejected):
        return members
    values = read_values(members, PRICE)
    return values if isinstance(values, Rejected) else Price(**values)  # type: ignore[arg-type]  # as PRICE has them


def show_price(price: Price) -> dict[str, object]:
    """For people: the contract's field names, ready for JSON."""
    return {"price": plain(price.price), "currency": price.currency, "as_of": price.as_of}

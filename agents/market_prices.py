"""What a record of market-prices says of a symbol. It is no part of the fold, and it causes no output.

A price is read as strictly as an event: the same JSON and the same fields, the same words for what is wrong. Prices are
few beside events, so there is no fast path.
"""

from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.domain.valuation import Price
from portfolio_stream.records.classifier import read_members, read_values
from portfolio_stream.records.fields import INVALID, PRICE, symbol
from tables.prices import PriceDeletion

KEY_IS_NO_SYMBOL = Rejected("key_mismatch", "the record's key is not the symbol")


def read_record(key: bytes | None, value: bytes | None) -> Price | PriceDeletion | Rejected:
    """Read a price, or the deletion of a symbol's price: a null value deletes by the key alone.

    A price whose key is not its symbol is rejected: compaction would mix symbols up.
    """
    if value is None:
        name = _symbol_of(key)
        return KEY_IS_NO_SYMBOL if name is None else PriceDeletion(name)
    price = _read_price(value)
    if isinstance(price, Price) and key != price.symbol.encode():
        return KEY_IS_NO_SYMBOL
    return price


def _read_price(value: bytes) -> Price | Rejected:
    """Returns the price, or the first of the checks from `empty_value` to `invalid_field` that fails."""
    members = read_members(value)
    if isinstance(members, Rejected):
        return members
    values = read_values(members, PRICE)
    return values if isinstance(values, Rejected) else Price(**values)  # type: ignore[arg-type]  # as PRICE has them


def _symbol_of(key: bytes | None) -> str | None:
    text = (key or b"").decode("ascii", "replace")  # no symbol has the replacement character
    return None if symbol.read(text) is INVALID else text

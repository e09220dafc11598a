"""The agent of market-prices: what a record says of a symbol. It is no part of the fold, and nothing is written."""

from portfolio_stream.domain.prices import Price
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.fields import INVALID, symbol
from portfolio_stream.records.prices import read_price
from tables.prices import Deletion

KEY_IS_NO_SYMBOL = Rejected("key_mismatch", "the record's key is not the symbol")


def read_record(key: bytes | None, value: bytes | None) -> Price | Deletion | Rejected:
    """Null deletes, by the key alone; a price must have its symbol for a key, or compaction would mix symbols up."""
    if value is None:
        name = _symbol_of(key)
        return KEY_IS_NO_SYMBOL if name is None else Deletion(name)
    price = read_price(value)
    if isinstance(price, Price) and key != price.symbol.encode():
        return KEY_IS_NO_SYMBOL
    return price


def _symbol_of(key: bytes | None) -> str | None:
    text = (key or b"").decode("ascii", "replace")  # no symbol has the replacement
    return None if symbol.read(text) is INVALID else text

"""Decode a record's value into an event, fast.

- The fast path only accepts values. It leaves every value that it does not accept at once to the strict reader in
  `classifier`, which may still accept it (an escape, a duplicate name, a split). So a peculiarity of msgspec's decoder
  can cost time, but cannot change an answer. A property test checks that both readers agree.
- The fields that differ in each event (ids, time) are joined by newlines and checked by one expression; no valid field
  has a newline. The texts that repeat (symbols, currencies, amounts) are looked up among those checked before.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar, final

import msgspec

from portfolio_stream.domain.events import Adjustment, Cash, Dividend, Event, Fee, Side, Trade
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import VALUE_BYTES_LIMIT, classify, is_surely_shallow
from portfolio_stream.records.fields import CURRENCY, IDENTIFIER, POSITIVE, REASON_LIMIT, SIGNED, SYMBOL, UNSIGNED
from portfolio_stream.records.times import NORMAL_FORM, normal_form

V = TypeVar("V")

_BACKSLASH = ord("\\")
_KNOWN_LIMIT = 1 << 14  # texts of each kind


class _Wire(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    event_id: str
    portfolio_id: str
    occurred_at: str


@final
class _Trade(_Wire, frozen=True, gc=False, tag="trade"):
    side: Side
    symbol: str
    quantity: str
    price: str
    currency: str
    fee: str = "0"


@final
class _Cash(_Wire, frozen=True, gc=False, tag="cash"):
    amount: str
    currency: str


@final
class _Dividend(_Wire, frozen=True, gc=False, tag="dividend"):
    symbol: str
    amount: str
    currency: str


@final
class _Fee(_Wire, frozen=True, gc=False, tag="fee"):
    amount: str
    currency: str


@final
class _Adjustment(_Wire, frozen=True, gc=False, tag="adjustment"):
    symbol: str
    quantity: str
    cost_basis: str
    currency: str
    realised_pnl: str = "0"
    reason: str = ""


# Splits have no fast path: they are rare, and msgspec would accept 1.0 as an integer.
_decode = msgspec.json.Decoder(_Trade | _Cash | _Dividend | _Fee | _Adjustment).decode
_is_head = re.compile("\n".join((IDENTIFIER, IDENTIFIER, NORMAL_FORM))).fullmatch


class _KnownEvent(dict[str, V]):
    """A cache of valid texts of one kind and their values. Raises KeyError for an invalid text.

    A full cache is emptied: its content affects only speed.
    """

    def __init__(self, pattern: str, read: Callable[[str], V]) -> None:
        super().__init__()
        self._matches = re.compile(pattern).fullmatch
        self._read = read

    def __missing__(self, text: str) -> V:
        if not self._matches(text):
            raise KeyError(text)
        if len(self) >= _KNOWN_LIMIT:
            self.clear()
        value = self[text] = self._read(text)
        return value


_symbols, _currencies = _KnownEvent(SYMBOL, str), _KnownEvent(CURRENCY, str)
_signed, _unsigned, _positive = (
    _KnownEvent(SIGNED, Decimal),
    _KnownEvent(UNSIGNED, Decimal),
    _KnownEvent(POSITIVE, Decimal),
)


def decode_event(value: bytes | None) -> Event | Rejected:
    """Returns the event, or the first rejection of the checks from `empty_value` to `invalid_field`."""
    if not value or len(value) > VALUE_BYTES_LIMIT or _BACKSLASH in value or not is_surely_shallow(value):
        return classify(value)
    try:
        if not value.isascii():
            value.decode()  # msgspec does not check the UTF-8 of fields that it skips
        return _accepted(_decode(value)) or classify(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return classify(value)


def _accepted(e: _Trade | _Cash | _Dividend | _Fee | _Adjustment) -> Event | None:
    """Returns the event. Returns None or raises KeyError if the strict reader must decide.

    One long body with the most frequent type first: function calls would make it a fifth slower.
    """
    event_id, portfolio_id, at = e.event_id, e.portfolio_id, e.occurred_at
    if not _is_head(f"{event_id}\n{portfolio_id}\n{at}"):
        at = normal_form(at) or ""
        if not _is_head(f"{event_id}\n{portfolio_id}\n{at}"):
            return None
    if type(e) is _Trade:
        symbol, quantity, price = _symbols[e.symbol], _positive[e.quantity], _unsigned[e.price]
        return Trade(
            event_id, portfolio_id, at, e.side, symbol, quantity, price, _currencies[e.currency], _unsigned[e.fee]
        )
    if type(e) is _Cash:
        return Cash(event_id, portfolio_id, at, _signed[e.amount], _currencies[e.currency])
    if type(e) is _Dividend:
        return Dividend(event_id, portfolio_id, at, _symbols[e.symbol], _signed[e.amount], _currencies[e.currency])
    if type(e) is _Fee:
        return Fee(event_id, portfolio_id, at, _positive[e.amount], _currencies[e.currency])
    if len(e.reason) > REASON_LIMIT:
        return None
    symbol, quantity, cost = _symbols[e.symbol], _signed[e.quantity], _signed[e.cost_basis]
    return Adjustment(
        event_id, portfolio_id, at, symbol, quantity, cost, _currencies[e.currency], _signed[e.realised_pnl]
    )

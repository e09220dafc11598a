"""Decode a record's value into an event, fast.

- The fast path only accepts values. It leaves every value that it does not accept at once to the strict reader in
  `classifier`, which may still accept it (an escape, a duplicate name, a split). So a peculiarity of msgspec's decoder
  can cost time, but cannot change an answer. A property test checks that both readers agree.
- The fields that differ in each event (ids, time) are joined by newlines and checked by one expression; no valid field
  has a newline. The texts that repeat (symbols, currencies, amounts) are looked up among those checked before.
"""

import re
from decimal import Decimal

import msgspec

from portfolio_stream.domain.events import Adjustment, Cash, Dividend, Event, Fee, Trade
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import VALUE_BYTES_LIMIT, classify, is_surely_shallow
from portfolio_stream.records.fields import CURRENCY, IDENTIFIER, POSITIVE, REASON_LIMIT, SIGNED, SYMBOL, UNSIGNED
from portfolio_stream.records.known import Known
from portfolio_stream.records.times import NORMAL_FORM, normal_form
from portfolio_stream.records.wire import (
    CashEvent,
    DividendEvent,
    FeeEvent,
    TradeEvent,
    WireTypes,
    decode_wire,
)

_BACKSLASH = ord("\\")

_is_head = re.compile("\n".join((IDENTIFIER, IDENTIFIER, NORMAL_FORM))).fullmatch

_symbols, _currencies = Known(SYMBOL, str), Known(CURRENCY, str)
_signed, _unsigned, _positive = (
    Known(SIGNED, Decimal),
    Known(UNSIGNED, Decimal),
    Known(POSITIVE, Decimal),
)


def decode_event(value: bytes | None) -> Event | Rejected:
    """Returns the event, or the first rejection of the checks from `empty_value` to `invalid_field`."""
    if not value or len(value) > VALUE_BYTES_LIMIT or _BACKSLASH in value or not is_surely_shallow(value):
        return classify(value)
    try:
        if not value.isascii():
            value.decode()  # msgspec does not check the UTF-8 of fields that it skips
        return _accepted(decode_wire(value)) or classify(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError):
        return classify(value)


def _accepted(e: WireTypes) -> Event | None:
    """Returns the event. Returns None or raises KeyError if the strict reader must decide.

    One long body with the most frequent type first: function calls would make it a fifth slower.
    """
    event_id, portfolio_id, at = e.event_id, e.portfolio_id, e.occurred_at
    if not _is_head(f"{event_id}\n{portfolio_id}\n{at}"):
        at = normal_form(at) or ""
        if not _is_head(f"{event_id}\n{portfolio_id}\n{at}"):
            return None
    if type(e) is TradeEvent:
        symbol, quantity, price = _symbols[e.symbol], _positive[e.quantity], _unsigned[e.price]
        return Trade(
            event_id, portfolio_id, at, e.side, symbol, quantity, price, _currencies[e.currency], _unsigned[e.fee]
        )
    if type(e) is CashEvent:
        return Cash(event_id, portfolio_id, at, _signed[e.amount], _currencies[e.currency])
    if type(e) is DividendEvent:
        return Dividend(event_id, portfolio_id, at, _symbols[e.symbol], _signed[e.amount], _currencies[e.currency])
    if type(e) is FeeEvent:
        return Fee(event_id, portfolio_id, at, _positive[e.amount], _currencies[e.currency])
    if len(e.reason) > REASON_LIMIT:
        return None
    symbol, quantity, cost = _symbols[e.symbol], _signed[e.quantity], _signed[e.cost_basis]
    return Adjustment(
        event_id, portfolio_id, at, symbol, quantity, cost, _currencies[e.currency], _signed[e.realised_pnl]
    )

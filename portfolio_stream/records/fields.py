"""The fields of PortfolioEvent and Price as tables, in the contract's order, with the rule for each field's value.

The strict reader (`classifier`) walks these tables. The fast reader (`events`) uses the same patterns.
"""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Final, NamedTuple

from portfolio_stream.domain.events import EventType
from portfolio_stream.records.times import normal_form

IDENTIFIER = r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}"
SYMBOL = r"[A-Z0-9._/-]{1,32}"
CURRENCY = r"[A-Z]{3}"
UNSIGNED = r"[0-9]{1,18}(?:\.[0-9]{1,8})?"
SIGNED = rf"-?{UNSIGNED}"
POSITIVE = rf"(?=[0-9.]*[1-9]){UNSIGNED}"
REASON_LIMIT = 200  # characters (Unicode code points)
RATIO_LIMIT = 1_000_000

INVALID: Final = object()

#: turns a JSON value into the domain's value, or returns INVALID
ReadField = Callable[[object], object]


class FieldKind(NamedTuple):
    read: ReadField
    #: ends the sentence "<field> must be ..."
    description: str


class EventField(NamedTuple):
    name: str
    kind: FieldKind
    #: the domain's value if the field is absent; INVALID: the field is mandatory
    default: object = INVALID


def _text(pattern: str, description: str) -> FieldKind:
    matches = re.compile(pattern).fullmatch
    return FieldKind(lambda value: value if isinstance(value, str) and matches(value) else INVALID, description)


def _amount(pattern: str, is_allowed: Callable[[Decimal], bool], description: str) -> FieldKind:
    matches = re.compile(pattern).fullmatch

    def read(value: object) -> object:
        if not (isinstance(value, str) and matches(value)):
            return INVALID
        amount = Decimal(value)
        return amount if is_allowed(amount) else INVALID

    return FieldKind(read, description)


def _read_time(value: object) -> object:
    normal = normal_form(value) if isinstance(value, str) else None
    return INVALID if normal is None else normal


def _read_ratio(value: object) -> object:
    # `type(...) is int`: JSON's true is a bool, and 1.0 is not an integer here
    return value if type(value) is int and 1 <= value <= RATIO_LIMIT else INVALID


def _read_reason(value: object) -> object:
    return value if isinstance(value, str) and len(value) <= REASON_LIMIT else INVALID


_identifier = _text(IDENTIFIER, "1 to 64 characters of A-Z, a-z, 0-9 and ._:-, the first a letter or digit")
_time = FieldKind(_read_time, "an RFC 3339 time with an offset, of the years 1970 to 2100, with seconds 00 to 59")
_side = _text("buy|sell", "buy or sell")
symbol = _text(SYMBOL, "1 to 32 characters of A-Z, 0-9 and ._/-")
_currency = _text(CURRENCY, "three letters A-Z")
_signed = _amount(SIGNED, lambda _: True, "a decimal string of up to 18 digits and 8 decimals")
_not_negative = _amount(SIGNED, lambda amount: amount >= 0, "a decimal string of up to 18 digits and 8 decimals, >= 0")
_positive = _amount(SIGNED, lambda amount: amount > 0, "a decimal string of up to 18 digits and 8 decimals, > 0")
_ratio = FieldKind(_read_ratio, f"a JSON integer from 1 to {RATIO_LIMIT}")
_reason = FieldKind(_read_reason, f"a string of up to {REASON_LIMIT} characters")

_ZERO = Decimal(0)

#: the fields that every event has, without `type`, which has a rejection code of its own
COMMON: tuple[EventField, ...] = (
    EventField("event_id", _identifier),
    EventField("portfolio_id", _identifier),
    EventField("occurred_at", _time),
)
OWN: dict[EventType, tuple[EventField, ...]] = {
    "trade": (
        EventField("side", _side),
        EventField("symbol", symbol),
        EventField("quantity", _positive),
        EventField("price", _not_negative),
        EventField("currency", _currency),
        EventField("fee", _not_negative, _ZERO),
    ),
    "cash": (EventField("amount", _signed), EventField("currency", _currency)),
    "dividend": (EventField("symbol", symbol), EventField("amount", _signed), EventField("currency", _currency)),
    "fee": (EventField("amount", _positive), EventField("currency", _currency)),
    "split": (EventField("symbol", symbol), EventField("numerator", _ratio), EventField("denominator", _ratio)),
    "adjustment": (
        EventField("symbol", symbol),
        EventField("quantity", _signed),
        EventField("cost_basis", _signed),
        EventField("currency", _currency),
        EventField("realised_pnl", _signed, _ZERO),
        EventField("reason", _reason, ""),
    ),
}
PRICE: tuple[EventField, ...] = (
    EventField("symbol", symbol),
    EventField("price", _not_negative),
    EventField("currency", _currency),
    EventField("as_of", _time),
)
COMMON_NAMES = ("event_id", "portfolio_id", "type", "occurred_at")  # the first missing one is reported

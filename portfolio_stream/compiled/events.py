"""Decode a record's value into an `DecodedEvent`, fast.

The fast path only accepts values. It leaves every value that it does not accept at once to the strict reader in
`records.classifier`, whose answer is final. So a peculiarity of msgspec's decoder can cost time, but cannot change an
answer.
"""

import re
from decimal import Decimal
from typing import Any, Final, final

from msgspec import MsgspecError

from portfolio_stream.compiled.amounts import ONE
from portfolio_stream.compiled.hints import mypyc_attr
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import VALUE_BYTES_LIMIT, classify, is_surely_shallow
from portfolio_stream.records.fields import CURRENCY, IDENTIFIER, POSITIVE, REASON_LIMIT, SIGNED, SYMBOL, UNSIGNED
from portfolio_stream.records.known import Known
from portfolio_stream.records.times import MINUTE_FORM, MINUTE_LENGTH, SECONDS_FORM
from portfolio_stream.records.wire import CashEvent, DividendEvent, FeeEvent, TradeEvent, decode_wire

TRADE: Final = 0
CASH: Final = 1
DIVIDEND: Final = 2
FEE: Final = 3
SPLIT: Final = 4
ADJUSTMENT: Final = 5
#: the contract's names, by the numbers above
TYPES: Final = ["trade", "cash", "dividend", "fee", "split", "adjustment"]

_NORMAL_LENGTH: Final = 24  # of an occurred_at in the output's form


def _scaled(text: str) -> int:
    whole, _, decimals = text.partition(".")
    amount = int(whole.removeprefix("-")) * ONE + int(decimals.ljust(8, "0"))
    return -amount if whole.startswith("-") else amount


def _start(minute: str) -> str:
    return minute + ":00Z"


_symbols: Final[Any] = Known(SYMBOL, str)
_currencies: Final[Any] = Known(CURRENCY, str)
_portfolio_ids: Final[Any] = Known(IDENTIFIER, str)
_signed: Final[Any] = Known(SIGNED, _scaled)
_unsigned: Final[Any] = Known(UNSIGNED, _scaled)
_positive: Final[Any] = Known(POSITIVE, _scaled)
#: the starts of windows, by the minute of an occurred_at
_windows: Final[Any] = Known(MINUTE_FORM, _start)
_is_identifier: Final[Any] = re.compile(IDENTIFIER).fullmatch
_are_seconds: Final[Any] = re.compile(SECONDS_FORM).fullmatch


@final
@mypyc_attr(acyclic=True)
class DecodedEvent:
    """A valid event of any type.

    | kind | first | second | third | symbol | currency |
    | TRADE | quantity | price | fee | yes | yes |
    | CASH, DIVIDEND, FEE | amount | | | of a dividend | yes |
    | SPLIT | numerator | denominator | | yes | |
    | ADJUSTMENT | quantity | cost_basis | realised_pnl | yes | yes |

    Amounts are scaled (`amounts`). The members of a split are plain numbers.
    """

    def __init__(
        self,
        kind: int,
        event_id: str,
        portfolio_id: str,
        occurred_at: str,
        window: str,
        symbol: str,
        first: int,
        second: int,
        currency: str,
        third: int,
        is_buy: bool,
    ) -> None:
        self.kind = kind
        self.event_id = event_id
        self.portfolio_id = portfolio_id
        self.occurred_at = occurred_at
        #: the start of its window of activity
        self.window = window
        self.symbol = symbol
        self.first = first
        self.second = second
        self.currency = currency
        self.third = third
        self.is_buy = is_buy


def decode(value: bytes | None) -> DecodedEvent | Rejected:
    """Returns the event, or the first rejection of the checks from `empty_value` to `invalid_field`."""
    if not value or len(value) > VALUE_BYTES_LIMIT or b"\\" in value or not is_surely_shallow(value):
        return _classified(value)
    try:
        if not value.isascii():
            value.decode()  # msgspec does not check the UTF-8 of fields that it skips
        event = _accepted(decode_wire(value))
    except (MsgspecError, UnicodeDecodeError, KeyError):
        return _classified(value)
    return _classified(value) if event is None else event


def _accepted(e: Any) -> DecodedEvent | None:
    """Returns the event. Returns None or raises KeyError if the strict reader must decide."""
    event_id: str = e.event_id
    at: str = e.occurred_at
    if len(at) != _NORMAL_LENGTH or not _is_identifier(event_id) or not _are_seconds(at, MINUTE_LENGTH):
        return None
    window: str = _windows[at[:MINUTE_LENGTH]]
    portfolio_id: str = _portfolio_ids[e.portfolio_id]
    kind = type(e)
    if kind is TradeEvent:
        return DecodedEvent(
            TRADE, event_id, portfolio_id, at, window, _symbols[e.symbol],
            _positive[e.quantity], _unsigned[e.price], _currencies[e.currency], _unsigned[e.fee], e.side == "buy",
        )  # fmt: skip
    if kind is CashEvent:
        return DecodedEvent(
            CASH, event_id, portfolio_id, at, window, "", _signed[e.amount], 0, _currencies[e.currency], 0, False
        )
    if kind is DividendEvent:
        return DecodedEvent(
            DIVIDEND, event_id, portfolio_id, at, window, _symbols[e.symbol],
            _signed[e.amount], 0, _currencies[e.currency], 0, False,
        )  # fmt: skip
    if kind is FeeEvent:
        return DecodedEvent(
            FEE, event_id, portfolio_id, at, window, "", _positive[e.amount], 0, _currencies[e.currency], 0, False
        )
    if len(e.reason) > REASON_LIMIT:
        return None
    return DecodedEvent(
        ADJUSTMENT, event_id, portfolio_id, at, window, _symbols[e.symbol],
        _signed[e.quantity], _signed[e.cost_basis], _currencies[e.currency], _signed[e.realised_pnl], False,
    )  # fmt: skip


def _classified(value: bytes | None) -> DecodedEvent | Rejected:
    e: Any = classify(value)
    if type(e) is Rejected:
        return e
    kind = TYPES.index(e.type)
    at: str = e.occurred_at
    first: int
    second = 0
    third = 0
    if kind == TRADE:
        first, second, third = _exact(e.quantity), _exact(e.price), _exact(e.fee)
    elif kind == SPLIT:
        first, second = e.numerator, e.denominator
    elif kind == ADJUSTMENT:
        first, second, third = _exact(e.quantity), _exact(e.cost_basis), _exact(e.realised_pnl)
    else:
        first = _exact(e.amount)
    return DecodedEvent(
        kind, e.event_id, e.portfolio_id, at, _start(at[:MINUTE_LENGTH]), getattr(e, "symbol", ""),
        first, second, getattr(e, "currency", ""), third, getattr(e, "side", "") == "buy",
    )  # fmt: skip


def _exact(amount: Decimal) -> int:
    return int(amount.scaleb(8))  # 26 digits at most, so the default context is exact

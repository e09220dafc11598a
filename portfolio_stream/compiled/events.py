"""Decode a record's value into a `DecodedEvent`, fast.

The fast path accepts values and never rejects one. Every value that it does not accept goes to the strict reader in
`records.classifier`, whose answer is final. So a peculiarity of msgspec's decoder can cost time, but cannot reject an
event.
"""

from decimal import Decimal
from typing import Any, Final, final

from msgspec import MsgspecError
from msgspec.structs import astuple

from portfolio_stream.compiled.hints import mypyc_attr
from portfolio_stream.compiled.texts import amount, are_seconds, is_identifier
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import NESTING_LIMIT, VALUE_BYTES_LIMIT, classify, is_surely_shallow
from portfolio_stream.records.fields import CURRENCY, REASON_LIMIT, SYMBOL
from portfolio_stream.records.known import Known
from portfolio_stream.records.times import MINUTE_FORM, MINUTE_LENGTH
from portfolio_stream.records.wire import CashEvent, DividendEvent, FeeEvent, TradeEvent, decode_wire

TRADE: Final = 0
CASH: Final = 1
DIVIDEND: Final = 2
FEE: Final = 3
SPLIT: Final = 4
ADJUSTMENT: Final = 5
#: the contract's names, by the numbers above
TYPES: Final = ["trade", "cash", "dividend", "fee", "split", "adjustment"]

_SHALLOW: Final[int] = 2 * NESTING_LIMIT  # bytes: a shorter value is neither too large nor nested too deep
_NORMAL_LENGTH: Final = 24  # of an occurred_at in the output's form


def _start(minute: str) -> str:
    return minute + ":00Z"


_symbols: Final[Any] = Known(SYMBOL, str)
_currencies: Final[Any] = Known(CURRENCY, str)
#: the starts of windows, by the minute of an occurred_at
_windows: Final[Any] = Known(MINUTE_FORM, _start)


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
    if not value or b"\\" in value or (len(value) >= _SHALLOW and not _is_plain(value)):
        return _classified(value)
    try:
        if not value.isascii():
            value.decode()  # msgspec does not check the UTF-8 of fields that it skips
        event = _accepted(decode_wire(value))
    except (MsgspecError, ValueError, KeyError):  # also of a text that is no UTF-8
        return _classified(value)
    return _classified(value) if event is None else event


def _is_plain(value: bytes) -> bool:
    return len(value) <= VALUE_BYTES_LIMIT and is_surely_shallow(value)


def _accepted(e: Any) -> DecodedEvent | None:
    """Returns the event. Returns None, or raises ValueError or KeyError, if the strict reader must decide."""
    m: tuple[Any, ...] = astuple(e)  # in the order of records.wire: one call, not ten look-ups of attributes
    event_id: str = m[0]
    portfolio_id: str = m[1]
    at: str = m[2]
    if len(at) != _NORMAL_LENGTH or not are_seconds(at, MINUTE_LENGTH):
        return None
    if not is_identifier(event_id) or not is_identifier(portfolio_id):
        return None
    window: str = _windows[at[:MINUTE_LENGTH]]
    kind = type(e)
    if kind is TradeEvent:
        return DecodedEvent(
            TRADE, event_id, portfolio_id, at, window, _symbols[m[4]], _positive(m[5]), amount(m[6], False),
            _currencies[m[7]], amount(m[8], False), m[3] == "buy",
        )  # fmt: skip
    if kind is CashEvent:
        return DecodedEvent(
            CASH, event_id, portfolio_id, at, window, "", amount(m[3], True), 0, _currencies[m[4]], 0, False
        )
    if kind is DividendEvent:
        return DecodedEvent(
            DIVIDEND, event_id, portfolio_id, at, window, _symbols[m[3]], amount(m[4], True), 0,
            _currencies[m[5]], 0, False,
        )  # fmt: skip
    if kind is FeeEvent:
        return DecodedEvent(
            FEE, event_id, portfolio_id, at, window, "", _positive(m[3]), 0, _currencies[m[4]], 0, False
        )
    if len(m[8]) > REASON_LIMIT:
        return None
    return DecodedEvent(
        ADJUSTMENT, event_id, portfolio_id, at, window, _symbols[m[3]], amount(m[4], True), amount(m[5], True),
        _currencies[m[6]], amount(m[7], True), False,
    )  # fmt: skip


def _positive(text: str) -> int:
    scaled = amount(text, False)
    if scaled == 0:
        raise ValueError
    return scaled


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
        kind,
        e.event_id,
        e.portfolio_id,
        at,
        _start(at[:MINUTE_LENGTH]),
        getattr(e, "symbol", ""),
        first,
        second,
        getattr(e, "currency", ""),
        third,
        getattr(e, "side", "") == "buy",
    )


def _exact(amount: Decimal) -> int:
    return int(amount.scaleb(8))  # 26 digits at most, so the default context is exact

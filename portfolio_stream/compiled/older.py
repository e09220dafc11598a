"""Table values of format 2, as they were written before format 3. A value is written in format 3 when it next changes.

Amounts are text with eight decimals, mappings have the currencies as keys. A portfolio of format 2 tells nothing of the
ring of seen_chunks, so all its entries of seen_events count as unlisted (`ring`).
"""

from decimal import Decimal
from typing import Any, Final, Literal

import msgspec

from portfolio_stream.compiled.events import TYPES
from portfolio_stream.compiled.values import Account, ActivityRow, ChunkRow, PortfolioRow, PositionRow
from portfolio_stream.domain.events import EventType
from portfolio_stream.domain.money import ARITHMETIC, MAGNITUDE_LIMIT, QUANTUM

_STORED_POWERS: Final = range(QUANTUM.adjusted(), MAGNITUDE_LIMIT)  # of ten

_Amounts = dict[str, Decimal]
_position: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[2], str, Decimal, Decimal, Decimal, Decimal]).decode
_portfolio: Final[Any] = msgspec.msgpack.Decoder(
    tuple[Literal[2], int, _Amounts, _Amounts, _Amounts, dict[EventType, int], str, str, str, bytes]
).decode
_activity: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[2], int, _Amounts]).decode
_chunk: Final[Any] = msgspec.msgpack.Decoder(tuple[Literal[2], int, list[str], int, str]).decode


def read_position_of_format_2(value: bytes) -> PositionRow:
    _, currency, quantity, cost, average, realised = _position(value)
    return PositionRow(currency, _scaled(quantity), _scaled(cost), _scaled(average), _scaled(realised))


def read_portfolio_of_format_2(value: bytes) -> PortfolioRow:
    _, sequence, cash, fees, dividends, events, earliest, latest, newest, present = _portfolio(value)
    p = PortfolioRow()
    p.sequence = sequence
    for currency in sorted({*cash, *fees, *dividends}):
        account = Account()
        account.cash = _scaled(cash[currency])
        if currency in fees:
            account.fees = _scaled(fees[currency])
            account.has_fees = True
        if currency in dividends:
            account.dividends = _scaled(dividends[currency])
            account.has_dividends = True
        p.accounts[currency] = account
    p.events = [events.get(kind, 0) for kind in TYPES]
    p.earliest = earliest
    p.latest = latest
    p.newest = newest
    p.present = int.from_bytes(present, "big")
    p.unlisted = sequence
    return p


def read_activity_of_format_2(value: bytes) -> ActivityRow:
    _, events, notional = _activity(value)
    a = ActivityRow()
    a.events = events
    a.notional = {currency: _scaled(notional[currency]) for currency in sorted(notional)}
    return a


def read_chunk_of_format_2(value: bytes) -> ChunkRow:
    _, last, event_ids, unlisted, swept = _chunk(value)
    return ChunkRow(last, "\n".join(event_ids), unlisted, swept)


def _scaled(amount: Decimal) -> int:
    """Raises msgspec.ValidationError for a NaN, and for a number whose exponent would make a gigabyte of digits."""
    if not (amount.is_finite() and amount.adjusted() in _STORED_POWERS):
        raise msgspec.ValidationError("an amount that is never stored")
    return int(ARITHMETIC.scaleb(amount, 8))

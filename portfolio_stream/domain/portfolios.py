"""A portfolio without its positions: sequence, cash, fees and dividends by currency, and which windows it has.

The mappings are replaced, never changed, so an older portfolio value stays valid. A mapping gets a currency with the
first event that books in it. A trade without a fee books nothing in `fees`.
"""

from decimal import Decimal
from typing import final

import msgspec

from portfolio_stream.domain.activity import NO_WINDOWS, Windows
from portfolio_stream.domain.events import Event, EventType
from portfolio_stream.domain.money import ZERO, Amounts, is_storable
from portfolio_stream.domain.rejection import Rejected, out_of_range


@final
class Portfolio(msgspec.Struct, frozen=True, gc=False):
    #: accepted events, counted from 1 without a gap
    sequence: int
    cash: Amounts
    fees: Amounts
    dividends: Amounts
    events: dict[EventType, int]
    #: smallest and largest occurred_at
    earliest: str
    latest: str
    #: which windows of this portfolio the table activity has
    windows: Windows = NO_WINDOWS


# occurred_at begins with a digit, so every occurred_at is smaller than "~" and greater than ""
EMPTY = Portfolio(0, {}, {}, {}, {}, "~", "")


def count(event: Event, before: Portfolio) -> Portfolio:
    """Count an accepted event that moves no cash."""
    return _next(event, before, before.cash, before.fees, before.dividends)


def book(
    event: Event, before: Portfolio, currency: str, cash: Decimal, fee: Decimal | None, dividend: Decimal | None
) -> Portfolio | Rejected:
    """Count an accepted event and add its amounts to the currency's accounts. None books nothing; 0 opens an account.

    Returns a rejection if an account would leave the range.
    """
    balance = before.cash.get(currency, ZERO) + cash
    if not is_storable(balance):
        return out_of_range("cash")
    fees, dividends = before.fees, before.dividends
    if fee is not None:
        total = fees.get(currency, ZERO) + fee
        if not is_storable(total):
            return out_of_range("fees")
        fees = fees.copy()
        fees[currency] = total
    if dividend is not None:
        total = dividends.get(currency, ZERO) + dividend
        if not is_storable(total):
            return out_of_range("dividends")
        dividends = dividends.copy()
        dividends[currency] = total
    cash_after = before.cash.copy()  # copy and assignment take half the time of {**before.cash, currency: balance}
    cash_after[currency] = balance
    return _next(event, before, cash_after, fees, dividends)


def with_windows(portfolio: Portfolio, windows: Windows) -> Portfolio:
    return portfolio if windows is portfolio.windows else msgspec.structs.replace(portfolio, windows=windows)


def _next(event: Event, before: Portfolio, cash: Amounts, fees: Amounts, dividends: Amounts) -> Portfolio:
    events, kind = before.events.copy(), event.type
    events[kind] = events.get(kind, 0) + 1
    at, earliest, latest = event.occurred_at, before.earliest, before.latest
    if at < earliest:
        earliest = at
    if at > latest:
        latest = at
    return Portfolio(before.sequence + 1, cash, fees, dividends, events, earliest, latest, before.windows)

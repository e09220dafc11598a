"""The fold: one event and the state before it give the state after it, or a rejection.

The fold is pure, has an answer for every valid event, and alone decides what an event does. It checks the currency
before the range. The caller has handled duplicates already, and passes the position of `event.symbol`.
"""

from decimal import Decimal, getcontext
from typing import assert_never, final

import msgspec

from portfolio_stream.domain.events import Adjustment, Cash, Dividend, Event, Fee, Split, Trade
from portfolio_stream.domain.money import ARITHMETIC, arithmetic, rounded_product
from portfolio_stream.domain.portfolios import EMPTY, Portfolio, book, count
from portfolio_stream.domain.positions import Position, apply_adjustment, apply_split, apply_trade
from portfolio_stream.domain.rejection import Rejected


@final
class FoldOutcome(msgspec.Struct, frozen=True, gc=False):
    portfolio: Portfolio
    #: the new position of the event's symbol, for state and output; None: the event changes no position
    position: Position | None = None
    #: the output shows the balance in this currency; None: the event moves no cash
    currency: str | None = None
    #: None: the event is no trade
    notional: Decimal | None = None


def fold(event: Event, portfolio: Portfolio | None, position: Position | None) -> FoldOutcome | Rejected:
    if getcontext() is not ARITHMETIC:
        with arithmetic():
            return fold(event, portfolio, position)
    before = EMPTY if portfolio is None else portfolio
    if type(event) is Trade:
        return _trade(event, before, position)
    if type(event) is Cash:
        return _booked(event.currency, book(event, before, event.currency, event.amount, None, None))
    if type(event) is Dividend:
        return _booked(event.currency, book(event, before, event.currency, event.amount, None, event.amount))
    if type(event) is Fee:
        return _booked(event.currency, book(event, before, event.currency, -event.amount, event.amount, None))
    if type(event) is Split:
        return _positioned(event, before, None if position is None else apply_split(event, position))
    if type(event) is Adjustment:
        return _positioned(event, before, apply_adjustment(event, position))
    assert_never(event)


def _trade(trade: Trade, before: Portfolio, position: Position | None) -> FoldOutcome | Rejected:
    notional = rounded_product(trade.quantity, trade.price)
    after = apply_trade(trade, notional, position)
    if type(after) is Rejected:
        return after
    cash = -(notional + trade.fee) if trade.side == "buy" else notional - trade.fee
    booked = book(trade, before, trade.currency, cash, trade.fee or None, None)
    return booked if type(booked) is Rejected else FoldOutcome(booked, after, trade.currency, notional)


def _booked(currency: str, after: Portfolio | Rejected) -> FoldOutcome | Rejected:
    return after if type(after) is Rejected else FoldOutcome(after, None, currency)


def _positioned(event: Event, before: Portfolio, after: Position | Rejected | None) -> FoldOutcome | Rejected:
    return after if type(after) is Rejected else FoldOutcome(count(event, before), after)

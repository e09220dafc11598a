"""The position that follows from an event, or a `Rejected`. `domain.positions` has the same rules over decimals, and
explains them.
"""

from portfolio_stream.compiled.amounts import ONE, is_storable, product, quotient, share
from portfolio_stream.compiled.events import DecodedEvent
from portfolio_stream.compiled.values import PositionRow
from portfolio_stream.domain.rejection import CURRENCY_MISMATCH, ROUNDED_AWAY, Rejected, out_of_range


def apply_trade(trade: DecodedEvent, notional: int, before: PositionRow | None) -> PositionRow | Rejected:
    is_buy = trade.is_buy
    size = trade.first
    change = size if is_buy else -size
    if before is None:
        return _position(trade.currency, change, notional if is_buy else -notional, 0)
    if not _accepts(before, trade.currency):
        return CURRENCY_MISMATCH
    held = before.quantity
    cost = before.cost_basis
    realised = before.realised_pnl
    if held != 0 and (held < 0) == is_buy:  # the trade closes at least a part
        holding = -held if held < 0 else held
        closing = notional
        relieved = cost
        if size > holding:
            closing = product(holding, trade.second)
        elif size < holding:
            relieved = share(cost, size, holding)
        cost -= relieved
        realised += (closing if held > 0 else -closing) - relieved
        notional -= closing
    return _position(trade.currency, held + change, cost + notional if is_buy else cost - notional, realised)


def apply_split(split: DecodedEvent, before: PositionRow) -> PositionRow | Rejected:
    quantity = quotient(before.quantity * split.first, split.second)
    if before.quantity != 0 and quantity == 0:
        return ROUNDED_AWAY
    return _position(before.currency, quantity, before.cost_basis, before.realised_pnl)


def apply_adjustment(adjustment: DecodedEvent, before: PositionRow | None) -> PositionRow | Rejected:
    if before is None:
        return _position(adjustment.currency, adjustment.first, adjustment.second, adjustment.third)
    if not _accepts(before, adjustment.currency):
        return CURRENCY_MISMATCH
    quantity = before.quantity + adjustment.first
    cost = before.cost_basis + adjustment.second
    return _position(adjustment.currency, quantity, cost, before.realised_pnl + adjustment.third)


def _accepts(position: PositionRow, currency: str) -> bool:
    if position.currency == currency:
        return True
    return position.quantity == 0 and position.cost_basis == 0 and position.realised_pnl == 0


def _position(currency: str, quantity: int, cost: int, realised: int) -> PositionRow | Rejected:
    average = share(cost, ONE, quantity) if quantity != 0 else 0
    if is_storable(quantity) and is_storable(cost) and is_storable(average) and is_storable(realised):
        return PositionRow(currency, quantity, cost, average, realised)
    if not is_storable(quantity):
        return out_of_range("quantity")
    if not is_storable(cost):
        return out_of_range("cost_basis")
    return out_of_range("realised_pnl" if is_storable(average) else "average_cost")

"""A position at average cost, long or short, in one currency.

The part of a trade that closes realises a profit: its value less the cost that it relieves. The part that opens adds to
the cost basis. Each amount is rounded once, at the place that the contract says. A flat position is kept, with its
realised profit and currency.
"""

from decimal import Decimal
from typing import final

import msgspec

from portfolio_stream.domain.events import Adjustment, Split, Trade
from portfolio_stream.domain.money import MAGNITUDE_LIMIT, ZERO, is_storable, rounded_product, rounded_quotient
from portfolio_stream.domain.rejection import CURRENCY_MISMATCH, ROUNDED_AWAY, Rejected, out_of_range


@final
class Position(msgspec.Struct, frozen=True, gc=False):
    currency: str
    #: negative for a short position
    quantity: Decimal
    #: negative for a short position
    cost_basis: Decimal
    #: round(cost_basis / quantity), 0 when flat
    average_cost: Decimal
    realised_pnl: Decimal

    def accepts(self, currency: str) -> bool:
        """Whether an event in this currency may change the position: any currency may while all amounts are 0."""
        return self.currency == currency or not (self.quantity or self.cost_basis or self.realised_pnl)


def apply_trade(trade: Trade, notional: Decimal, before: Position | None) -> Position | Rejected:
    """Apply a trade. `notional` is round(quantity * price), which the caller also needs for the cash."""
    currency, is_buy = trade.currency, trade.side == "buy"
    change = trade.quantity if is_buy else -trade.quantity
    if before is None:
        return _position(currency, ZERO + change, ZERO + notional if is_buy else ZERO - notional, ZERO)
    if before.currency != currency and not before.accepts(currency):
        return CURRENCY_MISMATCH
    held, cost, realised = before.quantity, before.cost_basis, before.realised_pnl
    if held and (held < ZERO) is is_buy:
        closing, relieved = _close(trade, notional, before)
        cost -= relieved
        realised += (closing if held > ZERO else ZERO - closing) - relieved
        notional -= closing
    return _position(currency, held + change, cost + notional if is_buy else cost - notional, realised)


def apply_split(split: Split, before: Position) -> Position | Rejected:
    quantity = rounded_quotient(before.quantity * split.numerator, Decimal(split.denominator))
    if before.quantity and not quantity:
        return ROUNDED_AWAY
    return _position(before.currency, quantity, before.cost_basis, before.realised_pnl)


def apply_adjustment(adjustment: Adjustment, before: Position | None) -> Position | Rejected:
    currency = adjustment.currency
    if before is None:
        before = Position(currency, ZERO, ZERO, ZERO, ZERO)
    if not before.accepts(currency):
        return CURRENCY_MISMATCH
    quantity = before.quantity + adjustment.quantity
    cost_basis = before.cost_basis + adjustment.cost_basis
    return _position(currency, quantity, cost_basis, before.realised_pnl + adjustment.realised_pnl)


def _close(trade: Trade, notional: Decimal, before: Position) -> tuple[Decimal, Decimal]:
    """Returns the value of the part that closes, and the cost that it relieves."""
    held = abs(before.quantity)
    if trade.quantity >= held:
        closing = notional if trade.quantity == held else rounded_product(held, trade.price)
        return closing, before.cost_basis
    return notional, rounded_quotient(before.cost_basis * trade.quantity, held)


def _position(currency: str, quantity: Decimal, cost_basis: Decimal, realised_pnl: Decimal) -> Position | Rejected:
    average_cost = rounded_quotient(cost_basis, quantity) if quantity else ZERO
    if (  # `is_storable` written out: each call would take as long as the addition before it
        quantity.adjusted() < MAGNITUDE_LIMIT
        and cost_basis.adjusted() < MAGNITUDE_LIMIT
        and average_cost.adjusted() < MAGNITUDE_LIMIT
        and realised_pnl.adjusted() < MAGNITUDE_LIMIT
    ):
        return Position(currency, quantity, cost_basis, average_cost, realised_pnl)
    amounts = {"quantity": quantity, "cost_basis": cost_basis, "average_cost": average_cost}
    return out_of_range(next((name for name, amount in amounts.items() if not is_storable(amount)), "realised_pnl"))

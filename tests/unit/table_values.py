"""The values of the tables from the domain's values, which are easier to write down."""

from decimal import Decimal
from typing import Any

from portfolio_stream.compiled.events import TYPES
from portfolio_stream.compiled.values import ActivityRow, PortfolioRow, PositionRow
from portfolio_stream.domain import activity, portfolios, positions
from portfolio_stream.domain.money import ARITHMETIC


def scaled(amount: Decimal) -> int:
    return int(ARITHMETIC.scaleb(amount, 8))


def table_value(value: positions.Position | portfolios.Portfolio | activity.Activity) -> Any:
    if isinstance(value, positions.Position):
        amounts = (value.quantity, value.cost_basis, value.average_cost, value.realised_pnl)
        return PositionRow(value.currency, *map(scaled, amounts))
    if isinstance(value, activity.Activity):
        window = ActivityRow()
        window.events = value.events
        for currency, amount in value.notional.items():
            window.set_notional(currency, scaled(amount))
        return window
    return _portfolio(value)


def _portfolio(value: portfolios.Portfolio) -> PortfolioRow:
    portfolio = PortfolioRow()
    portfolio.sequence = value.sequence
    portfolio.earliest, portfolio.latest = value.earliest, value.latest
    portfolio.newest, portfolio.present = value.windows.newest, value.windows.present
    portfolio.events = [value.events.get(kind, 0) for kind in TYPES]  # type: ignore[call-overload]
    for currency in {**value.cash, **value.fees, **value.dividends}:
        account = portfolio.open_account(currency)
        account.cash = scaled(value.cash[currency])
        account.has_fees, account.has_dividends = currency in value.fees, currency in value.dividends
        account.fees = scaled(value.fees.get(currency, Decimal(0)))
        account.dividends = scaled(value.dividends.get(currency, Decimal(0)))
    return portfolio

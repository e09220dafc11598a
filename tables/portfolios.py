"""portfolios: portfolio_id -> PortfolioRow."""

from portfolio_stream.compiled.amounts import plain
from portfolio_stream.compiled.codecs import decode_portfolio, encode_portfolio
from portfolio_stream.compiled.events import TYPES
from portfolio_stream.compiled.values import PortfolioRow
from tables.table import Table


def _show(portfolio: PortfolioRow) -> dict[str, object]:
    accounts = portfolio.accounts.items()
    return {
        "sequence": portfolio.sequence,
        "cash": {currency: plain(account.cash) for currency, account in accounts},
        "fees": {currency: plain(account.fees) for currency, account in accounts if account.has_fees},
        "dividends": {currency: plain(account.dividends) for currency, account in accounts if account.has_dividends},
        "events": {kind: count for kind, count in sorted(zip(TYPES, portfolio.events, strict=True)) if count},
        "earliest": portfolio.earliest,
        "latest": portfolio.latest,
    }


PORTFOLIOS: Table[PortfolioRow] = Table(
    name="portfolios", key=("portfolio_id",), encode=encode_portfolio, decode=decode_portfolio, show=_show
)

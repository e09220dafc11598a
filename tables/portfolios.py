"""portfolios: portfolio_id -> Portfolio."""

from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.records.values import decode_portfolio, encode_portfolio, join_key

PORTFOLIOS: TableDefinition[Portfolio] = TableDefinition(
    name="portfolios", encode=encode_portfolio, decode=decode_portfolio
)


def key(portfolio_id: str) -> bytes:
    return join_key(portfolio_id)

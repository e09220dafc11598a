"""The routes that show tables, put together."""

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.web.census import Census
from portfolio_stream.web.fanout import Fanout
from portfolio_stream.web.listing import Listing
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.pages import Pages
from portfolio_stream.web.portfolios import PortfolioQueries
from portfolio_stream.web.prices import PriceQueries
from portfolio_stream.web.queries import Queries
from tables.prices import Prices


def table_routes(
    engine: Engine, owners: Owners, fanout: Fanout, census: Census, prices: Prices
) -> tuple[web.RouteDef, ...]:
    """In the order in which they are tried: the global table's come before the others'."""
    global_table = PriceQueries(prices, owners.worker)
    portfolios = PortfolioQueries(engine.store, owners, prices, global_table)
    return (
        web.get("/tables", Listing(fanout, census, prices, global_table, owners.worker).show),
        web.get("/tables/prices", global_table.page),
        web.get("/tables/prices/{symbol:.+}", global_table.value),
        web.get("/tables/{table}", Pages(engine.store, fanout, owners.worker).show),
        web.get("/tables/{table}/{key:.+}", Queries(owners).value),
        web.get("/portfolios/{portfolio_id:.+}", portfolios.show),
    )

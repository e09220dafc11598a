"""The routes that show tables, in the order in which they are tried, and the handler of one key."""

from functools import partial
from http import HTTPStatus

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.web.fanout import Fanout
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.portfolios import PortfolioQueries
from portfolio_stream.web.prices import PriceQueries
from portfolio_stream.web.table_list import Listing
from portfolio_stream.web.table_pages import Pages
from portfolio_stream.web.table_paths import NO_SUCH_KEY, Lookup, parse_lookup
from portfolio_stream.web.table_sizes import Census
from tables.prices import Prices


class KeyQueries:
    """GET /tables/{table}/{part}/{part}: the committed value of one key. Any worker gets it from the partition's owner.

    The key comes from the raw path: %2F in a part is a slash of the key, never a separator.
    """

    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def value(self, request: web.Request) -> web.Response:
        asked = parse_lookup(request.rel_url.raw_path)
        if isinstance(asked, Problem):
            return asked.response()
        return await self._owners.answer(request, asked.parts[0], partial(self._local, asked))

    async def _local(self, asked: Lookup, moment: Moment) -> web.Response:
        table, key = asked.table, asked.parts
        origin = self._owners.origin(moment.partition, moment.offset)
        value = moment.value(table, *key)
        if value is None or not table.is_current(moment, key, value):
            return Problem(HTTPStatus.NOT_FOUND, NO_SUCH_KEY, origin).response()
        return json_response({"key": key, "value": table.show(value), **origin})


def table_routes(
    engine: Engine, owners: Owners, fanout: Fanout, census: Census, prices: Prices
) -> tuple[web.RouteDef, ...]:
    """Returns the routes in the order in which they are tried: those of the global table come first."""
    global_table = PriceQueries(prices, owners.worker)
    portfolios = PortfolioQueries(engine.store, owners, prices, global_table)
    return (
        web.get("/tables", Listing(fanout, census, prices, global_table, owners.worker).show),
        web.get("/tables/prices", global_table.page),
        web.get("/tables/prices/{symbol:.+}", global_table.value),
        web.get("/tables/{table}", Pages(engine.store, fanout, owners.worker).show),
        web.get("/tables/{table}/{key:.+}", KeyQueries(owners).value),
        web.get("/portfolios/{portfolio_id:.+}", portfolios.show),
    )

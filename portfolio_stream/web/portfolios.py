"""GET /portfolios/{portfolio_id}: a portfolio with all its positions, valued at market prices.

PortfolioRow and positions are of one moment; the answer names its partition and offset. The prices are those of the
answering worker, and have an offset of their own. A position without a price is listed with the reason, and is in no
sum.
"""

from collections.abc import Mapping
from functools import partial
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.compiled.values import PortfolioRow, PositionRow
from portfolio_stream.domain.money import plain
from portfolio_stream.domain.valuation import Price, Value, total, value
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.http.problem import Problem, json_response, unavailable
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.prices import UNREAD, PriceQueries
from portfolio_stream.web.table_paths import parse_key
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS, exact_position
from tables.prices import Prices
from tables.table import SEPARATOR, join_key

PATH = "/portfolios/"
_AFTER_SEPARATOR = bytes([SEPARATOR[0] + 1])

#: the positions by symbol, in the order of the symbols
Positions = Mapping[str, PositionRow]


class PortfolioQueries:
    def __init__(self, store: Store, owners: Owners, prices: Prices, price_queries: PriceQueries) -> None:
        self._store = store
        self._owners = owners
        self._prices = prices
        self._price_queries = price_queries

    async def show(self, request: web.Request) -> web.Response:
        key = parse_key("a portfolio", ("portfolio_id",), request.rel_url.raw_path.removeprefix(PATH))
        if isinstance(key, Problem):
            return key.response()
        return await self._owners.answer(request, key[0], partial(self._local, key[0]))

    async def _local(self, portfolio_id: str, moment: Moment) -> web.Response:
        origin = self._owners.origin(moment.partition, moment.offset)
        if not self._prices.is_ready:
            return unavailable(UNREAD, **origin).response()
        prices, priced = dict(self._prices.by_symbol), self._price_queries.origin()
        found = await self._store.read_aside(partial(_read, moment, portfolio_id, prices))
        if found is None:
            return Problem(HTTPStatus.NOT_FOUND, "There is no such portfolio.", origin).response()
        return json_response({"portfolio_id": portfolio_id, **found, **origin, "prices": priced})


def _read(moment: Moment, portfolio_id: str, prices: Mapping[str, Price]) -> dict[str, object] | None:
    portfolio = moment.value(PORTFOLIOS, portfolio_id)
    if portfolio is None:
        return None
    start, end = join_key(portfolio_id) + SEPARATOR, join_key(portfolio_id) + _AFTER_SEPARATOR
    positions = {POSITIONS.parts_of(key)[1]: POSITIONS.read(raw) for key, raw in moment.entries(POSITIONS, start, end)}
    return show(portfolio, positions, prices)


def show(portfolio: PortfolioRow, positions: Positions, prices: Mapping[str, Price]) -> dict[str, object]:
    """Returns the portfolio as values that JSON can hold."""
    values = {symbol: value(exact_position(position), prices.get(symbol)) for symbol, position in positions.items()}
    known = {symbol: one for symbol, one in values.items() if isinstance(one, Value)}
    sums = total((positions[symbol].currency, one) for symbol, one in known.items())
    return {
        **PORTFOLIOS.show(portfolio),
        "positions": [_show_position(symbol, one, prices, known.get(symbol)) for symbol, one in positions.items()],
        "valuation": {currency: _show_value(one) for currency, one in sums.items()},
        "unpriced": [
            {"symbol": symbol, "currency": positions[symbol].currency, "reason": reason}
            for symbol, reason in values.items()
            if isinstance(reason, str)
        ],
    }


def _show_position(
    symbol: str, position: PositionRow, prices: Mapping[str, Price], known: Value | None
) -> dict[str, object]:
    """Returns a position with its price and value. Both are None if the price is unknown or in another currency."""
    price = prices.get(symbol)
    if price is not None and price.currency != position.currency:
        price = None
    return {
        "symbol": symbol,
        **POSITIONS.show(position),
        "price": None if price is None else plain(price.price),
        "market_value": None if known is None else plain(known.market_value),
        "unrealised_pnl": None if known is None else plain(known.unrealised_pnl),
    }


def _show_value(one: Value) -> dict[str, str]:
    return {name: plain(amount) for name, amount in msgspec.structs.asdict(one).items()}

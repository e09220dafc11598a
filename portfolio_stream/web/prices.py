"""/tables/prices: the global table. Every worker holds all of it and answers by itself.

`partition` is always 0, the only partition of market-prices. `offset` is the last offset that the answer includes. A
worker answers even if it is no member of the group. It answers with 503 until it has read the topic to its end once,
and after it has stopped reading.
"""

import heapq
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.http.problem import Problem, json_response, unavailable
from portfolio_stream.web.fanout import Origin
from portfolio_stream.web.paging import TableRow, cursor_of, read_query
from portfolio_stream.web.table_pages import TablePage
from portfolio_stream.web.table_paths import NO_SUCH_KEY, TABLES_PATH, parse_key
from tables.prices import KEY, NAME, Prices, show_price

PATH = f"{TABLES_PATH}{NAME}"
PARTITION = 0
UNREAD = "The worker is still reading the prices topic."


class PriceQueries:
    def __init__(self, prices: Prices, worker: str) -> None:
        self._prices = prices
        self._worker = worker

    def origin(self) -> Origin:
        return Origin(PARTITION, self._prices.offset, self._worker)

    async def value(self, request: web.Request) -> web.Response:
        key = parse_key(NAME, KEY, request.rel_url.raw_path.removeprefix(f"{PATH}/"))
        if isinstance(key, Problem):
            return key.response()
        origin = msgspec.structs.asdict(self.origin())
        if not self._prices.is_ready:
            return unavailable(UNREAD, **origin).response()
        price = self._prices.by_symbol.get(key[0])
        if price is None:
            return Problem(HTTPStatus.NOT_FOUND, NO_SUCH_KEY, origin).response()
        return json_response({"key": key, "value": show_price(price), **origin})

    async def page(self, request: web.Request) -> web.Response:
        asked = read_query(NAME, len(KEY), request.rel_url.raw_query_string)
        if isinstance(asked, Problem):
            return asked.response()
        if not self._prices.is_ready:
            return unavailable(UNREAD, **msgspec.structs.asdict(self.origin())).response()
        first = heapq.nsmallest(asked.limit + 1, filter(asked.includes, map(str.encode, self._prices.by_symbol)))
        keys = first[: asked.limit]
        cursor = None if len(first) <= asked.limit else cursor_of(asked, keys[-1])
        rows = [self._row(key.decode()) for key in keys]
        return json_response(
            TablePage(table=NAME, rows=rows, cursor=cursor, partitions=[self.origin()], worker=self._worker)
        )

    def _row(self, symbol: str) -> TableRow:
        shown = show_price(self._prices.by_symbol[symbol])
        return TableRow((symbol,), msgspec.Raw(msgspec.json.encode(shown)), PARTITION)

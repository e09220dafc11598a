"""GET /tables/{table}/{part}/{part}: one key's committed value, by any worker, from the partition's owner.

A key is taken from the raw path: %2F in a part is a slash of the key, never a separator.
"""

from functools import partial
from http import HTTPStatus

from aiohttp import web

from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.table_paths import NO_SUCH_KEY, Lookup, parse


class Queries:
    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def value(self, request: web.Request) -> web.Response:
        asked = parse(request.rel_url.raw_path)
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

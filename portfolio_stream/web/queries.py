"""GET /tables/{table}/{part}/{part}: one key's committed value, by any worker, from the partition's owner.

A key is taken from the raw path: %2F in a part is a slash of the key, never a separator.
"""

from functools import partial
from http import HTTPStatus

from aiohttp import web

from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.web.catalog import NO_SUCH_KEY, Lookup, parse
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.owners import Owners


class Queries:
    def __init__(self, owners: Owners) -> None:
        self._owners = owners

    async def value(self, request: web.Request) -> web.Response:
        asked = parse(request.rel_url.raw_path)
        if isinstance(asked, Problem):
            return asked.response()
        return await self._owners.answer(request, asked.parts[0], partial(self._local, asked))

    async def _local(self, asked: Lookup, moment: Moment) -> web.Response:
        served, key = asked.served, asked.parts
        origin = self._owners.origin(moment.partition, moment.offset)
        value = moment.value(served.definition, *key)
        if value is None or not served.in_window(moment, key, value):
            return Problem(HTTPStatus.NOT_FOUND, NO_SUCH_KEY, origin).response()
        return json_response({"key": key, "value": served.show(value), **origin})

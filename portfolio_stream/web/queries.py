"""GET /tables/{table}/{part}/{part}: one key's committed value, by any worker, from the partition's owner.

A key is taken from the raw path: %2F in a part is a slash of the key, never a separator.
"""

from functools import partial
from http import HTTPStatus

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.web.catalog import SERVED, Lookup, parse
from portfolio_stream.web.health import membership_of
from portfolio_stream.web.moment import Moment, last_offset
from portfolio_stream.web.owners import Owners
from portfolio_stream.web.problem import Problem, json_response, unavailable


class Queries:
    def __init__(self, engine: Engine, owners: Owners) -> None:
        self._engine = engine
        self._owners = owners

    async def value(self, request: web.Request) -> web.Response:
        asked = parse(request.rel_url.raw_path)
        if isinstance(asked, Problem):
            return asked.response()
        return await self._owners.answer(request, asked.parts[0], partial(self._local, asked))

    async def tables(self, request: web.Request) -> web.Response:
        """All tables, with the partitions that this worker owns."""
        member = membership_of(self._engine)
        if member is None or not member.is_fresh:
            detail = "The worker is not a member of the group at the moment."
            return unavailable(detail, **self._owners.origin(None)).response()
        store = self._engine.store
        partitions = [
            self._owners.origin(partition, last_offset(store.meta(partition)))
            for partition in sorted(self._engine.running & self._engine.owned & member.owned)
        ]
        tables = [
            {"table": name, "key": served.key, "partitions": partitions} for name, served in sorted(SERVED.items())
        ]
        return json_response({"tables": tables, "worker": self._owners.worker})

    async def _local(self, asked: Lookup, moment: Moment) -> web.Response:
        served, key = asked.served, asked.parts
        origin = self._owners.origin(moment.partition, moment.offset)
        value = moment.value(served.definition, *key)
        if value is None or not served.in_window(moment, key, value):
            return Problem(HTTPStatus.NOT_FOUND, "The table has no such key.", origin).response()
        return json_response({"key": key, "value": served.show(value), **origin})

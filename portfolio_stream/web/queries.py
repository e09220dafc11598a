"""Values of tables over HTTP: committed state only, by any worker, from the partition's owner.

1. A key is taken from the raw path: %2F in a part is a slash of the key, never a separator.
2. A value is read only while this worker surely owns its partition: its membership is fresh, the coordinator was told
   that we own it, and it runs. No await stands between that check and the read.
3. The store holds nothing uncommitted; a value and its offset come from one snapshot.
4. A request is forwarded once at most: a worker that was forwarded a request and is not the owner answers 503.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.partitioning import partition_of
from portfolio_stream.records.values import (
    SEPARATOR,
    SeenEvent,
    join_key,
    show_portfolio,
    show_position,
    show_seen_event,
)
from portfolio_stream.settings import Settings
from portfolio_stream.web.forwarding import FORWARDED, Forwarding
from portfolio_stream.web.health import STARTING, membership_of, state_of
from portfolio_stream.web.problem import Problem, json_response, unavailable
from portfolio_stream.web.routing import Routing
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS, is_in_window

TABLES_PATH = "/tables/"
_WRONG_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")


@dataclass(frozen=True, slots=True)
class Served:
    """A table that HTTP shows."""

    definition: TableDefinition[Any]
    #: names of the key's parts; the first decides the partition
    key: tuple[str, ...]
    show: Callable[[Any], dict[str, object]]


SERVED = {
    served.definition.name: served
    for served in (
        Served(POSITIONS, ("portfolio_id", "symbol"), show_position),
        Served(PORTFOLIOS, ("portfolio_id",), show_portfolio),
        Served(SEEN_EVENTS, ("portfolio_id", "event_id"), show_seen_event),
    )
}


@dataclass(frozen=True, slots=True)
class Lookup:
    served: Served
    parts: tuple[str, ...]


def parse(raw_path: str) -> Lookup | Problem:
    """The table and the key of /tables/{table}/{part}/{part}, each percent-encoded."""
    decoded = [_decoded(raw) for raw in raw_path.removeprefix(TABLES_PATH).split("/")]
    parts = [part for part in decoded if part is not None]
    if len(parts) < len(decoded):
        return Problem(HTTPStatus.BAD_REQUEST, "The path is not percent-encoded UTF-8.")
    table, *key = parts
    served = SERVED.get(table)
    if served is None:
        return Problem(HTTPStatus.NOT_FOUND, "There is no such table; GET /tables lists them.")
    if len(key) != len(served.key) or not all(key):
        return Problem(HTTPStatus.BAD_REQUEST, f"A key of {table} is {'/'.join(served.key)}, each percent-encoded.")
    if any("\0" in part for part in key):
        return Problem(HTTPStatus.BAD_REQUEST, "No part of a key can hold a zero byte.")
    return Lookup(served, tuple(key))


def _decoded(raw: str) -> str | None:
    if _WRONG_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw.encode(errors="surrogateescape")).decode()
    except UnicodeDecodeError:
        return None


def last_offset(meta: Meta | None) -> int | None:
    """The last source offset that a partition's state includes; None before the first."""
    return meta.offset - 1 if meta is not None and meta.offset > 0 else None


class Queries:
    def __init__(self, engine: Engine, settings: Settings, routing: Routing, forwarding: Forwarding) -> None:
        self._engine = engine
        self._settings = settings
        self._routing = routing
        self._forwarding = forwarding
        self._worker = engine.identity.instance_id

    async def value(self, request: web.Request) -> web.Response:
        raw_path = request.rel_url.raw_path
        asked = parse(raw_path)
        if isinstance(asked, Problem):
            return asked.response()
        if membership_of(self._engine) is None:
            return self._unavailable(f"The worker is not ready: {STARTING}.").response()
        partition = partition_of(asked.parts[0].encode(), self._engine.partition_count)
        if partition in self._engine.owned:
            return self._local(asked, partition)
        if FORWARDED in request.headers:
            return self._unavailable("This worker does not own the partition.", partition).response()
        return await self._remote(raw_path, partition)

    async def tables(self, request: web.Request) -> web.Response:
        """All tables, with the partitions that this worker owns."""
        member = membership_of(self._engine)
        if member is None or not member.is_fresh:
            return self._unavailable("The worker is not a member of the group at the moment.").response()
        store = self._engine.store
        partitions = [
            {"partition": partition, "offset": last_offset(store.meta(partition)), "worker": self._worker}
            for partition in sorted(self._engine.running & self._engine.owned & member.owned)
        ]
        tables = [
            {"table": name, "key": served.key, "partitions": partitions} for name, served in sorted(SERVED.items())
        ]
        return json_response({"tables": tables, "worker": self._worker})

    def _local(self, asked: Lookup, partition: int) -> web.Response:
        if (reason := self._not_served(partition)) is not None:
            return self._unavailable(reason, partition).response()
        value, meta = self._read(asked, partition)
        origin = {"partition": partition, "offset": last_offset(meta), "worker": self._worker}
        if value is None:
            return Problem(HTTPStatus.NOT_FOUND, "The table has no such key.", origin).response()
        return json_response({"key": asked.parts, "value": asked.served.show(value), **origin})

    def _not_served(self, partition: int) -> str | None:
        """Why an owned partition is not read now."""
        member = membership_of(self._engine)
        if member is None or not member.is_fresh:
            return "The worker's membership of the group is not fresh."
        if partition not in member.owned:  # expelled and back: what the engine still holds may be another's
            return "The worker does not own the partition any more."
        if partition not in self._engine.running:
            return f"The partition is {state_of(self._engine, partition)}."
        return None

    def _read(self, asked: Lookup, partition: int) -> tuple[Any, Meta | None]:
        value, meta = self._stored(asked.served.definition, partition, asked.parts)
        while isinstance(value, SeenEvent):  # the window is the portfolio's: both must be of one moment
            portfolio, moment = self._stored(PORTFOLIOS, partition, asked.parts[:1])
            if moment == meta:
                sequence = 0 if portfolio is None else portfolio.sequence
                return value if is_in_window(value, sequence, self._settings.deduplication_window) else None, meta
            value, meta = self._stored(asked.served.definition, partition, asked.parts)
        return value, meta

    def _stored(
        self, definition: TableDefinition[Any], partition: int, parts: tuple[str, ...]
    ) -> tuple[Any, Meta | None]:
        raw, meta = self._engine.store.read(partition, definition.name.encode() + SEPARATOR + join_key(*parts))
        return None if raw is None else definition.decode(raw), meta

    async def _remote(self, raw_path: str, partition: int) -> web.Response:
        owner = await self._routing.owner(partition)
        if owner is None:
            return self._unavailable("The partition has no owner at the moment.", partition).response()
        if owner.instance_id == self._worker:
            return self._unavailable("The partition is being handed over.", partition).response()
        answer = await self._forwarding.get(owner, raw_path)
        if isinstance(answer, Problem):
            self._routing.forget()
            return Problem(answer.status, answer.detail, self._origin(partition)).response()
        if answer.status == HTTPStatus.SERVICE_UNAVAILABLE:
            self._routing.forget()
        return answer

    def _origin(self, partition: int | None) -> Mapping[str, object]:
        return {"partition": partition, "offset": None, "worker": self._worker}

    def _unavailable(self, detail: str, partition: int | None = None) -> Problem:
        return unavailable(detail, **self._origin(partition))

"""GET /events: the worker's latest events, as its log has them, with their fields.

The worker keeps the latest 1,000 events (see observe/ring.py). To follow the events, a reader gives the `next` of one
answer as the `after` of the next request. If the first event's number is then greater than `after` + 1, the worker no
longer has the events in between. Each process numbers its events from 1, and `process` identifies the process.
"""

import logging
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from http import HTTPStatus
from typing import NamedTuple

import msgspec
from aiohttp import web

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.observe.events import Field
from portfolio_stream.observe.ring import KEPT_EVENTS, Told

PATH = "/events"
LIMIT = 100  # events in an answer, if the reader gives no limit
_NUMBER = re.compile(r"[0-9]{1,18}")


class EventQuery(NamedTuple):
    #: the reader wants the events after this number; None: the latest events
    after: int | None
    limit: int


class ShownEvent(msgspec.Struct, frozen=True, kw_only=True):
    sequence: int
    #: RFC 3339, by the worker's clock
    time: str
    #: info, warning or error
    level: str
    action: str
    fields: Mapping[str, Field]


class EventPage(msgspec.Struct, frozen=True, kw_only=True):
    """The body of the answer."""

    #: oldest first
    events: tuple[ShownEvent, ...]
    #: what to give as `after` in the next request
    next: int
    #: the id of the process; each start of the worker makes a new one
    process: str
    worker: str


def asked(query: Mapping[str, str]) -> EventQuery | Problem:
    """Returns the parameters of a query, or the problem to answer with if a parameter is wrong."""
    if unknown := sorted(query.keys() - {"after", "limit"}):
        return Problem(HTTPStatus.BAD_REQUEST, f"There is no parameter {unknown[0]}: give after or limit.")
    after, limit = query.get("after"), query.get("limit", str(LIMIT))
    if after is not None and not _NUMBER.fullmatch(after):
        return Problem(HTTPStatus.BAD_REQUEST, "after is the number of an event, 0 or more.")
    if not _NUMBER.fullmatch(limit) or not 1 <= int(limit) <= KEPT_EVENTS:
        return Problem(HTTPStatus.BAD_REQUEST, f"limit is a number from 1 to {KEPT_EVENTS:,}.")
    return EventQuery(None if after is None else int(after), int(limit))


class Events:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def show(self, request: web.Request) -> web.Response:
        wanted = asked(request.query)
        if isinstance(wanted, Problem):
            return wanted.response()
        ring = self._engine.events
        after, limit = wanted
        told = ring.latest(limit) if after is None else ring.after(after, limit)
        page = EventPage(
            events=tuple(map(_shown, told)),
            next=told[-1].sequence if told else ring.sequence,
            process=ring.process,
            worker=self._engine.identity.instance_id,
        )
        return json_response(page)


def _shown(told: Told) -> ShownEvent:
    at = datetime.fromtimestamp(told.time, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = told.event
    return ShownEvent(
        sequence=told.sequence, time=at, level=level_name(event.level), action=event.action, fields=event.fields()
    )


def level_name(level: int) -> str:
    return logging.getLevelName(level).lower()

"""The tables that HTTP shows, and how a key stands in a path: each part percent-encoded, between slashes."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.http.problem import Problem
from portfolio_stream.records.values import (
    SeenEvent,
    show_activity,
    show_portfolio,
    show_position,
    show_seen_event,
    split_key,
)
from portfolio_stream.web.moment import Moment
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS, is_in_window

TABLES_PATH = "/tables/"
WRONG_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

#: in_window(moment, key, value): whether an entry is part of its table at that moment
InWindow = Callable[[Moment, tuple[str, ...], Any], bool]


def _always(_moment: Moment, _key: tuple[str, ...], _value: Any) -> bool:
    return True


def _is_seen(moment: Moment, key: tuple[str, ...], seen: SeenEvent) -> bool:
    portfolio = moment.value(PORTFOLIOS, key[0])
    sequence = 0 if portfolio is None else portfolio.sequence
    return is_in_window(seen, sequence, moment.settings.deduplication_window)


@dataclass(frozen=True, slots=True)
class Served:
    """A table of the group that HTTP shows."""

    definition: TableDefinition[Any]
    #: names of the key's parts; the first decides the partition
    key: tuple[str, ...]
    show: Callable[[Any], dict[str, object]]
    in_window: InWindow = _always

    @property
    def name(self) -> str:
        return self.definition.name

    def key_parts(self, stored: bytes) -> tuple[str, ...]:
        """Raises StateUnreadable: whoever may write to the changelog can put any key there."""
        try:
            parts = split_key(stored)
        except UnicodeDecodeError:
            parts = ()
        if len(parts) != len(self.key):
            raise StateUnreadable(f"a key of table {self.name!r}")
        return parts


SERVED = {
    served.name: served
    for served in (
        Served(POSITIONS, ("portfolio_id", "symbol"), show_position),
        Served(PORTFOLIOS, ("portfolio_id",), show_portfolio),
        Served(ACTIVITY, ("portfolio_id", "window"), show_activity),
        Served(SEEN_EVENTS, ("portfolio_id", "event_id"), show_seen_event, _is_seen),
    )
}
PRICES_KEY = ("symbol",)  # prices is global: every worker has it

NO_SUCH_KEY = "The table has no such key."
NO_SUCH_TABLE = Problem(HTTPStatus.NOT_FOUND, "There is no such table; GET /tables lists them.")
_NOT_ENCODED = Problem(HTTPStatus.BAD_REQUEST, "The path is not percent-encoded UTF-8.")


@dataclass(frozen=True, slots=True)
class Lookup:
    served: Served
    parts: tuple[str, ...]


def parse(raw_path: str) -> Lookup | Problem:
    """The table and the key of /tables/{table}/{part}/{part}."""
    raw_table, _, raw_key = raw_path.removeprefix(TABLES_PATH).partition("/")
    served = find(raw_table)
    if isinstance(served, Problem):
        return served
    key = parse_key(served.name, served.key, raw_key)
    return key if isinstance(key, Problem) else Lookup(served, key)


def find(raw_table: str) -> Served | Problem:
    table = decode(raw_table)
    return _NOT_ENCODED if table is None else SERVED.get(table, NO_SUCH_TABLE)


def parse_key(of: str, names: tuple[str, ...], raw_key: str) -> tuple[str, ...] | Problem:
    """The parts of a key in a path. `of` is what the key is of."""
    decoded = [decode(raw) for raw in raw_key.split("/")]
    parts = [part for part in decoded if part is not None]
    if len(parts) < len(decoded):
        return _NOT_ENCODED
    if len(parts) != len(names) or not all(parts):
        return Problem(HTTPStatus.BAD_REQUEST, f"A key of {of} is {'/'.join(names)}, each percent-encoded.")
    if any("\0" in part for part in parts):
        return Problem(HTTPStatus.BAD_REQUEST, "No part of a key can hold a zero byte.")
    return tuple(parts)


def decode(raw: str) -> str | None:
    """A percent-encoded part of a path, or None if it is not percent-encoded UTF-8."""
    if WRONG_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw.encode(errors="surrogateescape")).decode()
    except UnicodeDecodeError:
        return None

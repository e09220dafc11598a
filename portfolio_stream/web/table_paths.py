"""Reads the table and the key in a path: /tables/{table}/{part}/{part}. Each part is percent-encoded."""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import unquote_to_bytes

from portfolio_stream.http.problem import Problem
from tables.catalog import SHOWN
from tables.table import Table

TABLES_PATH = "/tables/"
WRONG_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")

NO_SUCH_KEY = "The table has no such key."
NO_SUCH_TABLE = Problem(HTTPStatus.NOT_FOUND, "There is no such table; GET /tables lists them.")
_NOT_ENCODED = Problem(HTTPStatus.BAD_REQUEST, "The path is not percent-encoded UTF-8.")


@dataclass(frozen=True, slots=True)
class Lookup:
    """A key of a table."""

    table: Table[Any]
    parts: tuple[str, ...]


def parse_lookup(raw_path: str) -> Lookup | Problem:
    """Returns the table and the key that a path names."""
    raw_table, _, raw_key = raw_path.removeprefix(TABLES_PATH).partition("/")
    table = find_table(raw_table)
    if isinstance(table, Problem):
        return table
    key = parse_key(table.name, table.key, raw_key)
    return key if isinstance(key, Problem) else Lookup(table, key)


def find_table(raw_table: str) -> Table[Any] | Problem:
    """Returns the table that a part of a path names."""
    name = decode(raw_table)
    return _NOT_ENCODED if name is None else SHOWN.get(name, NO_SUCH_TABLE)


def parse_key(of: str, names: tuple[str, ...], raw_key: str) -> tuple[str, ...] | Problem:
    """Returns the parts of a key in a path.

    `names` are the names of the parts. `of` is the name of the table, for errors.
    """
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
    """Decode a part of a path. Return None if the part is no percent-encoded UTF-8."""
    if WRONG_ESCAPE.search(raw):
        return None
    try:
        return unquote_to_bytes(raw.encode(errors="surrogateescape")).decode()
    except UnicodeDecodeError:
        return None

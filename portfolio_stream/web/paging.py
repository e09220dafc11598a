"""Pages of a table in key order: the query, cursors, and the merging of pages. Pure.

Keys are compared as they are stored: UTF-8 parts joined by 0x00, byte by byte. In a query the parts of a key are joined
by slashes. Only the last part may have slashes of its own: `P1/BRK/B`. A query may name just the beginning of a key:
`from=P1`, `prefix=P1/`.

A cursor names the last key of the previous page, so it stays valid while the table changes: a key that stays in the
table is shown once. A cursor has a digest of table, range and key, so a cursor of another query is refused.
"""

import base64
import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from http import HTTPStatus
from itertools import takewhile
from urllib.parse import parse_qsl

import msgspec

from portfolio_stream.decoding import WirePartition
from portfolio_stream.http.problem import Problem
from portfolio_stream.web.table_paths import WRONG_ESCAPE
from tables.table import SEPARATOR, join_key

ROWS = 100
ROWS_LIMIT = 1_000
PARAMETERS = ("prefix", "from", "to", "limit", "cursor")
DIGEST_BYTES = 8


@dataclass(frozen=True, kw_only=True, slots=True)
class PageQuery:
    """The query of a page: at most `limit` keys in [lower, upper) that come after `after`."""

    table: str
    lower: bytes
    #: None: to the end of the table
    upper: bytes | None
    limit: int
    after: bytes | None = None

    @property
    def start(self) -> bytes:
        """Returns the smallest key that can be on the page."""
        return self.lower if self.after is None else max(self.lower, self.after + b"\0")

    def includes(self, key: bytes) -> bool:
        return key >= self.start and (self.upper is None or key < self.upper)


class TableRow(msgspec.Struct, frozen=True):
    key: tuple[str, ...]
    #: JSON
    value: msgspec.Raw
    partition: WirePartition

    @property
    def order(self) -> bytes:
        return join_key(*self.key)


class Rows(msgspec.Struct, frozen=True):
    """All rows up to the key `through`, in key order. If `through` is None, the rows reach the end."""

    rows: Sequence[TableRow]
    through: bytes | None


def read_query(table: str, key_parts: int, query: str) -> PageQuery | Problem:
    """Reads a raw query string. Refuses every unknown part: a typing error must not show the whole table."""
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        pairs = []
    if WRONG_ESCAPE.search(query) or (query and not pairs):
        return _bad("The query is not name=value, percent-encoded UTF-8.")
    given = dict(pairs)
    if len(given) < len(pairs) or not given.keys() <= set(PARAMETERS):
        return _bad(f"A page takes {', '.join(PARAMETERS)}, each once.")
    if any("\0" in value for value in given.values()):
        return _bad("No part of a key can hold a zero byte.")
    limit = given.get("limit", str(ROWS))
    if not (limit.isascii() and limit.isdigit() and len(limit) <= 4 and 1 <= int(limit) <= ROWS_LIMIT):
        return _bad(f"limit must be a whole number from 1 to {ROWS_LIMIT}.")
    lower, upper = _range(*(_stored(given.get(name, ""), key_parts) for name in ("prefix", "from", "to")))
    asked = PageQuery(table=table, lower=lower, upper=upper, limit=int(limit))
    return asked if "cursor" not in given else _continued(asked, given["cursor"])


def _stored(text: str, key_parts: int) -> bytes:
    return text.replace("/", SEPARATOR.decode(), key_parts - 1).encode()


def _range(prefix: bytes, from_: bytes, to: bytes) -> tuple[bytes, bytes | None]:
    """Returns the range of the keys that begin with `prefix` and are in [from_, to)."""
    ends = [to] if to else []
    if prefix:
        ends.append(prefix[:-1] + bytes([prefix[-1] + 1]))  # no byte of UTF-8 is 255
    return max(prefix, from_), min(ends, default=None)


def _continued(asked: PageQuery, cursor: str) -> PageQuery | Problem:
    after = key_of(asked, cursor)
    if after is None:
        return _bad("The cursor is not one of this table and range.")
    return PageQuery(table=asked.table, lower=asked.lower, upper=asked.upper, limit=asked.limit, after=after)


def cursor_of(asked: PageQuery, key: bytes) -> str:
    return base64.urlsafe_b64encode(_digest(asked, key) + key).rstrip(b"=").decode()


def key_of(asked: PageQuery, cursor: str) -> bytes | None:
    """Returns the key that the cursor names, or None if the cursor is not one of this query."""
    try:
        content = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
    except ValueError:
        return None
    key = content[DIGEST_BYTES:]
    return key if content == _digest(asked, key) + key else None


def _digest(asked: PageQuery, key: bytes) -> bytes:
    content = msgspec.msgpack.encode((asked.table, asked.lower, asked.upper, key))
    return blake2b(content, digest_size=DIGEST_BYTES).digest()


def merge(pages: Sequence[Rows], limit: int) -> Rows:
    """Returns the first rows of all pages. Stops where the first page ends: that worker may have more rows behind."""
    known = min((page.through for page in pages if page.through is not None), default=None)
    every = heapq.merge(*(page.rows for page in pages), key=_order)
    rows = list(takewhile(lambda row: known is None or row.order <= known, every))
    if len(rows) <= limit:
        return Rows(rows, known)
    return Rows(rows[:limit], rows[limit - 1].order)


def _order(row: TableRow) -> bytes:
    return row.order


def _bad(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, detail)

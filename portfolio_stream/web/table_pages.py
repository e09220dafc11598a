"""GET /tables/{table}: a page of the whole table in key order, over all partitions of the group.

The rows of a partition are of one moment; the answer names its offset. A page has no entry outside the table's window.
A page with a cursor may have fewer rows than its limit, even none: only a page without a cursor is the last one.
"""

import heapq
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import msgspec
from aiohttp import web

from portfolio_stream.exactly_once.store import Store
from portfolio_stream.http.problem import Problem, json_response, unavailable
from portfolio_stream.web.fanout import Collected, Fanout, Missing, Origin
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.paging import PageQuery, Rows, TableRow, cursor_of, key_of, merge, read_query
from portfolio_stream.web.table_paths import TABLES_PATH, find_table
from tables.table import Table

EXAMINED_LIMIT = 5_000  # entries that a worker reads for one page: some 20 ms in its reading thread


class TablePage(msgspec.Struct, frozen=True, kw_only=True):
    """The rows of a worker or of the group."""

    table: str
    rows: Sequence[TableRow]
    cursor: str | None
    partitions: Sequence[Origin]
    worker: str

    @property
    def covered(self) -> set[int]:
        return {origin.partition for origin in self.partitions}

    @property
    def missing(self) -> Sequence[Missing]:
        """Always empty: a worker that lacks a partition gives no page."""
        return ()


_decode = msgspec.json.Decoder(TablePage).decode


def decode_page(asked: PageQuery, content: bytes) -> TablePage:
    """Reads another worker's answer to the same query. Raises msgspec.ValidationError if it has another form."""
    page = _decode(content)
    if page.cursor is not None and key_of(asked, page.cursor) is None:
        raise msgspec.ValidationError("a cursor of another query")
    return page


class Pages:
    def __init__(self, store: Store, fanout: Fanout, worker: str) -> None:
        self._store = store
        self._fanout = fanout
        self._worker = worker

    async def show(self, request: web.Request) -> web.Response:
        table = find_table(request.rel_url.raw_path.removeprefix(TABLES_PATH))
        if isinstance(table, Problem):
            return table.response()
        asked = read_query(table.name, len(table.key), request.rel_url.raw_query_string)
        if isinstance(asked, Problem):
            return asked.response()
        collected = await self._fanout.collect(request, partial(self._read, table, asked), partial(decode_page, asked))
        if isinstance(collected, Problem):
            return collected.response()
        if collected.missing:
            return self._incomplete(collected.missing).response()
        return json_response(self._joined(asked, collected))

    async def _read(self, table: Table[Any], asked: PageQuery, moments: Sequence[Moment]) -> TablePage:
        found = await self._store.read_aside(partial(read_rows, table, asked, moments))
        origins = [Origin(moment.partition, moment.offset, self._worker) for moment in moments]
        return self._page(asked, found, origins)

    def _joined(self, asked: PageQuery, collected: Collected[TablePage]) -> TablePage:
        pages = collected.parts
        every = [Rows(page.rows, None if page.cursor is None else key_of(asked, page.cursor)) for page in pages]
        origins = sorted((origin for page in pages for origin in page.partitions), key=lambda one: one.partition)
        return self._page(asked, merge(every, asked.limit), origins)

    def _page(self, asked: PageQuery, found: Rows, origins: Sequence[Origin]) -> TablePage:
        cursor = None if found.through is None else cursor_of(asked, found.through)
        return TablePage(table=asked.table, rows=found.rows, cursor=cursor, partitions=origins, worker=self._worker)

    def _incomplete(self, missing: Sequence[Missing]) -> Problem:
        names = ", ".join(str(lack.partition) for lack in missing)
        detail = f"Partitions that recover, move or have no owner at the moment: {names}."
        return unavailable(detail, missing=missing, worker=self._worker)


def read_rows(table: Table[Any], asked: PageQuery, moments: Sequence[Moment]) -> Rows:
    """Returns the rows of the page, in key order over all moments."""
    entries = heapq.merge(*(_entries(table, asked, moment) for moment in moments), key=lambda entry: entry[0])
    rows: list[TableRow] = []
    for examined, (key, raw, moment) in enumerate(entries, 1):
        parts, value = table.parts_of(key), table.read(raw)
        if table.is_current(moment, parts, value):
            rows.append(TableRow(parts, msgspec.Raw(msgspec.json.encode(table.show(value))), moment.partition))
        if len(rows) == asked.limit or examined == EXAMINED_LIMIT:
            return Rows(rows, None if next(entries, None) is None else key)
    return Rows(rows, None)


def _entries(table: Table[Any], asked: PageQuery, moment: Moment) -> Iterator[tuple[bytes, bytes, Moment]]:
    for key, raw in moment.entries(table, asked.start, asked.upper):
        yield key, raw, moment

"""GET /tables: every table of the group with its partitions: owner, offset, keys and bytes.

`keys` and `bytes` are counts: `counted_offset` and `counted_seconds_ago` say of which moment (see table_sizes). A
partition without an answer is listed too, with nulls, and `missing` says why.
"""

import time
from collections.abc import Sequence

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.http.signed_access import FORWARDED
from portfolio_stream.web.fanout import Fanout, Missing
from portfolio_stream.web.moment import Moment
from portfolio_stream.web.prices import PriceQueries
from portfolio_stream.web.table_sizes import Census, Count
from tables.catalog import SHOWN
from tables.prices import KEY, NAME, Prices


class TableShare(msgspec.Struct, frozen=True, kw_only=True):
    """The part of a table that one partition holds."""

    partition: WirePartition
    #: None if no owner is known
    worker: str | None
    #: the last source offset that the table includes
    offset: WireCount | None = None
    keys: WireCount | None = None
    bytes: WireCount | None = None
    #: the last source offset that was counted
    counted_offset: WireCount | None = None
    #: how long ago the count was made
    counted_seconds_ago: float | None = None


class Listed(msgspec.Struct, frozen=True):
    table: str
    key: Sequence[str]
    partitions: Sequence[TableShare]


class Tables(msgspec.Struct, frozen=True, kw_only=True):
    """The tables of a worker or of the group."""

    tables: Sequence[Listed]
    missing: Sequence[Missing]
    worker: str

    @property
    def covered(self) -> set[int]:
        return {held.partition for held in self.of(next(iter(SHOWN)))}

    def of(self, table: str) -> Sequence[TableShare]:
        return next((listed.partitions for listed in self.tables if listed.table == table), ())


_decode = msgspec.json.Decoder(Tables).decode


class Listing:
    def __init__(
        self, fanout: Fanout, census: Census, prices: Prices, price_queries: PriceQueries, worker: str
    ) -> None:
        self._fanout = fanout
        self._census = census
        self._prices = prices
        self._price_queries = price_queries
        self._worker = worker

    async def show(self, request: web.Request) -> web.Response:
        collected = await self._fanout.collect(request, self._read, _decode)
        if isinstance(collected, Problem):
            return collected.response()
        found = Tables(
            tables=[
                Listed(name, table.key, [held for part in collected.parts for held in part.of(name)])
                for name, table in SHOWN.items()
            ],
            missing=collected.missing,
            worker=self._worker,
        )
        return json_response(found if FORWARDED in request.headers else self._complete(found))

    async def _read(self, moments: Sequence[Moment]) -> Tables:
        counts = await self._census.counts([moment.partition for moment in moments])
        tables = [
            Listed(name, table.key, [self._held(name, moment, counts.get(moment.partition)) for moment in moments])
            for name, table in SHOWN.items()
        ]
        return Tables(tables=tables, missing=(), worker=self._worker)

    def _held(self, table: str, moment: Moment, count: Count | None) -> TableShare:
        if count is None:
            return TableShare(partition=moment.partition, worker=self._worker, offset=moment.offset)
        return TableShare(
            partition=moment.partition,
            worker=self._worker,
            offset=moment.offset,
            keys=count.sizes[table].keys,
            bytes=count.sizes[table].bytes,
            counted_offset=count.offset,
            counted_seconds_ago=round(time.monotonic() - count.counted, 1),
        )

    def _complete(self, found: Tables) -> Tables:
        """Returns the tables with an entry for each missing partition, and with the global table, ordered by name."""
        places = [TableShare(partition=lack.partition, worker=lack.worker) for lack in found.missing]
        tables = [
            Listed(one.table, one.key, sorted((*one.partitions, *places), key=lambda held: held.partition))
            for one in found.tables
        ]
        every = sorted((*tables, self._global()), key=lambda one: one.table)
        return Tables(tables=every, missing=found.missing, worker=self._worker)

    def _global(self) -> Listed:
        """Returns the prices. Each worker holds all of them in memory, so this worker answers by itself."""
        origin = self._price_queries.origin()
        keys = len(self._prices.by_symbol) if self._prices.is_ready else None
        held = TableShare(
            partition=origin.partition,
            worker=origin.worker,
            offset=origin.offset,
            keys=keys,
            counted_offset=None if keys is None else origin.offset,
            counted_seconds_ago=None if keys is None else 0.0,
        )
        return Listed(NAME, KEY, [held])

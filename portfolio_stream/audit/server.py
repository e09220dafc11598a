"""The auditor's own web server: /verdict, /metrics, /health/live, /health/ready (the audit has begun).

The server shows no amount and no portfolio, and changes nothing. http/beside.py says who may ask.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from portfolio_stream.audit.board import Board, Verdict
from portfolio_stream.http.beside import served_beside
from portfolio_stream.http.exposition import exposed
from portfolio_stream.http.problem import json_response
from portfolio_stream.http.signed_access import AUDITOR
from portfolio_stream.observe.families import by_partition, counter, counters, gauge, gauges
from portfolio_stream.settings import Settings

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(settings: Settings, port: int, board: Board) -> AsyncIterator[str]:
    """Serve, and yield the server's URL. Raises PortInUse, WebTokenMissing and InvalidSetting."""
    async with served_beside(settings, port, AUDITOR, _routes(board), log, lambda: board.has_begun) as url:
        yield url


def _routes(board: Board) -> list[web.RouteDef]:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Audit(board))
    ProcessCollector(registry=registry)

    async def verdict(_: web.Request) -> web.Response:
        return json_response(board.statement(), headers={"Cache-Control": "no-store"})

    async def metrics(request: web.Request) -> web.Response:
        return exposed(registry, request)

    return [web.get("/verdict", verdict), web.get("/metrics", metrics)]


class _Audit(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._verdict()
        board, figures = self._board, self._board.figures
        yield counter("audit_records", "Source records replayed.", figures["records"])
        yield counter("audit_outputs", "Outputs compared.", figures["outputs"])
        yield counter("audit_dead_letters", "Dead letters compared.", figures["dead_letters"])
        yield counter("audit_served_values", "Values that workers served, compared with the replay.", figures["served"])
        yield counter("audit_unanswered_requests", "Requests to workers that got no answer.", board.unanswered)
        yield gauge("audit_table_keys", "Keys of all tables that the replay holds.", figures["keys"])
        yield counter("audit_passes", "Passes over all partitions.", board.passes)
        yield counter("audit_failed_passes", "Passes that could not end.", board.failures)
        yield gauge("audit_pass_seconds", "How long the last pass took.", board.seconds)
        lag = by_partition({partition: result.lag for partition, result in board.results.items()})
        yield gauges("audit_lag_records", "Source offsets that the workers had not folded yet.", ("partition",), lag)

    def _verdict(self) -> Iterator[Metric]:
        board = self._board
        if board.verdict in ("holds", "violated"):
            text = "1: exactly-once holds, 0: it is violated. Absent: nothing is known."
            yield gauge("audit_holds", text, board.verdict == "holds")
        verdicts = [((verdict,), verdict == board.verdict) for verdict in get_args(Verdict)]
        yield gauges("audit_verdict", "1 for what /verdict says.", ("verdict",), verdicts)
        text = "UNIX time of the last pass that reached a verdict; 0: none has."
        yield gauge("audit_verdict_timestamp_seconds", text, board.decided or 0.0)
        anomalies = [((kind,), times) for kind, times in sorted(board.findings.counts.items())]
        yield counters("audit_anomalies", "Anomalies by name.", ("anomaly",), anomalies)

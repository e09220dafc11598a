"""The auditor's own web server: /verdict, /metrics, /health/live.

It shows no amount and no portfolio, and changes nothing. On loopback it asks for no token (the workers' page asks it
without one), anywhere else for PORTFOLIO_WEB_TOKEN or the signature of a worker that has it.
"""

import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from ipaddress import ip_address
from typing import get_args

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from portfolio_stream.audit.board import Board, Verdict
from portfolio_stream.http.access import Access
from portfolio_stream.http.addresses import authority, listen
from portfolio_stream.http.exposition import exposed
from portfolio_stream.http.listener import Listener
from portfolio_stream.http.problem import json_response, problems
from portfolio_stream.http.signed_access import AUDITOR
from portfolio_stream.settings import Settings

log = logging.getLogger(__name__)

PREFIX = "portfolio_stream_audit_"
SHUTDOWN_SECONDS = 0.3


@asynccontextmanager
async def serving(settings: Settings, port: int, board: Board) -> AsyncIterator[str]:
    """Its address. Raises PortInUse, WebTokenMissing and InvalidSetting."""
    with listen(settings.web_host, port, port_remedy="give another --web-port") as sock:
        host = sock.getsockname()[0]
        token = None if ip_address(host).is_loopback else settings.web_token
        access = Access(replace(settings, web_token=token, web_advertised=None), host, AUDITOR)
        listener = Listener(_application(access, board), sock, log, SHUTDOWN_SECONDS)
        try:
            await listener.start()
            yield f"http://{authority(host, port)}"
        finally:
            await listener.stop()


def _application(access: Access, board: Board) -> web.Application:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Audit(board))
    ProcessCollector(registry=registry)

    async def verdict(_: web.Request) -> web.Response:
        return json_response(board.statement(), headers={"Cache-Control": "no-store"})

    async def metrics(request: web.Request) -> web.Response:
        return exposed(registry, request)

    async def live(_: web.Request) -> web.Response:
        return json_response({"status": "live"})

    app = web.Application(middlewares=[problems, access.middleware])
    app.add_routes(
        [web.get("/verdict", verdict), web.get("/metrics", metrics), web.get("/health/live", live)],
    )
    return app


class _Audit(Collector):
    def __init__(self, board: Board) -> None:
        self._board = board

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._verdict()
        board, figures = self._board, self._board.figures
        yield _counter("records", "Source records replayed.", figures["records"])
        yield _counter("outputs", "Outputs compared.", figures["outputs"])
        yield _counter("dead_letters", "Dead letters compared.", figures["dead_letters"])
        yield _counter("served_values", "Values that workers served, compared with the replay.", figures["served"])
        yield _counter("unanswered_requests", "Requests to workers that got no answer.", board.unanswered)
        yield _gauge("table_keys", "Keys of all tables that the replay holds.", figures["keys"])
        yield _counter("passes", "Passes over all partitions.", board.passes)
        yield _counter("failed_passes", "Passes that could not end; the next one went on with them.", board.failures)
        yield _gauge("pass_seconds", "How long the last pass took.", board.seconds)
        yield _gauge(
            "last_pass_timestamp_seconds", "UNIX time of the last pass's end; 0: none ended.", self._last_pass()
        )
        lag = GaugeMetricFamily(
            f"{PREFIX}lag_records", "Source offsets that the workers had not folded yet.", labels=("partition",)
        )
        for partition, result in sorted(board.results.items()):
            lag.add_metric((str(partition),), result.lag)
        yield lag

    def _verdict(self) -> Iterator[Metric]:
        board = self._board
        if board.verdict in ("holds", "violated"):
            text = "1: exactly-once holds, 0: it is violated. Absent: nothing is known."
            yield _gauge("holds", text, board.verdict == "holds")
        verdicts = GaugeMetricFamily(f"{PREFIX}verdict", "1 for what /verdict says.", labels=("verdict",))
        for verdict in get_args(Verdict):
            verdicts.add_metric((verdict,), verdict == board.verdict)
        yield verdicts
        anomalies = CounterMetricFamily(f"{PREFIX}anomalies", "Anomalies by name.", labels=("anomaly",))
        for kind, times in sorted(board.findings.counts.items()):
            anomalies.add_metric((kind,), times)
        yield anomalies

    def _last_pass(self) -> float:
        return self._board.updated if self._board.passes else 0.0


def _counter(name: str, text: str, value: float) -> Metric:
    return CounterMetricFamily(f"{PREFIX}{name}", text, value=value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"{PREFIX}{name}", text, value=value)

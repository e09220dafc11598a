"""The watcher's own web server: /watch, /targets, /metrics, /health/live.

The server shows no amount and no portfolio, and changes nothing. http/beside.py says who may ask.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector

from portfolio_stream.http.beside import served_beside
from portfolio_stream.http.exposition import exposed
from portfolio_stream.http.problem import json_response
from portfolio_stream.http.signed_access import WATCHER
from portfolio_stream.settings import Settings
from portfolio_stream.watcher.metrics import WatcherCollector
from portfolio_stream.watcher.watching import Watcher
from portfolio_stream.web import watcher as client

log = logging.getLogger(__name__)


@asynccontextmanager
async def serving(settings: Settings, port: int, watcher: Watcher) -> AsyncIterator[str]:
    """Serve, and yield the server's URL. Raises PortInUse, WebTokenMissing and InvalidSetting."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(WatcherCollector(watcher))
    ProcessCollector(registry=registry)

    async def watch(_: web.Request) -> web.Response:
        return json_response(watcher.watched(), headers={"Cache-Control": "no-store"})

    async def metrics(request: web.Request) -> web.Response:
        return exposed(registry, request)

    async def targets(_: web.Request) -> web.Response:
        """The workers, as Prometheus' HTTP service discovery has them (`http_sd_configs`)."""
        return json_response([{"targets": watcher.targets()}], headers={"Cache-Control": "no-store"})

    routes = [web.get(client.PATH, watch), web.get("/targets", targets), web.get("/metrics", metrics)]
    async with served_beside(settings, port, WATCHER, routes, log) as url:
        yield url

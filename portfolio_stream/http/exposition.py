"""Answers with metrics in the format that a scraper asks for: OpenMetrics 1.0.0, else Prometheus' text format 0.0.4.

No content of an Accept header is an error: a server may disregard the header (RFC 9110, 12.5.1). The names and labels
of our metrics are ASCII, so every escaping scheme that a scraper asks for gives the same bytes.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST

from portfolio_stream.http.metric_text import open_metrics_text, prometheus_text

OPEN_METRICS, TEXT = "application/openmetrics-text", "text/plain"
OPEN_METRICS_VERSIONS = frozenset({"", "1.0.0"})  # without a version, we choose
_WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")  # RFC 9110, 12.4.2


class Wish(NamedTuple):
    media_type: str
    version: str
    weight: float


def exposed(registry: CollectorRegistry, request: web.Request) -> web.Response:
    """Returns all metrics of the registry."""
    if prefers_open_metrics(request.headers.getall("Accept", [])):
        return _answer(open_metrics_text(registry.collect()), CONTENT_TYPE_LATEST)
    return _answer(prometheus_text(registry.collect()), CONTENT_TYPE_PLAIN_0_0_4)


def prefers_open_metrics(accept: Iterable[str]) -> bool:
    """Whether the Accept headers ask for OpenMetrics, with at least the weight of the text format."""
    wishes = [_wish(part) for header in accept for part in header.split(",")]
    ours = (w.weight for w in wishes if w.media_type == OPEN_METRICS and w.version in OPEN_METRICS_VERSIONS)
    open_metrics = max(ours, default=0.0)
    text = max((wish.weight for wish in wishes if wish.media_type == TEXT), default=0.0)
    return open_metrics > 0 and open_metrics >= text


def _wish(part: str) -> Wish:
    media_type, *parameters = (piece.strip() for piece in part.lower().split(";"))
    pairs = (parameter.partition("=") for parameter in parameters)
    given = {name.strip(): value.strip().strip('"') for name, _, value in pairs}
    weight = given.get("q", "1")
    return Wish(media_type, given.get("version", ""), float(weight) if _WEIGHT.fullmatch(weight) else 0.0)


def _answer(body: bytes, content_type: str) -> web.Response:
    return web.Response(body=body, headers={"Content-Type": content_type})

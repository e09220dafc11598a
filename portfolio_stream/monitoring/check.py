"""Ask a running Prometheus every query of the dashboards: `python -m portfolio_stream.monitoring.check`.

1. The exit code is 0 if every query has data, or stands in QUIET with a reason.
2. A query that stands in QUIET and has data is told too: perhaps the reason is out of date.
"""

import sys
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import click
import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.http.exchange import NoAnswer, exchange
from portfolio_stream.monitoring.dashboards import PlacedQuery, queries
from portfolio_stream.monitoring.panels import RATE

ANSWER_SECONDS = 10.0
RATE_WINDOW = "[1m]"  # Grafana takes at least four scrapes
OK = 200

#: queries without data in a healthy system, by their panel's title and their legend: why
QUIET: Mapping[tuple[str, str], str] = {
    ("Alerts", "{{priority}} {{alertname}}"): "no alert is pending or fires",
    ("Drops", "{{reason}}"): "a reason is counted from its first drop on",
    ("Requests that were sent again", "{{step}} {{error}}"): "an error is counted from its first retry on",
    ("Changelog records still to replay", "partition {{partition}}"): "no partition recovers",
    ("Time left", "{{instance}}"): "no worker recovers",
    ("Standbys are behind", "partition {{partition}}"): "without standbys nothing is behind",
    ("Newest savepoint", "complete"): "there is no savepoint",
    ("Duration of the newest savepoint", "duration"): "there is no savepoint",
    ("Size of the newest savepoint", "size"): "there is no savepoint",
}


class _Found(msgspec.Struct, frozen=True):
    result: list[Any]


class _Answer(msgspec.Struct, frozen=True):
    data: _Found


def runnable(expression: str) -> str:
    """Returns the query with a window in place of Grafana's variable."""
    return expression.replace(RATE, RATE_WINDOW)


def samples_of(prometheus: str, expression: str) -> int:
    """Returns how many samples a Prometheus has for a query now. Raises NoAnswer."""
    url = f"{prometheus.rstrip('/')}/api/v1/query?{urlencode({'query': expression})}"
    status, content = exchange(url, seconds=ANSWER_SECONDS)
    if status != OK:
        raise NoAnswer(f"{status}: {content[:200].decode(errors='replace')}")
    answer = decoded(msgspec.json.Decoder(_Answer).decode, content)
    if answer is None:
        raise NoAnswer("the answer is none of Prometheus'")
    return len(answer.data.result)


def quiet_reason(placed: PlacedQuery) -> str | None:
    """Returns why the query may have no data; None: it must have some."""
    return QUIET.get((placed.panel.title, placed.query.legend)) or placed.row.quiet or None


@click.command()
@click.option("--prometheus", default="http://127.0.0.1:9090", show_default=True, help="The URL of Prometheus.")
def check(prometheus: str) -> None:
    """Ask a running Prometheus every query of the dashboards, and say which have no data."""
    silent = asked = 0
    for placed in queries():
        found, reason = samples_of(prometheus, runnable(placed.query.expression)), quiet_reason(placed)
        asked += 1
        if not found:
            sys.stdout.write(f"{placed.dashboard}: {placed.panel.title}, {placed.query.legend}: no data: {reason}\n")
            silent += reason is None
        elif reason is not None:
            sys.stdout.write(
                f"{placed.dashboard}: {placed.panel.title}, {placed.query.legend}: data, although {reason}\n"
            )
    sys.stdout.write(f"{asked} queries, {silent} without data and without a reason\n")
    sys.exit(1 if silent else 0)


if __name__ == "__main__":
    try:
        check()
    except NoAnswer as error:
        sys.exit(f"Prometheus does not answer: {error}")

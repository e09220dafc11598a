"""Ask a running Prometheus every query of the dashboards: `python -m portfolio_stream.monitoring.check`.

1. The exit code is 0 if every query has data, or stands in QUIET with a reason; 1 if not; 2 without a Prometheus.
2. A query that stands in QUIET and has data is told too: perhaps the reason is out of date.
"""

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlencode

import click
import msgspec

from portfolio_stream.decoding import decoded
from portfolio_stream.errors import PrometheusUnanswered
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
    """Returns how many samples a Prometheus has for a query now. Raises PrometheusUnanswered."""
    url = f"{prometheus.rstrip('/')}/api/v1/query?{urlencode({'query': expression})}"
    try:
        status, content = exchange(url, seconds=ANSWER_SECONDS)
    except NoAnswer as error:
        raise PrometheusUnanswered(prometheus, str(error)) from error
    if status != OK:
        raise PrometheusUnanswered(prometheus, f"{status}, {content[:200].decode(errors='replace')}")
    answer = decoded(msgspec.json.Decoder(_Answer).decode, content)
    if answer is None:
        raise PrometheusUnanswered(prometheus, "the answer is none of Prometheus'")
    return len(answer.data.result)


def quiet_reason(placed: PlacedQuery, *, has_jmx: bool) -> str | None:
    """Returns why the query may have no data; None: it must have some."""
    row = "" if has_jmx else placed.row.quiet
    return QUIET.get((placed.panel.title, placed.query.legend)) or row or None


class PanelFindings(NamedTuple):
    asked: int
    #: queries that have no data and may have none, and queries that have data although they may have none: why
    excused: Sequence[str]
    #: queries that have no data and must have some
    silent: Sequence[str]

    @property
    def text(self) -> str:
        last = f"{self.asked} queries, {len(self.silent)} without data and without a reason"
        return "\n".join([*self.excused, *(f"{one}: no data" for one in self.silent), last])


def findings(prometheus: str, *, has_jmx: bool) -> PanelFindings:
    """Ask every query. Raises PrometheusUnanswered."""
    excused, silent, placed = [], [], list(queries())
    for one in placed:
        name = f"{one.dashboard}: {one.panel.title}, {one.query.legend}"
        has_data = bool(samples_of(prometheus, runnable(one.query.expression)))
        reason = quiet_reason(one, has_jmx=has_jmx)
        if reason is not None:
            excused.append(f"{name}: {'data, although' if has_data else 'no data:'} {reason}")
        elif not has_data:
            silent.append(name)
    return PanelFindings(len(placed), excused, silent)


@click.command()
@click.option("--prometheus", default="http://127.0.0.1:9090", show_default=True, help="The URL of Prometheus.")
@click.option("--jmx", "has_jmx", is_flag=True, help="The brokers have JMX exporters, so their row must have data too.")
def check(prometheus: str, has_jmx: bool) -> None:
    """Ask a running Prometheus every query of the dashboards, and say which have no data."""
    try:
        found = findings(prometheus, has_jmx=has_jmx)
    except PrometheusUnanswered as error:
        sys.stderr.write(f"Error: {error.cause}\nOperator action: {error.action}\n")
        sys.exit(error.exit_code)
    sys.stdout.write(f"{found.text}\n")
    sys.exit(1 if found.silent else 0)


if __name__ == "__main__":
    check()

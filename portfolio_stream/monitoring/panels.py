"""What a dashboard is: rows of panels with queries. The tables are in the modules `*_panels.py`.

1. A panel has a title, a text that says what is well, a unit, and queries. `grafana.py` makes dashboards of them, and
   `check.py` asks a real Prometheus every query.
2. A figure that each worker has of the whole job is a maximum over workers, and so is what the watcher sees: while it
   is replaced, there are two. Everything else that they count is a sum.
3. Limits are the numbers of `watch/thresholds.py`.
"""

from typing import Literal, NamedTuple

from portfolio_stream.watch import thresholds as limit

#: word: the name of the series that has a sample
PanelKind = Literal["lines", "number", "word", "table"]
#: Grafana's names of units
PanelUnit = Literal["short", "s", "ms", "bytes", "ops", "Bps", "percentunit", "bool_on_off", "dateTimeFromNow"]

RATE = "[$__rate_interval]"
#: records in a second that producers send
SENT_RATE = "sum(max by (partition) (deriv(portfolio_stream_source_end_offset[1m])))"
WITHIN_OBJECTIVE = f'event_latency_seconds_bucket{{le="{limit.LATENCY_SECONDS}"}}'


class PanelQuery(NamedTuple):
    expression: str
    #: what a line is called; {{label}} is the label's value
    legend: str


class Panel(NamedTuple):
    title: str
    #: what the panel shows, and what is well
    text: str
    unit: PanelUnit
    queries: tuple[PanelQuery, ...]
    kind: PanelKind = "lines"
    #: from here on the figure is red
    limit: float | None = None
    #: below the limit the figure is red, and from there on it is well
    is_floor: bool = False


class PanelRow(NamedTuple):
    title: str
    panels: tuple[Panel, ...]
    #: why a healthy system may have no data for these panels; empty: it must have some
    quiet: str = ""


class DashboardTable(NamedTuple):
    #: never changed: links and bookmarks have it
    uid: str
    title: str
    text: str
    rows: tuple[PanelRow, ...]


def quantile(share: float, name: str, by: str = "", window: str = RATE) -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({share}, sum by ({labels}) (rate(portfolio_stream_{name}_bucket{window})))"


def rate(name: str, by: str = "") -> str:
    return folded("sum", by, f"rate(portfolio_stream_{name}{RATE})")


def of(name: str, by: str = "", fold: str = "max") -> str:
    return folded(fold, by, f"portfolio_stream_{name}")


def folded(fold: str, by: str, expression: str) -> str:
    return f"{fold} by ({by}) ({expression})" if by else f"{fold}({expression})"

"""The three dashboards, the first one to look at first."""

from collections.abc import Iterator
from typing import NamedTuple

from portfolio_stream.monitoring.job_panels import JOB
from portfolio_stream.monitoring.kafka_panels import KAFKA
from portfolio_stream.monitoring.panels import DashboardTable, Panel, PanelQuery, PanelRow
from portfolio_stream.monitoring.stream_panels import STREAM

DASHBOARDS: tuple[DashboardTable, ...] = (STREAM, JOB, KAFKA)


class PlacedQuery(NamedTuple):
    """A query, and the panel in which it stands."""

    dashboard: str
    row: PanelRow
    panel: Panel
    query: PanelQuery


def queries() -> Iterator[PlacedQuery]:
    """Yields the queries of all panels, in their order."""
    for dashboard in DASHBOARDS:
        for row in dashboard.rows:
            for panel in row.panels:
                for query in panel.queries:
                    yield PlacedQuery(dashboard.uid, row, panel, query)

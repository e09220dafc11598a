"""Makes Grafana's dashboards of the panels, by Grafana's own foundation SDK: a package of the extra `dev`."""

from collections.abc import Mapping
from string import ascii_uppercase
from typing import Any

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueTextMode,
    GraphTresholdsStyleMode,
    LegendDisplayMode,
    LegendPlacement,
    TooltipDisplayMode,
)
from grafana_foundation_sdk.models.dashboard import (
    Dashboard,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from portfolio_stream.monitoring.dashboards import DASHBOARDS
from portfolio_stream.monitoring.panels import DashboardTable, Panel, PanelKind, PanelQuery

TAG = "portfolio-stream"
SOURCE = DataSourceRef("prometheus", "${datasource}")
COLUMNS = 24  # of Grafana's grid
HEIGHTS: Mapping[PanelKind, int] = {"number": 4, "word": 4, "lines": 8, "table": 8}
MOST_IN_A_LINE = 4  # of panels with lines: a smaller one cannot be read
WELL, WRONG = "green", "red"


def texts() -> dict[str, str]:
    """Returns the JSON of each dashboard by its file name."""
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {f"{one.uid}.json": encoder.encode(_dashboard(one)) + "\n" for one in DASHBOARDS}


def _dashboard(given: DashboardTable) -> Dashboard:
    made = (
        dashboard.Dashboard(given.title)
        .uid(given.uid)
        .description(given.text)
        .tags([TAG])
        .refresh("10s")
        .time("now-1h", "now")
        .timezone("browser")
        .editable()
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .link(
            dashboard.DashboardLink("Portfolio stream")
            .type(DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
        )
    )
    for row in given.rows:
        made.with_row(dashboard.Row(row.title))
        height = max(HEIGHTS[panel.kind] for panel in row.panels)
        are_small = height < HEIGHTS["lines"]
        span = COLUMNS // (len(row.panels) if are_small else min(len(row.panels), MOST_IN_A_LINE))
        for panel in row.panels:
            made.with_panel(_panel(panel).span(span).height(height))
    return made.build()


def _panel(panel: Panel) -> Any:
    made = MAKERS[panel.kind](panel)
    made = made.title(panel.title).description(panel.text).unit(panel.unit).datasource(SOURCE)
    for letter, query in zip(ascii_uppercase, panel.queries, strict=False):
        made.with_target(_target(query, letter, panel.kind))
    return made


def _target(query: PanelQuery, letter: str, kind: PanelKind) -> prometheus.Dataquery:
    target = prometheus.Dataquery().ref_id(letter).expr(query.expression).legend_format(query.legend)
    target = target.instant() if kind in ("word", "table") else target.range()  # these show the present alone
    return target.format(PromQueryFormat.TABLE) if kind == "table" else target


def _lines(panel: Panel) -> timeseries.Panel:
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.LIST).placement(LegendPlacement.BOTTOM)
    made = (
        timeseries.Panel()
        .line_width(1)
        .fill_opacity(5)
        .legend(legend.show_legend(True))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if panel.limit is None:
        return made
    style = common.GraphThresholdsStyleConfig().mode(GraphTresholdsStyleMode.LINE)
    return made.thresholds(_thresholds(panel)).thresholds_style(style)


def _number(panel: Panel) -> stat.Panel:
    made = stat.Panel().text_mode(BigValueTextMode.NAME if panel.kind == "word" else BigValueTextMode.AUTO)
    return made if panel.limit is None else made.thresholds(_thresholds(panel))


def _table(_: Panel) -> table.Panel:
    return table.Panel()


def _thresholds(panel: Panel) -> dashboard.ThresholdsConfig:
    below, above = (WRONG, WELL) if panel.is_floor else (WELL, WRONG)
    steps = [Threshold(color=below), Threshold(panel.limit, above)]
    return dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(steps)


MAKERS: Mapping[PanelKind, Any] = {"lines": _lines, "number": _number, "word": _number, "table": _table}

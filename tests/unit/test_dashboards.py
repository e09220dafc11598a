"""The dashboards: every query is PromQL over metrics that there are, and every panel says what it shows."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import pytest
from ruamel.yaml import YAML

from portfolio_stream.monitoring.check import runnable
from portfolio_stream.monitoring.dashboards import DASHBOARDS, PlacedQuery, queries
from portfolio_stream.monitoring.panels import Panel
from portfolio_stream.watch.alerts import ALERTS, RECORDED
from portfolio_stream.watch.slos import OBJECTIVES, WINDOW

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "monitoring" / "grafana"
#: tables of the exporters' metrics: a row begins with the name and the type
ROW = re.compile(r"^\| `(portfolio_stream_\w+|process_\w+)` \| (\w+) \|", re.MULTILINE)
PARTS = ("_bucket", "_sum", "_count")
OF_PROMETHEUS = {"ALERTS", "up"}
#: the unit of a figure, by how its name ends; a rate of seconds is a share
UNITS = {"_seconds": {"s", "dateTimeFromNow"}, "_bytes": {"bytes"}, ":ratio": {"percentunit"}}
QUERIES = list(queries())
PANELS = [panel for dashboard in DASHBOARDS for row in dashboard.rows for panel in row.panels]


@cache
def documented() -> set[str]:
    """Returns the names of the exporters' metrics, as the documents have them and a test compares them."""
    found: set[str] = set()
    for page in (ROOT / "docs").glob("*.md"):
        for name, kind in ROW.findall(page.read_text(encoding="utf-8")):
            found |= {f"{name}{part}" for part in PARTS} if kind == "histogram" else {name}
    return found


@cache
def of_brokers() -> re.Pattern[str]:
    """Returns what the names of the JMX exporter begin with: kafka_DOMAIN_TYPE."""
    rules = YAML(typ="safe").load(ROOT / "portfolio_stream" / "broker" / "jmx_exporter.yaml")
    told = [re.match(r"kafka\.(\w+):type=([\w-]+)", name) for name in rules["includeObjectNames"]]
    starts = {f"kafka_{found[1]}_{found[2].replace('-', '')}_".lower() for found in told if found is not None}
    return re.compile("|".join(sorted(starts)))


@cache
def recorded() -> set[str]:
    """Returns the names that recording rules make: ours, and sloth's."""
    rules = YAML(typ="safe").load(ROOT / "monitoring" / "prometheus" / "rules" / "slo.yml")["groups"]
    return {*RECORDED, *(rule["record"] for group in rules for rule in group["rules"] if "record" in rule)}


def names(expression: str) -> set[str]:
    """Returns the names of the metrics that an expression reads. Raises ValueError if it is no PromQL."""
    return set(_names(promql_parser.parse(expression)))


def _names(node: Any) -> list[str]:
    if isinstance(node, promql_parser.VectorSelector):
        return [node.name]
    inner = [getattr(node, part, None) for part in ("expr", "lhs", "rhs", "vector_selector", "param")]
    children = [one for one in (*inner, *getattr(node, "args", ())) if isinstance(one, promql_parser.Expr)]
    return [name for child in children for name in _names(child)]


def test_names_are_found_in_every_kind_of_expression() -> None:
    """A reader that overlooks a name would let an unknown one pass."""
    assert {"a", "b", "c", "d", "e", "f"} == names(
        "histogram_quantile(0.9, sum by (le) (rate(a[1m]))) + max_over_time((b >= bool 1)[5m:30s])"
        " / on (x) group_left () (c > 0) or (-d and time() - e unless absent(f))"
    )


@pytest.mark.parametrize(
    "placed", list(queries()), ids=lambda one: f"{one.dashboard}-{one.panel.title}-{one.query.legend}"
)
def test_every_query_reads_metrics_that_there_are(placed: PlacedQuery) -> None:
    """Of our exporters, of the brokers' JMX exporter, of the recording rules, or of Prometheus itself."""
    unknown = names(runnable(placed.query.expression)) - documented() - recorded() - OF_PROMETHEUS
    assert [] == [name for name in unknown if not of_brokers().match(name)]


def test_alerts_and_objectives_read_metrics_that_there_are() -> None:
    """A misspelt name would make an alert that never fires."""
    expressions = [alert.expression for alert in ALERTS] + list(RECORDED.values())
    expressions += [objective.bad_share.replace(WINDOW, "5m") for objective in OBJECTIVES]
    assert set() == {name for text in expressions for name in names(text)} - documented() - recorded()


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel.title)
def test_a_panel_says_what_it_shows(panel: Panel) -> None:
    """In a title and a sentence, with a unit that the figures' names also say."""
    assert panel.title and panel.text.endswith(".") and panel.unit and panel.queries
    for query in panel.queries:
        if re.search(r"rate\(|deriv\(| / ", query.expression):
            continue  # these change the unit
        for name in names(runnable(query.expression)):
            for end, units in UNITS.items():
                assert not name.endswith(end) or panel.unit in units, f"{name} in {panel.unit}"


def test_titles_are_unique_in_a_dashboard() -> None:
    """A title names the panel in `check.py` and in a conversation."""
    for dashboard in DASHBOARDS:
        titles = [panel.title for row in dashboard.rows for panel in row.panels]
        assert sorted(set(titles)) == sorted(titles)


@pytest.mark.parametrize("dashboard", DASHBOARDS, ids=lambda one: one.uid)
def test_the_json_is_what_grafana_imports(dashboard: Any) -> None:
    """A fixed uid, no id of another Grafana, and the data source as a variable in every panel."""
    made = json.loads((FOLDER / "dashboards" / f"{dashboard.uid}.json").read_text(encoding="utf-8"))
    assert dashboard.uid == made["uid"] and not made.get("id")
    assert ["datasource"] == [variable["name"] for variable in made["templating"]["list"]]
    shown = [panel for panel in made["panels"] if panel["type"] != "row"]
    assert [panel.title for row in dashboard.rows for panel in row.panels] == [panel["title"] for panel in shown]
    assert {"${datasource}"} == {panel["datasource"]["uid"] for panel in shown}
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in made["panels"]]
    assert sorted(set(places)) == sorted(places)


def test_grafana_is_told_where_everything_is() -> None:
    """The provisioning names no address and no password: those are in Grafana's environment."""
    load = YAML(typ="safe").load
    sources = load(FOLDER / "provisioning" / "datasources" / "prometheus.yml")["datasources"]
    assert {"${PROMETHEUS_URL}", "${ALERTMANAGER_URL}"} == {source["url"] for source in sources}
    (provider,) = load(FOLDER / "provisioning" / "dashboards" / "portfolio-stream.yml")["providers"]
    assert "/var/lib/grafana/dashboards" == provider["options"]["path"]

"""What `portfolio-stream monitor start` writes for Prometheus."""

import json
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from portfolio_stream.monitoring.generate import PACKAGED_SLO_RULES, SLO_RULES
from portfolio_stream.prometheus.configuration import MonitorPlan, budget_rules_file, prometheus_file

PLAN = MonitorPlan(
    prometheus_port=9090,
    alertmanager_port=9093,
    scrape_interval=15,
    for_at_most=None,
    watcher="127.0.0.1:6061",
    auditor="127.0.0.1:6060",
    has_token=True,
)


def jobs(plan: MonitorPlan) -> dict[str, dict[str, Any]]:
    made = json.loads(prometheus_file(plan, [Path("rules.yml")], Path("token")))
    return {job["job_name"]: job for job in made["scrape_configs"]}


def test_the_brokers_jmx_figures_are_scraped_where_there_is_an_exporter() -> None:
    """The exporter asks for no token, so it gets none."""
    assert {"workers", "watcher", "auditor"} == jobs(PLAN).keys()
    kafka = jobs(replace(PLAN, kafka=("127.0.0.1:9404",)))["kafka"]
    assert {"job_name": "kafka", "static_configs": [{"targets": ["127.0.0.1:9404"]}]} == kafka


def test_the_package_has_the_rules_that_sloth_made() -> None:
    """An installed package has no folder monitoring/."""
    assert SLO_RULES.read_bytes() == PACKAGED_SLO_RULES.read_bytes() == budget_rules_file()


def test_a_drill_has_no_budget_alerts() -> None:
    assert PLAN.has_budget_alerts
    assert not replace(PLAN, for_at_most=30).has_budget_alerts

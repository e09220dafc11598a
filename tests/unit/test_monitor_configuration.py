"""What `portfolio-stream monitor start` writes for Prometheus."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from ruamel.yaml import YAML

from portfolio_stream import cli
from portfolio_stream.monitoring.generate import PACKAGED_SLO_RULES, SLO_RULES
from portfolio_stream.monitoring.rules import RUNBOOK
from portfolio_stream.prometheus.configuration import MonitorPlan, budget_rules_file, prometheus_file, rules_file
from portfolio_stream.watch.alerts import ALERTS

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


def test_every_alert_links_to_the_runbook_of_the_operator() -> None:
    """Those that sloth made too, and nothing else of their rules changes."""
    own = "https://wiki.test/runbook?page=1"
    for made in (rules_file(ALERTS, own).decode(), budget_rules_file(own).decode()):
        rules = [rule for group in YAML(typ="safe").load(made)["groups"] for rule in group["rules"] if "alert" in rule]
        assert rules
        assert all(rule["annotations"]["runbook_url"].startswith(f"{own}#") for rule in rules)
    assert SLO_RULES.read_text() == budget_rules_file(own).decode().replace(own, RUNBOOK)


@pytest.mark.parametrize(
    "text", ["docs/runbook.md", "https://wiki.test/a b", "https://wiki.test/a#b", "ftp://wiki.test"]
)
def test_a_runbook_is_a_url(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert 2 == cli.run(["monitor", "start", "--runbook", text])
    assert "a URL without a fragment, such as https://wiki/runbook" in capsys.readouterr().err


def test_a_game_day_has_no_budget_alerts() -> None:
    assert PLAN.has_budget_alerts
    assert not replace(PLAN, for_at_most=30).has_budget_alerts

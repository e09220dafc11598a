"""The configuration of a Prometheus and an Alertmanager that watch one running system. Pure.

1. The files are JSON, which is YAML too.
2. Prometheus asks the watcher which workers there are (HTTP service discovery), so it always knows the group's members.
3. A token is never part of a file here or of a command line: the configuration names the file that holds the token.
"""

import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from portfolio_stream.http.addresses import is_loopback
from portfolio_stream.monitoring import routing
from portfolio_stream.monitoring.durations import duration
from portfolio_stream.monitoring.rules import RUNBOOK, alert_rules, recording_rules
from portfolio_stream.monitoring.scraping import configuration
from portfolio_stream.watch.alerts import Alert

_RUNBOOK_URL = re.compile(rf"^( *runbook_url: ){re.escape(RUNBOOK)}(#\S+)$", re.MULTILINE)
KEPT = "30d"  # the window of the error budgets


class MonitorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `monitor start` was asked for."""

    prometheus_port: int
    alertmanager_port: int
    #: whole seconds, as are all durations of Prometheus here
    scrape_interval: int
    #: None: the runbook's own times
    for_at_most: int | None
    #: host:port
    watcher: str
    auditor: str
    has_token: bool
    #: the JMX exporters of the brokers on this host
    kafka: tuple[str, ...] = ()
    #: the address of the runbook, to which each alert adds its section
    runbook: str = RUNBOOK

    @property
    def has_budget_alerts(self) -> bool:
        """A game day is minutes old, and any fault overspends the budget of some minutes."""
        return self.for_at_most is None


def prometheus_file(plan: MonitorPlan, rules: Sequence[Path], token: Path) -> bytes:
    workers = {
        "job_name": "workers",
        "http_sd_configs": [
            {
                "url": f"http://{plan.watcher}/targets",
                "refresh_interval": duration(plan.scrape_interval),
                **_authorization(plan, token, plan.watcher),
            }
        ],
        **(_bearer(token) if plan.has_token else {}),
    }
    others = [_fixed("watcher", plan, token, plan.watcher), _fixed("auditor", plan, token, plan.auditor)]
    if plan.kafka:
        others.append({"job_name": "kafka", "static_configs": [{"targets": plan.kafka}]})
    alertmanager = f"127.0.0.1:{plan.alertmanager_port}"
    return _file(configuration([workers, *others], [str(one) for one in rules], alertmanager, plan.scrape_interval))


def rules_file(alerts: Sequence[Alert], runbook: str = RUNBOOK) -> bytes:
    """The recording rules, and the alerts."""
    return _file({"groups": [*recording_rules()["groups"], *alert_rules(runbook, alerts)["groups"]]})


def budget_rules_file(runbook: str = RUNBOOK) -> bytes:
    """Burn rates and budgets, and their alerts, as sloth has made them: with the address of this runbook."""
    made = (resources.files("portfolio_stream.monitoring") / "slo.yml").read_text(encoding="utf-8")
    return _RUNBOOK_URL.sub(lambda found: found[1] + runbook + found[2], made).encode()


def alertmanager_file() -> bytes:
    """The routes of all priorities. They end on Alertmanager's page: nobody is called."""
    return _file(routing.configuration(None))


def _fixed(job: str, plan: MonitorPlan, token: Path, address: str) -> dict[str, Any]:
    return {
        "job_name": job,
        "static_configs": [{"targets": [address]}],
        **_authorization(plan, token, address),
    }


def _authorization(plan: MonitorPlan, token: Path, address: str) -> dict[str, Any]:
    """Watcher and auditor ask for a token only where other machines reach them. On loopback they get none."""
    return _bearer(token) if plan.has_token and not is_loopback(address) else {}


def _bearer(token: Path) -> dict[str, Any]:
    return {"authorization": {"type": "Bearer", "credentials_file": str(token)}}


def _file(content: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"

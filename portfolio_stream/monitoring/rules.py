"""The rules of Prometheus, from the tables of `watch/`: recording rules and alerts.

The recording rules stand in a group of their own, before the alerts that read them.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from portfolio_stream.monitoring.durations import duration
from portfolio_stream.watch.alerts import ALERTS, RECORDED, Alert

RECORDING_GROUP = "portfolio-stream-recording"
ALERTS_GROUP = "portfolio-stream-alerts"
#: between two evaluations of a rule, and between two scrapes: the shortest `for` is 10 s
INTERVAL_SECONDS = 5
RUNBOOK = "docs/runbook.md"


def recording_rules() -> dict[str, Any]:
    """Returns the file of recording rules."""
    rules = [{"record": name, "expr": expression} for name, expression in RECORDED.items()]
    return {"groups": [{"name": RECORDING_GROUP, "rules": rules}]}


def alert_rules(runbook: str = RUNBOOK, alerts: Sequence[Alert] = ALERTS) -> dict[str, Any]:
    """Returns the file of alerts. `runbook` is the address of the runbook, to which each alert adds its section."""
    return {"groups": [{"name": ALERTS_GROUP, "rules": [_rule(alert, runbook) for alert in alerts]}]}


def prometheus_rule(*files: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the recording rules and the rules of the files as one resource of the Prometheus operator."""
    return {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "portfolio-stream", "labels": {"app.kubernetes.io/name": "portfolio-stream"}},
        "spec": {"groups": [group for file in (recording_rules(), *files) for group in file["groups"]]},
    }


def labels(alert: Alert) -> dict[str, str]:
    """Returns the labels that the rule gives to the alert."""
    return {"severity": alert.severity, "priority": alert.priority, "component": alert.component}


def runbook_url(alert: Alert, runbook: str) -> str:
    return f"{runbook}#{alert.section}"


def _rule(alert: Alert, runbook: str) -> dict[str, Any]:
    times = {"for": alert.seconds, "keep_firing_for": alert.keep_seconds}
    return {
        "alert": alert.name,
        "expr": alert.expression,
        **{name: duration(seconds) for name, seconds in times.items() if seconds},
        "labels": labels(alert),
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": runbook_url(alert, runbook),
        },
    }

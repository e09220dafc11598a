"""The configuration of a Prometheus and an Alertmanager that watch one running system. Pure.

1. The files are JSON, which is YAML too.
2. Prometheus asks the watcher which workers there are (HTTP service discovery), so it always knows the group's members.
3. A token is never part of a file here or of a command line: the configuration names the file that holds the token.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from portfolio_stream.http.addresses import is_loopback
from portfolio_stream.watch.alerts import RECORDED, Alert

KEPT = "30d"  # the window of the error budgets
GROUP_WAIT = "10s"  # alerts of one outage come together within that time
GROUP_INTERVAL = "1m"
REPEAT_INTERVAL = "4h"
NOBODY = "nobody"  # the receiver of a system whose operator has named none: the alerts are on Alertmanager's page
RUNBOOK = "docs/runbook.md"


class MonitorPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What `monitor start` was asked for."""

    prometheus_port: int
    alertmanager_port: int
    #: seconds
    scrape_interval: float
    #: seconds; None: the runbook's own times
    for_at_most: float | None
    #: host:port
    watcher: str
    auditor: str
    has_token: bool


def prometheus_file(plan: MonitorPlan, rules: Path, token: Path) -> bytes:
    interval = _duration(plan.scrape_interval)
    return _file(
        {
            "global": {
                "scrape_interval": interval,
                "scrape_timeout": _duration(min(plan.scrape_interval, 10.0)),
                "evaluation_interval": interval,
            },
            "rule_files": [str(rules)],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{plan.alertmanager_port}"]}]}]},
            "scrape_configs": [
                {
                    "job_name": "workers",
                    "http_sd_configs": [
                        {
                            "url": f"http://{plan.watcher}/targets",
                            "refresh_interval": interval,
                            **_authorization(plan, token, plan.watcher),
                        }
                    ],
                    **(_bearer(token) if plan.has_token else {}),
                },
                _fixed("watcher", plan, token, plan.watcher),
                _fixed("auditor", plan, token, plan.auditor),
            ],
        }
    )


def rules_file(alerts: Iterable[Alert]) -> bytes:
    """The recording rules, and the alerts."""
    return _file(
        {
            "groups": [
                {
                    "name": "portfolio-stream-figures",
                    "rules": [{"record": name, "expr": expression} for name, expression in RECORDED.items()],
                },
                {"name": "portfolio-stream-alerts", "rules": [_alert(alert) for alert in alerts]},
            ]
        }
    )


def alertmanager_file(alerts: Sequence[Alert]) -> bytes:
    """One route to nobody, and what inhibits what."""
    return _file(
        {
            "route": {
                "receiver": NOBODY,
                "group_by": ["component"],
                "group_wait": GROUP_WAIT,
                "group_interval": GROUP_INTERVAL,
                "repeat_interval": REPEAT_INTERVAL,
            },
            "receivers": [{"name": NOBODY}],
            "inhibit_rules": [
                {
                    "source_matchers": [f'alertname="{source}"'],
                    "target_matchers": [f'alertname="{alert.name}"'],
                }
                for alert in alerts
                for source in alert.inhibited_by
            ],
        }
    )


def _alert(alert: Alert) -> dict[str, Any]:
    return {
        "alert": alert.name,
        "expr": alert.expression,
        "for": _duration(alert.seconds),
        "keep_firing_for": _duration(alert.keep_seconds),
        "labels": {"severity": alert.severity, "priority": alert.priority, "component": alert.component},
        "annotations": {
            "summary": alert.summary,
            "description": alert.description,
            "runbook_url": f"{RUNBOOK}#{alert.section}",
        },
    }


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


def _duration(seconds: float) -> str:
    """As Prometheus reads it: whole milliseconds."""
    return f"{round(seconds * 1000)}ms" if seconds else "0s"


def _file(content: Mapping[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(content), indent=2) + b"\n"

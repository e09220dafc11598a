"""The configuration of Alertmanager: who gets an alert of which priority, and when."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any, NamedTuple

from portfolio_stream.monitoring.durations import duration
from portfolio_stream.monitoring.objectives import SERVICE
from portfolio_stream.watch.alerts import ALERTS, Priority

#: a placeholder on this host: put the address of your pager, ticket system and mail gateway in its place
RECEIVERS = "http://127.0.0.1:9094"
#: alerts that say why a budget burns
BURN_INHIBITORS = ("KafkaDown", "JobFailed")


class Route(NamedTuple):
    receiver: str
    #: for how long Alertmanager gathers alerts of a group before the first message
    wait_seconds: float
    #: between messages about a group that has changed
    interval_seconds: float
    #: until an alert that still fires is told again
    repeat_seconds: float


ROUTES: Mapping[Priority, Route] = {
    "P0": Route("page-at-once", 0, 60, 300),
    "P1": Route("page", 10, 300, 3_600),
    "P2": Route("ticket", 60, 1_800, 86_400),
    "P3": Route("digest", 3_600, 86_400, 604_800),
}
#: an alert without a priority is somebody else's mistake: somebody must see it
FALLBACK = ROUTES["P2"]


def configuration(receivers: str | None = RECEIVERS) -> dict[str, Any]:
    """Returns the configuration. `receivers` is the URL to which each receiver adds its name; None: nobody is told."""
    return {
        "global": {"resolve_timeout": "1m"},
        "templates": ["templates/*.tmpl"],
        "route": {
            **_route(FALLBACK),
            "group_by": ["alertname", "component"],
            "routes": [{"matchers": [f'priority="{priority}"'], **_route(route)} for priority, route in ROUTES.items()],
        },
        "inhibit_rules": _inhibitions(),
        "receivers": [
            {"name": route.receiver, **({} if receivers is None else _webhook(f"{receivers}/{route.receiver}"))}
            for route in ROUTES.values()
        ],
    }


def _webhook(url: str) -> dict[str, Any]:
    return {"webhook_configs": [{"url": url}]}


def _route(route: Route) -> dict[str, str]:
    return {
        "receiver": route.receiver,
        "group_wait": duration(route.wait_seconds),
        "group_interval": duration(route.interval_seconds),
        "repeat_interval": duration(route.repeat_seconds),
    }


def _inhibitions() -> list[dict[str, Any]]:
    explained: dict[str, list[str]] = defaultdict(list)
    for alert in ALERTS:
        for inhibitor in alert.inhibited_by:
            explained[inhibitor].append(alert.name)
    rules = [
        {"source_matchers": [f'alertname="{inhibitor}"'], "target_matchers": [f'alertname=~"{"|".join(names)}"']}
        for inhibitor, names in explained.items()
    ]
    burning = [f'sloth_service="{SERVICE}"']
    return rules + [
        {"source_matchers": [f'alertname="{inhibitor}"'], "target_matchers": burning} for inhibitor in BURN_INHIBITORS
    ]

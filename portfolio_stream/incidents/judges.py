"""Who judges the alerts of a game day: the watcher, and Prometheus with Alertmanager if they run."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from portfolio_stream.broker.probe import free_port
from portfolio_stream.incidents.host import GameHost
from portfolio_stream.prometheus import answers
from portfolio_stream.watch.alerts import BY_NAME

SCRAPE = "2s"
MONITORED = ("workers", "watcher", "auditor")


class SeenAlerts(NamedTuple):
    firing: Collection[str]
    pending: Collection[str]


class AlertJudge(Protocol):
    #: for people
    name: str

    async def look(self) -> SeenAlerts | None:
        """Returns None while it does not answer."""

    async def is_ready(self) -> bool:
        """Whether it sees everything that it judges by."""


class WatcherAsJudge:
    name = "watcher"

    def __init__(self, host: GameHost) -> None:
        self._host = host

    async def look(self) -> SeenAlerts | None:
        watched = await self._host.watched()
        if watched is None:
            return None
        by_state: dict[str, list[str]] = {"firing": [], "pending": []}
        for alert in watched.alerts:
            by_state.setdefault(alert.state, []).append(alert.name)
        return SeenAlerts(by_state["firing"], by_state["pending"])

    async def is_ready(self) -> bool:
        return await self._host.watched() is not None


class PrometheusAsJudge:
    """An alert fires once Alertmanager has it too."""

    name = "Prometheus"

    def __init__(self, prometheus_port: int, alertmanager_port: int) -> None:
        self.port, self._alertmanager = prometheus_port, alertmanager_port

    async def look(self) -> SeenAlerts | None:
        return await asyncio.to_thread(self._look)

    def _look(self) -> SeenAlerts | None:
        alerts, announced = answers.alerts(self.port), answers.announced(self._alertmanager)
        if alerts is None or announced is None:
            return None
        names = {state: [one.labels["alertname"] for one in alerts if one.state == state] for state in _STATES}
        return SeenAlerts([name for name in names["firing"] if name in announced], names["pending"])

    async def is_ready(self) -> bool:
        found = await asyncio.to_thread(answers.targets, self.port)
        up = {target.labels.get("job") for target in found or () if target.health == "up"}
        return up.issuperset(MONITORED) and await asyncio.to_thread(answers.has_judged, self.port)


_STATES = ("firing", "pending")


@asynccontextmanager
async def judges_of(host: GameHost, *, has_monitor: bool) -> AsyncIterator[list[AlertJudge]]:
    watcher = WatcherAsJudge(host)
    if not has_monitor:
        yield [watcher]
        return
    prometheus, alertmanager = free_port(), free_port()
    ports = (f"--prometheus-port={prometheus}", f"--alertmanager-port={alertmanager}")
    try:
        await host.type("monitor", "start", *ports, f"--scrape-interval={SCRAPE}", *host.shortened)
        yield [watcher, PrometheusAsJudge(prometheus, alertmanager)]
    finally:
        await host.type("monitor", "stop")


@dataclass(slots=True)
class AlertRecord:
    """What one judge has said since the fault began. Times are monotonic seconds."""

    #: when each alert began to fire first, and cleared last
    fired: dict[str, float] = field(default_factory=dict)
    cleared: dict[str, float] = field(default_factory=dict)
    #: the alert that fired when this one began to, and says why; None: it fires by itself
    inhibitors: dict[str, str | None] = field(default_factory=dict)
    firing: frozenset[str] = frozenset()
    pending: frozenset[str] = frozenset()

    def feed(self, seen: SeenAlerts, now: float) -> None:
        firing = frozenset(seen.firing)
        for name in firing - self.firing:
            self.cleared.pop(name, None)
            if name not in self.fired:
                self.fired[name] = now
                self.inhibitors[name] = inhibitor_of(name, firing)
        for name in self.firing - firing:
            self.cleared[name] = now
        self.firing, self.pending = firing, frozenset(seen.pending)

    def others(self, expected: str) -> Mapping[str, str | None]:
        """The other alerts that fired, and the alert that says why each did."""
        return {name: by for name, by in self.inhibitors.items() if name != expected}


def inhibitor_of(name: str, firing: Collection[str]) -> str | None:
    alert = BY_NAME.get(name)
    return None if alert is None else next((one for one in alert.inhibited_by if one in firing), None)

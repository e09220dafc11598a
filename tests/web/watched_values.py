"""Values of a watcher and of a worker's history, as the page's tests give them."""

import random
from typing import Any

from portfolio_stream.observe.history import KEPT_MINUTES, Minute
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.shown import AlertChange, ShownAlert, ShownObjective, Watched
from portfolio_stream.watch.slos import OBJECTIVES
from portfolio_stream.web.server import WebServer


def objective(number: int, **changed: Any) -> ShownObjective:
    one = OBJECTIVES[number]
    figures = {"figure": 99.998, "total": 1_234_567.0, "bad": 12.0, "budget_left": 0.98, "burn_rate": 0.1}
    return ShownObjective(name=one.name, text=one.text, objective=one.percent, unit=one.unit, **(figures | changed))  # type: ignore[arg-type]


def alert(name: str, priority: str, since: float, **changed: Any) -> ShownAlert:
    members = {"severity": "critical", "state": "firing", "summary": f"{name} is true", "section": "alerts"} | changed
    return ShownAlert(name=name, priority=priority, since=since, **members)  # type: ignore[arg-type]


def watched(now: float, **changed: Any) -> Watched:
    """A game day: a broker is away, another alert is pending, a budget is low and one is spent."""
    members: dict[str, Any] = {
        "at": now,
        "since": now - 86_400,
        "seconds": 86_000.0,
        "figures": SystemFigures(at=now),
        "alerts": (
            alert("KafkaBrokerDown", "P1", now - 75, summary="A Kafka broker is away"),
            alert("LagMinor", "P3", now - 5, state="pending", severity="info", summary="Some events always wait"),
        ),
        "changes": (
            AlertChange(at=now - 75, name="KafkaBrokerDown", priority="P1", state="firing"),
            AlertChange(at=now - 3_600, name="JobFailed", priority="P0", state="cleared", inhibited_by="KafkaDown"),
        ),
        "objectives": (
            objective(0),
            objective(1, figure=99.9583, budget_left=0.166, burn_rate=12.4, total=86_000.0, bad=36.0),
            objective(2, figure=99.8, budget_left=-1.0, burn_rate=0.0, total=86_000.0, bad=172.0),
            objective(3, figure=None, budget_left=None, burn_rate=None, total=0.0, bad=0.0),
            objective(4),
        ),
        "advice": (
            "The workers keep up: 2,000 events a second come, and they can process about 9,000.",
            "Another worker would not help: no partition waits.",
        ),
    }
    return Watched(**(members | changed))


def give_history(server: WebServer, now: float, minutes: int = KEPT_MINUTES) -> None:
    """Let the worker remember hours: a lag that grew for ten minutes and was worked off, and a gap of ten minutes."""
    made = random.Random(7)
    pulse: Pulse = server._pulse
    bounds = len(pulse._statistics.latencies.bounds) + 1
    for ago in range(minutes - 1, 0, -1):
        if 100 < ago <= 110:
            continue
        is_slow = 30 < ago <= 40
        events = int(made.gauss(120_000, 4_000)) if not is_slow else 50_000
        counts = [0] * bounds
        counts[2 if not is_slow else 10] = events
        counts[4 if not is_slow else 12] = events // 90
        pulse.history._minutes.append(
            Minute(
                at=int(now) // 60 * 60 - ago * 60,
                seconds=60.0,
                events=sum(counts),
                commits=1_500,
                latency_counts=tuple(counts),
                lag=(41 - ago) * 700 if is_slow else made.randrange(150),
                lag_seconds=(41 - ago) * 3.5 if is_slow else made.random() / 10,
            )
        )

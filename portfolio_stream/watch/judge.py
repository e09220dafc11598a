"""The life of an alert, as Prometheus and Alertmanager have it.

1. A condition that holds makes an alert pending, and firing once it has held for `seconds`. One look at which the
   condition does not hold makes a pending alert inactive.
2. A firing alert clears once its condition has not held for `keep_seconds`, counted from the first look at which the
   condition did not hold.
3. A look that does not know whether the condition holds changes nothing. A watcher that cannot see must not announce
   the end of an outage. An alert that waits goes on at the next look that knows.
4. Only monotonic time decides: the wall clock may jump, and is only shown.
5. An alert whose inhibitor fires is judged like any other, and fires. It names its inhibitor, so that the page shows
   the cause, and nobody is called twice. As in Alertmanager, an inhibitor that is itself inhibited still inhibits.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec
from msgspec.structs import replace

from portfolio_stream.watch.alert_details import summary_of
from portfolio_stream.watch.alerts import ALERTS, Alert
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.shown import AlertChange, AlertState, ShownAlert

#: clearing: the alert fires, but its condition does not hold any more
AlertPhase = Literal["inactive", "pending", "firing", "clearing"]

#: by phase, and by whether the condition holds
NEXT: dict[tuple[AlertPhase, bool], AlertPhase] = {
    ("inactive", False): "inactive",
    ("inactive", True): "pending",
    ("pending", False): "inactive",
    ("pending", True): "pending",
    ("firing", False): "clearing",
    ("firing", True): "firing",
    ("clearing", False): "clearing",
    ("clearing", True): "firing",
}
#: what follows a phase that has taken its time
AFTERWARDS: dict[AlertPhase, AlertPhase] = {"pending": "firing", "clearing": "inactive"}
STATES: dict[AlertPhase, AlertState] = {
    "inactive": "inactive",
    "pending": "pending",
    "firing": "firing",
    "clearing": "firing",
}
MOST_CHANGES = 200  # some 30 KB of JSON


class AlertLife(msgspec.Struct, frozen=True, kw_only=True):
    phase: AlertPhase = "inactive"
    #: when the phase began, in monotonic seconds
    entered: float = 0.0
    #: when the state began that people see, in UNIX seconds
    since: float = 0.0

    @property
    def state(self) -> AlertState:
        return STATES[self.phase]


NEVER = AlertLife()


class Judgement(msgspec.Struct, frozen=True, kw_only=True):
    """All alerts after a look."""

    #: by name; an alert that is not there has never been pending
    lives: Mapping[str, AlertLife] = {}
    #: newest first, at most MOST_CHANGES
    changes: tuple[AlertChange, ...] = ()


def judged(before: Judgement, figures: SystemFigures, now: float, alerts: Sequence[Alert] = ALERTS) -> Judgement:
    """Returns the judgement after a look at `now`, in monotonic seconds."""
    old = {alert.name: before.lives.get(alert.name, NEVER) for alert in alerts}
    new = {alert.name: _next(alert, old[alert.name], alert.holds(figures), now, figures.at) for alert in alerts}
    changes = [
        AlertChange(
            at=figures.at,
            name=alert.name,
            priority=alert.priority,
            state="firing" if new[alert.name].state == "firing" else "cleared",
            inhibited_by=_inhibitor(alert, new),
        )
        for alert in alerts
        if (old[alert.name].state == "firing") != (new[alert.name].state == "firing")
    ]
    return Judgement(lives=new, changes=(*changes, *before.changes)[:MOST_CHANGES])


def later(judgement: Judgement, seconds: float) -> Judgement:
    """The judgement as if all of it had happened `seconds` later, by the monotonic clock."""
    lives = {name: replace(life, entered=life.entered + seconds) for name, life in judgement.lives.items()}
    return replace(judgement, lives=lives)


def alert_states(judgement: Judgement) -> dict[str, AlertState]:
    """The states of the pending and firing alerts."""
    return {name: life.state for name, life in judgement.lives.items() if life.state != "inactive"}


def shown_alerts(
    judgement: Judgement, alerts: Iterable[Alert] = ALERTS, figures: SystemFigures | None = None
) -> tuple[ShownAlert, ...]:
    """Returns the pending and firing alerts, the most urgent first: those that fire, by priority, causes first.

    With `figures` each summary ends with those that the alert is about.
    """
    shown = [
        ShownAlert(
            name=alert.name,
            priority=alert.priority,
            severity=alert.severity,
            state=life.state,
            since=life.since,
            summary=alert.summary if figures is None else summary_of(alert, figures),
            section=alert.section,
            inhibited_by=_inhibitor(alert, judgement.lives),
        )
        for alert in alerts
        if (life := judgement.lives.get(alert.name, NEVER)).state != "inactive"
    ]
    return tuple(sorted(shown, key=_urgency))


def _next(alert: Alert, life: AlertLife, holds: bool | None, now: float, at: float) -> AlertLife:
    if holds is None:
        return life
    life = _entered(life, NEXT[life.phase, holds], now, at)
    waits = {"pending": alert.seconds, "clearing": alert.keep_seconds}.get(life.phase)
    if waits is None or now - life.entered < waits:
        return life
    return _entered(life, AFTERWARDS[life.phase], now, at)


def _entered(life: AlertLife, phase: AlertPhase, now: float, at: float) -> AlertLife:
    if phase == life.phase:
        return life
    return AlertLife(phase=phase, entered=now, since=life.since if STATES[phase] == life.state else at)


def _inhibitor(alert: Alert, lives: Mapping[str, AlertLife]) -> str | None:
    """The first inhibitor that fires."""
    return next((name for name in alert.inhibited_by if lives.get(name, NEVER).state == "firing"), None)


def _urgency(one: ShownAlert) -> tuple[bool, str, bool, float, str]:
    return one.state != "firing", one.priority, one.inhibited_by is not None, one.since, one.name

"""The JSON that the watcher answers at /watch. The page and the commands read it."""

from typing import Literal

import msgspec

from portfolio_stream.watch.figures import SystemFigures

AlertState = Literal["inactive", "pending", "firing"]
BurnSeverity = Literal["page", "ticket"]


class ShownAlert(msgspec.Struct, frozen=True, kw_only=True):
    """An alert that is pending or fires."""

    name: str
    priority: str
    severity: str
    state: AlertState
    #: UNIX seconds since which it has the state
    since: float
    #: what is wrong, with the figures of this moment
    summary: str
    #: the section of docs/runbook.md
    section: str
    #: the alert that says why; None: no such alert fires
    inhibited_by: str | None = None


class AlertChange(msgspec.Struct, frozen=True, kw_only=True):
    """That an alert began to fire, or cleared."""

    at: float
    name: str
    priority: str
    state: Literal["firing", "cleared"]
    inhibited_by: str | None = None


class BurnsTooFast(msgspec.Struct, frozen=True, kw_only=True):
    """That a budget burns so fast that somebody must act: see slos.BURN_RULES."""

    #: page: now. ticket: on the next working day
    severity: BurnSeverity
    #: how many times faster than allowed
    burn_rate: float
    #: over the last so many seconds
    seconds: int


class ShownObjective(msgspec.Struct, frozen=True, kw_only=True):
    """An objective over the time that the watcher knows, at most thresholds.WINDOW_DAYS."""

    name: str
    text: str
    #: percent
    objective: float
    #: percent that was good; None while nothing was counted
    figure: float | None
    unit: str
    total: float
    bad: float
    #: share of the error budget that is left; negative: overspent. None while nothing was counted
    budget_left: float | None
    #: how many times faster than allowed the budget burned in the last hour; None while nothing was counted
    burn_rate: float | None
    #: None while the budget burns slowly enough
    too_fast: BurnsTooFast | None = None


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    #: UNIX seconds of the last look
    at: float
    #: UNIX seconds of the first slice that is kept
    since: float
    #: seconds of this time that the watcher looked
    seconds: float
    figures: SystemFigures
    #: pending and firing ones, the most urgent first
    alerts: tuple[ShownAlert, ...] = ()
    #: the latest ones, newest first, at most 200
    changes: tuple[AlertChange, ...] = ()
    objectives: tuple[ShownObjective, ...] = ()
    #: anomalies that the auditor found in this time
    anomalies: int = 0
    #: sentences, the most important first
    advice: tuple[str, ...] = ()

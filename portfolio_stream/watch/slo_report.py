"""What the watcher counted, as one report: objectives, exactly-once, capacity, and whether all of it is kept."""

from typing import Literal

import msgspec

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.capacity import capacity, trend
from portfolio_stream.watch.figures import AuditVerdict
from portfolio_stream.watch.shown import ShownObjective, Watched

SloState = Literal["kept", "broken", "unknown"]


class ExactlyOnce(msgspec.Struct, frozen=True, kw_only=True):
    """A condition, and no objective: one violation breaks it."""

    state: SloState
    verdict: AuditVerdict
    #: seconds since the auditor last decided; None if it has not
    age_seconds: float | None
    #: anomalies that the auditor found in the time that the watcher knows; None: it found none, and nobody looks now
    anomalies: int | None


class CapacityFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What the workers do and what they could do, in events in a second. None: unknown. Nothing breaks by it."""

    target: float
    processed: float | None
    #: by DS2 (watch/capacity.py), of the workers that have work
    possible: float | None


class SloReport(msgspec.Struct, frozen=True, kw_only=True):
    state: SloState
    #: UNIX seconds: the last look, and the beginning of the time that is known
    at: float
    since: float
    #: seconds of this time that the watcher looked
    seconds: float
    objectives: tuple[ShownObjective, ...]
    exactly_once: ExactlyOnce
    capacity: CapacityFigures


def slo_report(watched: Watched) -> SloReport:
    exactly_once = _exactly_once(watched)
    states = {exactly_once.state, *map(_state, watched.objectives)}
    if not watched.objectives:
        states.add("unknown")
    return SloReport(
        state="broken" if "broken" in states else "unknown" if "unknown" in states else "kept",
        at=watched.at,
        since=watched.since,
        seconds=watched.seconds,
        objectives=watched.objectives,
        exactly_once=exactly_once,
        capacity=_capacity(watched),
    )


def _state(objective: ShownObjective) -> SloState:
    if objective.budget_left is None:
        return "unknown"
    return "broken" if objective.budget_left < 0 else "kept"


def _exactly_once(watched: Watched) -> ExactlyOnce:
    figures = watched.figures
    age = None if figures.decided_at is None else max(0.0, watched.at - figures.decided_at)
    is_known = figures.verdict == "holds" and age is not None and age <= limit.VERDICT_AGE_SECONDS
    is_broken = figures.verdict == "violated" or watched.anomalies > 0
    return ExactlyOnce(
        state="broken" if is_broken else "kept" if is_known else "unknown",
        verdict=figures.verdict,
        age_seconds=age,
        anomalies=watched.anomalies or (None if age is None else 0),
    )


def _capacity(watched: Watched) -> CapacityFigures:
    figures = watched.figures
    seen, found = trend(figures.partitions.values()), capacity(figures.workers)
    return CapacityFigures(
        target=limit.CAPACITY_EVENTS_PER_SECOND,
        processed=None if seen is None else seen.processed,
        possible=None if found is None else found.workers * found.of_one,
    )

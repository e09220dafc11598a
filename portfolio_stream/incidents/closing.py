"""What an incident's report says when the incident is opened, and when it is closed. Pure."""

import math

from portfolio_stream.foreign import printable
from portfolio_stream.incidents.evidence import IncidentEvidence
from portfolio_stream.incidents.report import (
    ANY_COMPONENT,
    CLOSED,
    COMPONENTS,
    DURATION,
    IMPACT,
    MARKED_SECTIONS,
    MARKS,
    STATE,
    TEMPLATE,
    TIMES,
    VERDICT,
    IncidentReport,
    Mark,
    TimelineRow,
    mark_row,
    marked,
    new_report,
    told,
    with_fields,
    with_lines,
    with_mark,
    with_rows,
    with_text,
    without_template,
)
from portfolio_stream.incidents.timeline import alert_rows, event_rows
from portfolio_stream.watch.alerts import BY_NAME, Priority
from portfolio_stream.watch.shown import ShownAlert
from portfolio_stream.watch.words import listed
from portfolio_stream.web.verdict import Audit

SHOWN_ANOMALIES = 5
LONGEST_SECONDS = 7 * 86_400.0  # an alert that has fired for longer is no news: an incident does not begin with it
FEW_SECONDS = 5.0  # a figure that is missing for less is missing because of a look that was late


def opened(
    title: str, priority: Priority, component: str | None, since: float | None, now: float, evidence: IncidentEvidence
) -> IncidentReport:
    """An incident begins at `since`; without it, when the first alert that fires began to fire, or else now."""
    firing = _firing(evidence, now - LONGEST_SECONDS if since is None else since)
    fired = min((min(one.since, now) for one in firing), default=None)
    began = since if since is not None else fired if fired is not None else now
    report = new_report(title, priority, component or _component(firing), began)
    changes = () if evidence.watched is None else evidence.watched.changes
    detected = now if fired is None else max(began, fired)
    rows = [*alert_rows(changes, began, now), mark_row(detected, "detected"), *_missing(evidence, now)]
    report = with_rows(report, rows)
    return with_fields(report, {VERDICT: f"{evidence.audit.verdict} when opened"})


def closed(report: IncidentReport, now: float, evidence: IncidentEvidence) -> tuple[IncidentReport, int]:
    """Returns the whole report, and the incident's minutes."""
    began = report.began
    watched = evidence.watched
    changes = () if watched is None else watched.changes
    events, more = event_rows(evidence.events, began, now)
    rows = [*alert_rows(changes, began, now), *events, *_missing(evidence, now)]
    if more:
        rows.append(TimelineRow(now, f"{more} more events are left out: see the workers' logs"))
    report = with_rows(report, rows)
    if marked(report, "restored") is None:
        reason = not_restored(evidence, began)
        cleared = [one.at for one in changes if one.state == "cleared" and began <= one.at <= now]
        ended = mark_row(max(cleared, default=now), "restored")
        report = with_rows(report, [ended if reason is None else TimelineRow(now, f"{CLOSED}: {reason}")])
    verdict = f"{report.fields.get(VERDICT, 'unknown when opened')}, {evidence.audit.verdict} when closed"
    report = without_template(with_fields(report, {STATE: "closed", VERDICT: verdict}))
    own = [line for line in report.lines_of(IMPACT) if line and line not in TEMPLATE[IMPACT]]
    return timed(with_lines(report, IMPACT, [*_impact(evidence, began, now), *own]))


def noted(report: IncidentReport, at: float, mark: Mark, text: str) -> IncidentReport:
    """Add what happened. What the report says of its times follows, if the report is closed."""
    report = with_mark(report, at, mark, text)
    if mark in MARKED_SECTIONS:
        report = with_text(report, MARKED_SECTIONS[mark], text)
    return report if report.is_open else timed(report)[0]


def timed(report: IncidentReport) -> tuple[IncidentReport, int]:
    """Returns the closed report with its times and its duration, by its timeline; and the duration's minutes."""
    times = {mark: at for mark in MARKS if (at := marked(report, mark)) is not None}
    said = [f"{mark} after {_span(at - report.began)}" for mark, at in times.items()]
    closing = told(report, CLOSED)
    if "restored" not in times and closing is not None:
        said.append(f"closed after {_span(closing - report.began)} (not restored)")
    until = times.get("restored") or closing or max(times.values(), default=report.began)
    minutes = max(1, math.ceil((until - report.began) / 60))
    fields = {DURATION: f"{minutes} minute{'' if minutes == 1 else 's'}", TIMES: ", ".join(said)}
    return with_fields(report, fields), minutes


def not_restored(evidence: IncidentEvidence, began: float) -> str | None:
    """Why nobody knows that the service is restored; None: no alert of the incident fires any more."""
    if evidence.watched is None:
        return "no watcher says whether an alert fires"
    firing = [one.name for one in _firing(evidence, began)]
    return f"{listed(firing)} {'fires' if len(firing) == 1 else 'fire'} still" if firing else None


def _firing(evidence: IncidentEvidence, since: float) -> list[ShownAlert]:
    """The alerts that fire, and began to since then. An alert that fired before is of another incident."""
    alerts = () if evidence.watched is None else evidence.watched.alerts
    return [one for one in alerts if one.state == "firing" and one.since >= since]


def _impact(evidence: IncidentEvidence, began: float, now: float) -> list[str]:
    lag, seconds = evidence.peaks(began, now)
    unknown = evidence.unknown_seconds(began, now)
    part = f", and not known for {_span(unknown)}" if unknown > FEW_SECONDS else ""
    delay = None if seconds is None else f"up to {_span(seconds)}" if seconds >= 1 else "less than a second"
    return [
        f"- Messages lost: {_lost(evidence.audit)}",
        f"- Processing delay: {'not known' if delay is None else f'{delay}{part}'}",
        f"- Consumer lag: {'not known' if lag is None else f'Peak at {lag:,} messages{part}'}",
    ]


def _lost(audit: Audit) -> str:
    match audit.verdict:
        case "holds":
            return f"None (exactly-once holds: {audit.records:,} records compared)"
        case "violated":
            found = [printable(f"{one.kind} {one.detail}") for one in audit.anomalies[:SHOWN_ANOMALIES]]
            more = len(audit.anomalies) - len(found)
            return f"exactly-once is violated: {'; '.join(found)}{f', and {more} more' if more > 0 else ''}"
    return f"not known (the auditor says: {audit.verdict}). Run `portfolio-stream verify` once Kafka answers"


def _missing(evidence: IncidentEvidence, now: float) -> list[TimelineRow]:
    return [TimelineRow(now, f"Not gathered. {sentence.rstrip('.')}") for sentence in evidence.missing]


def _component(firing: list[ShownAlert]) -> str:
    """Of the alerts that fire by themselves."""
    causes = (BY_NAME.get(one.name) for one in firing if one.inhibited_by is None)
    names = dict.fromkeys(COMPONENTS[alert.component] for alert in causes if alert is not None)
    return "/".join(names) or ANY_COMPONENT


def _span(seconds: float) -> str:
    whole = round(max(0.0, seconds))
    minutes, left = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {left} s" if minutes else f"{left} s"

"""What an incident's report says when the incident is opened, and when it is closed. Pure."""

import math
from collections.abc import Mapping

from portfolio_stream.incidents.evidence import IncidentEvidence
from portfolio_stream.incidents.report import (
    ANY_COMPONENT,
    COMPONENTS,
    DURATION,
    IMPACT,
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
    with_fields,
    with_lines,
    with_rows,
)
from portfolio_stream.incidents.timeline import alert_rows, event_rows
from portfolio_stream.watch.alerts import BY_NAME, Priority
from portfolio_stream.watch.shown import ShownAlert
from portfolio_stream.web.verdict import Audit

SHOWN_ANOMALIES = 5
LONGEST_SECONDS = 7 * 86_400.0  # an alert that has fired for longer is no news: an incident does not begin with it
#: a time of the report, and how the report says it
SAID: Mapping[Mark, str] = {"detected": "detected", "mitigated": "mitigated", "restored": "restored"}


def opened(
    title: str, priority: Priority, component: str | None, since: float | None, now: float, evidence: IncidentEvidence
) -> IncidentReport:
    """An incident begins at `since`; without it, when the first alert that fires began to fire, or else now."""
    firing = _firing(evidence, now - LONGEST_SECONDS if since is None else since)
    fired = min((one.since for one in firing), default=None)
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
        cleared = [one.at for one in changes if one.state == "cleared" and began <= one.at <= now]
        is_over = bool(cleared) and not _firing(evidence, began)
        report = with_rows(report, [mark_row(max(cleared) if is_over else now, "restored")])
    restored = marked(report, "restored") or now
    minutes = max(1, math.ceil((restored - began) / 60))
    times = {said: at for mark, said in SAID.items() if (at := marked(report, mark)) is not None}
    verdict = f"{report.fields.get(VERDICT, 'unknown when opened')}, {evidence.audit.verdict} when closed"
    report = with_fields(
        report,
        {
            DURATION: f"{minutes} minute{'' if minutes == 1 else 's'}",
            STATE: "closed",
            VERDICT: verdict,
            TIMES: ", ".join(f"{said} after {_span(at - began)}" for said, at in times.items()),
        },
    )
    own = [line for line in report.lines_of(IMPACT) if line and line not in TEMPLATE[IMPACT]]
    return with_lines(report, IMPACT, [*_impact(evidence, began, now), *own]), minutes


def _firing(evidence: IncidentEvidence, since: float) -> list[ShownAlert]:
    """The alerts that fire, and began to since then. An alert that fired before is of another incident."""
    alerts = () if evidence.watched is None else evidence.watched.alerts
    return [one for one in alerts if one.state == "firing" and one.since >= since]


def _impact(evidence: IncidentEvidence, began: float, now: float) -> list[str]:
    lag, seconds = evidence.peaks(began, now)
    return [
        f"- Messages lost: {_lost(evidence.audit)}",
        f"- Processing delay: {'not known' if seconds is None else f'up to {_span(seconds)}'}",
        f"- Consumer lag: {'not known' if lag is None else f'Peak at {lag:,} messages'}",
    ]


def _lost(audit: Audit) -> str:
    match audit.verdict:
        case "holds":
            return f"None (exactly-once holds: {audit.records:,} records compared)"
        case "violated":
            found = [f"{one.kind} {one.detail}" for one in audit.anomalies[:SHOWN_ANOMALIES]]
            more = len(audit.anomalies) - len(found)
            return f"exactly-once is violated: {'; '.join(found)}{f', and {more} more' if more > 0 else ''}"
    return f"not known (the auditor says: {audit.verdict}). Run `portfolio-stream verify`"


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

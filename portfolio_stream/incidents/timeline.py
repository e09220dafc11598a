"""The rows of a timeline, from the events of the workers and the changes of alerts. Pure, and bounded."""

from collections.abc import Iterable, Sequence
from itertools import groupby

import msgspec

from portfolio_stream.incidents.report import TimelineRow
from portfolio_stream.watch.alerts import BY_NAME
from portfolio_stream.watch.shown import AlertChange

MOST_ROWS = 200  # of events, in one report: an outage can tell a thousand
#: what says most comes first, if there are too many
RANKS = {"error": 0, "warning": 1, "info": 2}
BEFORE_SECONDS = 60.0  # what happened right before an incident may be its cause
LONGEST_TEXT = 300  # characters of a row


class WorkerMoment(msgspec.Struct, frozen=True, kw_only=True):
    """An event that a worker told."""

    #: UNIX seconds, by the worker's clock
    at: float
    worker: str
    level: str
    action: str
    #: the fields, as the log has them
    text: str


def alert_rows(changes: Iterable[AlertChange], since: float, until: float) -> list[TimelineRow]:
    near = (change for change in changes if since - BEFORE_SECONDS <= change.at <= until)
    return [TimelineRow(change.at, _change_text(change)) for change in near]


def event_rows(events: Iterable[WorkerMoment], since: float, until: float) -> tuple[list[TimelineRow], int]:
    """Returns at most MOST_ROWS rows, and how many more there would be.

    Events of one worker with the same action and minute are one row: eight partitions recover together, and a slow
    commit is seldom alone.
    """
    near = sorted(
        (one for one in events if since - BEFORE_SECONDS <= one.at <= until),
        key=lambda one: (*_together(one), one.at),
    )
    groups = [list(group) for _, group in groupby(near, key=_together)]
    groups.sort(key=lambda group: (RANKS.get(group[0].level, len(RANKS)), group[0].at))
    rows = [TimelineRow(group[0].at, _event_text(group)) for group in groups[:MOST_ROWS]]
    return rows, max(0, len(groups) - MOST_ROWS)


def _change_text(change: AlertChange) -> str:
    alert = BY_NAME.get(change.name)
    said = "fires" if change.state == "firing" else "clears"
    cause = f", because of {change.inhibited_by}" if change.inhibited_by is not None and said == "fires" else ""
    summary = f": {alert.summary}" if alert is not None and said == "fires" else ""
    return f"Alert {change.name} ({change.priority}) {said}{cause}{summary}"


def _together(one: WorkerMoment) -> tuple[int, str, str]:
    return int(one.at) // 60, one.worker, one.action


def _event_text(group: Sequence[WorkerMoment]) -> str:
    first = group[0]
    times = f" ({len(group)} times within a minute)" if len(group) > 1 else f" {first.text}".rstrip()
    return f"{first.worker}: {first.action}{times}"[:LONGEST_TEXT]

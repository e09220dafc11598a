"""A report of an incident: a Markdown file by the template of docs/runbook.md. Pure.

1. The file is all that is known of an incident: no other file says whether the incident is open.
2. An operator may edit the file by hand. A change here touches the lines that it is about, and keeps all others.
3. Times are UTC. A row of the timeline has the day too, if the day is not that of the report's date.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from portfolio_stream.foreign import printable
from portfolio_stream.watch.alerts import Component, Priority

TITLE = "# Streaming Incident Report"
#: the names of the lines before the first section; the first four are the runbook's
DATE, SEVERITY, DURATION, COMPONENT = "Date", "Severity", "Duration", "Affected Component"
NAME, STATE, TIMES, VERDICT = "Title", "State", "Times", "Verdict"
NEEDED = (DATE, SEVERITY, NAME, STATE)
COMPONENTS: Mapping[Component, str] = {"kafka": "Kafka", "job": "Flink", "stream": "Stream Processing"}
#: if nobody knows which component it is
ANY_COMPONENT = "/".join(COMPONENTS.values())

TIMELINE, ROOT_CAUSE, IMPACT = "Timeline", "Root Cause", "Impact"
REMEDIATION, ACTION_ITEMS = "Remediation", "Action Items"
#: what stands in a section until somebody fills it
TEMPLATE: Mapping[str, tuple[str, ...]] = {
    TIMELINE: (),
    ROOT_CAUSE: ("[Description of root cause]",),
    IMPACT: (
        "- Messages lost: not known before the incident is closed",
        "- Processing delay: XX minutes",
        "- Consumer lag: Peak at XX,XXX messages",
    ),
    REMEDIATION: ("[Description of fix]",),
    ACTION_ITEMS: (
        "- [ ] Increase monitoring thresholds",
        "- [ ] Optimize stream processing job",
        "- [ ] Scale infrastructure",
        "- [ ] Update runbook",
    ),
}
#: the sections that a note may fill, by the option's value
FILLED: Mapping[str, str] = {
    "root-cause": ROOT_CAUSE,
    "impact": IMPACT,
    "remediation": REMEDIATION,
    "action-items": ACTION_ITEMS,
}
#: stands in a section of a closed report that nobody filled
NOTHING = "Nothing was noted."
Mark = Literal["detected", "investigated", "identified", "mitigated", "restored"]
#: the rows of the runbook's timeline
MARKS: Mapping[Mark, str] = {
    "detected": "Incident detected",
    "investigated": "Investigation started",
    "identified": "Root cause identified",
    "mitigated": "Mitigation applied",
    "restored": "Service restored",
}
#: the sections that the text of a mark belongs to
MARKED_SECTIONS: Mapping[Mark, str] = {"identified": ROOT_CAUSE, "mitigated": REMEDIATION}
#: begins the row that `close` writes if the service is not known to be restored
CLOSED = "Incident closed"
#: the state of a complete report whose line may not be in the table of incidents yet
CLOSING = "closing"

#: begins a line that Markdown would read as a heading, a fence of code, a table or the underline of a heading
_STRUCTURE = re.compile(r"#|```|~~~|\||[-=]+$")
_FIELD = re.compile(r"\*\*(?P<name>[^*]+):\*\* ?(?P<value>.*)")
_ROW = re.compile(
    r"- (?:(?P<day>\d{4}-\d\d-\d\d) )?(?P<time>(?:[01]\d|2[0-3]):[0-5]\d(?::[0-5]\d)?): (?P<text>.*)", re.ASCII
)


class TimelineRow(NamedTuple):
    #: UNIX seconds
    at: float
    text: str


class Section(msgspec.Struct, frozen=True):
    heading: str
    lines: tuple[str, ...]


class IncidentReport(msgspec.Struct, frozen=True, kw_only=True):
    #: the lines before the first section
    head: tuple[str, ...]
    sections: tuple[Section, ...]

    @property
    def fields(self) -> dict[str, str]:
        matches = map(_FIELD.fullmatch, self.head)
        return {match["name"]: match["value"].strip() for match in matches if match is not None}

    @property
    def title(self) -> str:
        return self.fields[NAME]

    @property
    def priority(self) -> str:
        return self.fields[SEVERITY]

    @property
    def is_open(self) -> bool:
        return self.fields[STATE] == "open"

    @property
    def is_closing(self) -> bool:
        return self.fields[STATE] == CLOSING

    @property
    def began(self) -> float:
        """UNIX seconds."""
        return datetime.fromisoformat(self.fields[DATE].replace("Z", "+00:00")).timestamp()

    def lines_of(self, heading: str) -> tuple[str, ...]:
        return next((one.lines for one in self.sections if one.heading == heading), ())


def new_report(title: str, priority: Priority, component: str, began: float) -> IncidentReport:
    fields = {
        DATE: moment(began),
        SEVERITY: priority,
        DURATION: "not over",
        COMPONENT: component,
        NAME: title,
        STATE: "open",
    }
    return IncidentReport(
        head=(TITLE, "", *(_field_line(name, value) for name, value in fields.items()), ""),
        sections=tuple(Section(heading, (*lines, "")) for heading, lines in TEMPLATE.items()),
    )


def parsed(text: str) -> IncidentReport | None:
    """Returns the report of a file's text; None if the text lacks a line that every report has."""
    head: list[str] = []
    sections: list[Section] = []
    for line in text.splitlines():
        if line.startswith("## "):
            sections.append(Section(line.removeprefix("## ").strip(), ()))
        elif not sections:
            head.append(line)
        else:
            sections[-1] = Section(sections[-1].heading, (*sections[-1].lines, line))
    report = IncidentReport(head=tuple(head), sections=tuple(sections))
    fields = report.fields
    if any(name not in fields for name in NEEDED) or read_moment(fields[DATE]) is None:
        return None
    return report


def rendered(report: IncidentReport) -> str:
    lines = list(report.head)
    for section in report.sections:
        lines += [f"## {section.heading}", *section.lines]
    return "\n".join(lines).rstrip("\n") + "\n"


def with_fields(report: IncidentReport, fields: Mapping[str, str]) -> IncidentReport:
    """Replace the values of these lines. A line that is not there yet comes after the others."""
    head, left = [], dict(fields)
    for line in report.head:
        match = _FIELD.fullmatch(line)
        name = None if match is None else match["name"]
        head.append(line if name not in left else _field_line(name, left.pop(name)))
    last = max((at for at, line in enumerate(head) if _FIELD.fullmatch(line)), default=-1)
    head[last + 1 : last + 1] = [_field_line(name, value) for name, value in left.items()]
    return msgspec.structs.replace(report, head=tuple(head))


def with_lines(report: IncidentReport, heading: str, lines: Sequence[str]) -> IncidentReport:
    """Replace the first section with this heading. If there is none, it becomes the last one."""
    made = Section(heading, (*lines, ""))
    at = next((at for at, one in enumerate(report.sections) if one.heading == heading), len(report.sections))
    return msgspec.structs.replace(report, sections=(*report.sections[:at], made, *report.sections[at + 1 :]))


def with_text(report: IncidentReport, heading: str, text: str) -> IncidentReport:
    """Add a line to a section, unless it is there already. What the template had there goes."""
    there = _own_lines(report, heading)
    mark = {ACTION_ITEMS: "- [ ] ", IMPACT: "- "}.get(heading)
    line = _paragraph(text) if mark is None else mark + printable(text)
    return with_lines(report, heading, there if line in there else [*there, line])


def without_template(report: IncidentReport) -> IncidentReport:
    """Remove what the template had in the sections for notes. A section that nobody filled says so."""
    for heading in (ROOT_CAUSE, REMEDIATION, ACTION_ITEMS):
        report = with_lines(report, heading, _own_lines(report, heading) or [NOTHING])
    return report


def unfilled(report: IncidentReport) -> list[str]:
    """Returns the values of `--section` for which a closed report has nothing."""
    return [name for name, heading in FILLED.items() if NOTHING in report.lines_of(heading)]


def _own_lines(report: IncidentReport, heading: str) -> list[str]:
    """What an operator wrote into the section."""
    there = [line for line in report.lines_of(heading) if line not in (*TEMPLATE[heading], NOTHING)]
    while there and not there[-1]:
        there.pop()
    return there


def with_rows(report: IncidentReport, rows: Iterable[TimelineRow]) -> IncidentReport:
    """Put the rows into the timeline, by their times. A row that is there already is not put in again."""
    lines = list(report.lines_of(TIMELINE))
    while lines and not lines[-1]:
        lines.pop()
    day = moment(report.began)[:10]
    for row in sorted(rows, key=lambda row: row.at):
        line = _row_line(row, day)
        if line in lines:
            continue
        later = (at for at, there in enumerate(lines) if (found := _row(there, day)) is not None and found.at > row.at)
        lines.insert(next(later, len(lines)), line)
    return with_lines(report, TIMELINE, lines)


def marked(report: IncidentReport, mark: Mark) -> float | None:
    """Returns when a row of the timeline says so first, in UNIX seconds."""
    return told(report, MARKS[mark])


def told(report: IncidentReport, beginning: str) -> float | None:
    """Returns the time of the first row of the timeline with this beginning, in UNIX seconds."""
    day = moment(report.began)[:10]
    rows = (_row(line, day) for line in report.lines_of(TIMELINE))
    return min((row.at for row in rows if row is not None and row.text.startswith(beginning)), default=None)


def with_mark(report: IncidentReport, at: float, mark: Mark, text: str) -> IncidentReport:
    """Put an operator's mark into the timeline, in place of a row that a command made or that has no text."""
    day = moment(report.began)[:10]
    found = ((line, _row(line, day)) for line in report.lines_of(TIMELINE))
    lines = [line for line, row in found if row is None or row.text != MARKS[mark]]
    return with_rows(with_lines(report, TIMELINE, lines), [mark_row(at, mark, text)])


def mark_row(at: float, mark: Mark, text: str = "") -> TimelineRow:
    return TimelineRow(at, f"{MARKS[mark]}: {text}" if text else MARKS[mark])


def moment(at: float) -> str:
    """RFC 3339."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def read_moment(text: str) -> float | None:
    """Returns UNIX seconds; None unless the text is RFC 3339 with an offset, and in UTC of the years 1 to 9999."""
    try:
        found = datetime.fromisoformat(text.replace("Z", "+00:00"))
        return found.astimezone(UTC).timestamp() if found.tzinfo is not None else None
    except (ValueError, OverflowError):
        return None


def _field_line(name: str, value: str) -> str:
    return f"**{name}:** {printable(value)}"


def _paragraph(text: str) -> str:
    """The text as a line of its own, which begins nothing: no section, and no block of code that swallows the rest."""
    line = printable(text)
    return f"\\{line}" if _STRUCTURE.match(line) else line


def _row_line(row: TimelineRow, day: str) -> str:
    at = moment(row.at)
    when = at[11:19] if at[:10] == day else f"{at[:10]} {at[11:19]}"
    return f"- {when}: {printable(row.text)}"


def _row(line: str, day: str) -> TimelineRow | None:
    match = _ROW.fullmatch(line)
    if match is None:
        return None
    time = match["time"] if match["time"].count(":") == 2 else f"{match['time']}:00"
    at = read_moment(f"{match['day'] or day}T{time}Z")
    return None if at is None else TimelineRow(at, match["text"])

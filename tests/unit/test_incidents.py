"""Reports of incidents: the runbook's template, edits by hand, timelines, and what a closed report says."""

import csv
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from portfolio_stream.errors import IncidentFolderUnusable, IncidentUnknown, ReportUnreadable, TooManyIncidents
from portfolio_stream.incidents.closing import closed, noted, opened
from portfolio_stream.incidents.evidence import IncidentEvidence, event_moments
from portfolio_stream.incidents.folder import IncidentFolder, add_line
from portfolio_stream.incidents.report import (
    IMPACT,
    TEMPLATE,
    TIMELINE,
    IncidentReport,
    TimelineRow,
    mark_row,
    marked,
    new_report,
    parsed,
    read_moment,
    rendered,
    unfilled,
    with_rows,
    with_text,
)
from portfolio_stream.incidents.timeline import MOST_ROWS, WorkerMoment, event_rows
from portfolio_stream.observe.history import Minute
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.shown import AlertChange, ShownAlert, Watched
from portfolio_stream.watch.time_slices import TimeSlice
from portfolio_stream.web.minutes import WorkerHistory
from portfolio_stream.web.verdict import Audit, ToldAnomaly

BEGAN = 1_795_996_500.0  # 2026-11-29T23:55:00Z
HOLDS = Audit(verdict="holds", records=1_234)


def a_report() -> IncidentReport:
    return new_report("High lag", "P1", "Kafka", BEGAN)


def watched(alerts: tuple[ShownAlert, ...] = (), changes: tuple[AlertChange, ...] = ()) -> Watched:
    figures = SystemFigures(at=BEGAN)
    return Watched(at=BEGAN, since=BEGAN, seconds=1, figures=figures, alerts=alerts, changes=changes)


def kafka_down(state: str = "firing", at: float = BEGAN + 12) -> AlertChange:
    return AlertChange(at=at, name="KafkaDown", priority="P0", state=state)  # type: ignore[arg-type]


FIRING = ShownAlert(
    name="KafkaDown",
    priority="P0",
    severity="critical",
    state="firing",
    since=BEGAN + 12,
    summary="No Kafka broker answers",
    section="p0-kafka-cluster-down",
)


def test_a_new_report_has_the_runbook_s_template() -> None:
    assert rendered(a_report()) == (
        "# Streaming Incident Report\n\n"
        "**Date:** 2026-11-29T23:55:00Z\n**Severity:** P1\n**Duration:** not over\n**Affected Component:** Kafka\n"
        "**Title:** High lag\n**State:** open\n\n"
        "## Timeline\n\n"
        "## Root Cause\n[Description of root cause]\n\n"
        "## Impact\n- Messages lost: not known before the incident is closed\n- Processing delay: XX minutes\n"
        "- Consumer lag: Peak at XX,XXX messages\n\n"
        "## Remediation\n[Description of fix]\n\n"
        "## Action Items\n- [ ] Increase monitoring thresholds\n- [ ] Optimize stream processing job\n"
        "- [ ] Scale infrastructure\n- [ ] Update runbook\n"
    )


def test_what_an_operator_wrote_by_hand_stays() -> None:
    """Rows without a time, sections of their own, and the lines of a section."""
    text = rendered(a_report()).replace("[Description of fix]", "We waited.\n\n    code\n\n## Costs\nTwo hours.")
    report = parsed(text.replace("## Timeline\n", "## Timeline\n- 23:56: by hand\n- a row without a time\n"))
    assert report is not None
    report = with_text(report, "Remediation", "And restarted.")
    report = with_rows(report, [TimelineRow(BEGAN + 30, "before"), TimelineRow(BEGAN + 90, "after")])
    assert ("We waited.", "", "    code", "And restarted.", "") == report.lines_of("Remediation")
    assert ("Two hours.", "") == report.lines_of("Costs")
    assert (
        "- 23:55:30: before",
        "- 23:56: by hand",
        "- a row without a time",
        "- 23:56:30: after",
        "",
    ) == report.lines_of(TIMELINE)


def test_a_report_is_read_as_it_was_written() -> None:
    report = with_rows(a_report(), [mark_row(BEGAN + 60, "mitigated", "restarted")])
    assert rendered(report) == rendered(parsed(rendered(report)) or a_report())


def test_a_timeline_goes_on_after_midnight() -> None:
    """A row of another day has its day, and comes after those of the first day."""
    report = with_rows(a_report(), [TimelineRow(BEGAN + 600, "later"), TimelineRow(BEGAN + 60, "sooner")])
    assert ("- 23:56:00: sooner", "- 2026-11-30 00:05:00: later", "") == report.lines_of(TIMELINE)
    assert BEGAN + 700 == marked(with_rows(report, [mark_row(BEGAN + 700, "restored")]), "restored")


def test_a_row_that_is_there_is_not_written_again() -> None:
    row = TimelineRow(BEGAN, "once")
    assert with_rows(a_report(), [row]) == with_rows(with_rows(a_report(), [row]), [row])


def test_a_note_takes_the_place_of_the_template_and_the_next_one_follows() -> None:
    report = with_text(with_text(a_report(), "Action Items", "Buy disks"), "Action Items", "Learn")
    assert ("- [ ] Buy disks", "- [ ] Learn", "") == report.lines_of("Action Items")


@pytest.mark.parametrize("name", ["Date", "Severity", "Title", "State"])
def test_a_file_without_a_needed_line_is_no_report(name: str) -> None:
    assert parsed(rendered(a_report()).replace(f"**{name}:**", "")) is None


def test_an_incident_begins_with_the_alert_that_fires() -> None:
    """The component is the alert's. An alert says when it fired."""
    evidence = IncidentEvidence(watched=watched((FIRING,), (kafka_down(),)), audit=HOLDS)
    report = opened("All brokers", "P0", None, None, BEGAN + 100, evidence)
    assert BEGAN + 12 == report.began
    assert "Kafka" == report.fields["Affected Component"]
    assert "holds when opened" == report.fields["Verdict"]
    assert (
        "- 23:55:12: Alert KafkaDown (P0) fires: No Kafka broker answers",
        "- 23:55:12: Incident detected",
        "",
    ) == report.lines_of(TIMELINE)


def test_an_alert_of_before_is_no_part_of_the_incident() -> None:
    """It gives no component, detects nothing, and does not delay the restoring."""
    disk = ShownAlert(
        name="DiskFilling",
        priority="P2",
        severity="warning",
        state="firing",
        since=BEGAN - 500,
        summary="A disk fills",
        section="x",
    )
    before = IncidentEvidence(watched=watched((FIRING, disk), (kafka_down(),)), audit=HOLDS)
    report = opened("All brokers", "P0", None, BEGAN, BEGAN + 20, before)
    assert BEGAN + 12 == marked(report, "detected")
    after = IncidentEvidence(watched=watched((disk,), (kafka_down("cleared", BEGAN + 40),)), audit=HOLDS)
    assert BEGAN + 40 == marked(closed(report, BEGAN + 90, after)[0], "restored")


def test_a_closed_report_counts_its_times() -> None:
    """The alert's last clearing restored the service, unless somebody noted when."""
    alerts = (kafka_down("cleared", BEGAN + 200), kafka_down())
    before = IncidentEvidence(watched=watched((FIRING,), alerts[1:]), audit=HOLDS)
    report = with_rows(
        opened("All brokers", "P0", None, BEGAN, BEGAN + 20, before), [mark_row(BEGAN + 90, "mitigated", "started")]
    )
    done, minutes = closed(report, BEGAN + 900, IncidentEvidence(watched=watched(changes=alerts), audit=HOLDS))
    assert 4 == minutes
    assert not done.is_open
    assert "4 minutes" == done.fields["Duration"]
    assert "detected after 12 s, mitigated after 1 min 30 s, restored after 3 min 20 s" == done.fields["Times"]
    assert "holds when opened, holds when closed" == done.fields["Verdict"]
    assert "- Messages lost: None (exactly-once holds: 1,234 records compared)" in done.lines_of(IMPACT)
    assert not set(done.lines_of(IMPACT)) & set(TEMPLATE[IMPACT])


def test_a_report_says_what_could_not_be_gathered() -> None:
    """Without watcher, workers and auditor the report is written all the same."""
    nothing = IncidentEvidence(watched=None, audit=Audit(verdict="not audited"), missing=("Alerts: nobody answers.",))
    done, _ = closed(opened("x", "P2", None, None, BEGAN, nothing), BEGAN + 5, nothing)
    text = rendered(done)
    assert "Not gathered. Alerts: nobody answers\n" in text
    assert "not known (the auditor says: not audited). Run `portfolio-stream verify`" in text
    assert "Consumer lag: not known" in text


@pytest.mark.parametrize(
    ("seen", "row"),
    [
        (watched((FIRING,), (kafka_down(),)), "- 23:56:40: Incident closed: KafkaDown fires still"),
        (None, "- 23:56:40: Incident closed: no watcher says whether an alert fires"),
    ],
)
def test_a_report_never_says_restored_while_an_alert_fires(seen: Watched | None, row: str) -> None:
    """Nor while nobody knows. A mark that comes later completes the times."""
    evidence = IncidentEvidence(watched=seen, audit=HOLDS)
    done, minutes = closed(opened("x", "P0", None, BEGAN, BEGAN + 20, evidence), BEGAN + 100, evidence)
    assert 2 == minutes
    assert "Service restored" not in rendered(done)
    assert row in done.lines_of(TIMELINE)
    assert done.fields["Times"].endswith("closed after 1 min 40 s (not restored)")
    later = noted(done, BEGAN + 290, "restored", "brokers started")
    assert later.fields["Times"].endswith("restored after 4 min 50 s")
    assert "5 minutes" == later.fields["Duration"]


def test_a_mark_takes_the_place_of_a_row_that_a_command_made() -> None:
    """There is one detection, and the times of a closed report follow. Every mark has its time."""
    evidence = IncidentEvidence(watched=watched((), (kafka_down("cleared", BEGAN + 200),)), audit=HOLDS)
    done, _ = closed(opened("x", "P0", None, BEGAN, BEGAN + 100, evidence), BEGAN + 900, evidence)
    done = noted(noted(done, BEGAN + 5, "detected", "pager"), BEGAN + 60, "identified", "broker disk full")
    assert 1 == rendered(done).count("Incident detected")
    assert "detected after 5 s, identified after 1 min 0 s, restored after 3 min 20 s" == done.fields["Times"]
    assert ("broker disk full", "") == done.lines_of("Root Cause")
    assert ("restarted", "") == noted(a_report(), BEGAN, "mitigated", "restarted").lines_of("Remediation")


def test_a_closed_report_has_no_line_of_the_template() -> None:
    """A section that nobody filled says so, until somebody does. What an operator changed stays."""
    evidence = IncidentEvidence(watched=watched(), audit=HOLDS)
    report = parsed(rendered(a_report()).replace("- [ ] Update runbook", "- [x] Update runbook"))
    assert report is not None
    done, _ = closed(report, BEGAN + 60, evidence)
    assert not {line for lines in TEMPLATE.values() for line in lines} & set(rendered(done).splitlines())
    assert ("- [x] Update runbook", "") == done.lines_of("Action Items")
    assert ["root-cause", "remediation"] == unfilled(done)
    assert ("a cause", "") == with_text(done, "Root Cause", "a cause").lines_of("Root Cause")


@pytest.mark.parametrize(
    ("known_seconds", "lag"),
    [
        (0.0, "- Consumer lag: not known"),
        (20.0, "- Consumer lag: Peak at 0 messages, and not known for 40 s"),
        (59.0, "- Consumer lag: Peak at 0 messages"),
    ],
)
def test_a_lag_that_nobody_knew_is_not_zero(known_seconds: float, lag: str) -> None:
    slices = (TimeSlice(at=int(BEGAN), seconds=60.0, lag_seconds=known_seconds),)
    evidence = IncidentEvidence(watched=watched(), audit=HOLDS, slices=slices)
    done, _ = closed(a_report(), BEGAN + 60, evidence)
    assert lag in done.lines_of(IMPACT)


def test_a_delay_of_milliseconds_is_not_zero() -> None:
    minute = Minute(at=int(BEGAN), seconds=60.0, lag=3, lag_seconds=0.02)
    history = WorkerHistory(worker="w1", process="p", latency_bounds=(0.1,), minutes=(minute,))
    evidence = IncidentEvidence(watched=watched(), audit=HOLDS, histories=(history,))
    done, _ = closed(a_report(), BEGAN + 60, evidence)
    assert "- Processing delay: less than a second" in done.lines_of(IMPACT)


def test_a_violation_is_in_the_report() -> None:
    audit = Audit(verdict="violated", anomalies=(ToldAnomaly("unexpected-output", "partition 3 offset 7"),))
    evidence = IncidentEvidence(watched=watched(), audit=audit)
    done, _ = closed(opened("x", "P0", None, None, BEGAN, evidence), BEGAN + 5, evidence)
    assert "exactly-once is violated: unexpected-output partition 3 offset 7" in rendered(done)


def test_a_timeline_is_bounded_and_keeps_the_errors() -> None:
    """Eight partitions that recover at once are one row."""
    events = [
        WorkerMoment(at=BEGAN + at, worker="w1", level="info", action="slow", text="") for at in range(0, 30_000, 60)
    ]
    events.append(WorkerMoment(at=BEGAN + 499, worker="w1", level="error", action="fold failed", text="partition=3"))
    events += [WorkerMoment(at=BEGAN, worker="w2", level="warning", action="recovered", text="") for _ in range(8)]
    rows, more = event_rows(events, BEGAN, BEGAN + 40_000)
    assert (MOST_ROWS, 302) == (len(rows), more)
    assert TimelineRow(BEGAN + 499, "w1: fold failed partition=3") in rows
    assert TimelineRow(BEGAN, "w2: recovered (8 times within a minute)") in rows
    assert ([], 0) == event_rows(events, BEGAN + 50_000, BEGAN + 60_000)


def test_the_events_of_a_worker_become_rows() -> None:
    """A range of offsets and several partitions are arrays in a worker's answer. Another answer gives none."""
    event = {
        "sequence": 7,
        "time": "2026-11-29T23:55:00.250Z",
        "level": "error",
        "action": "fold failed",
        "fields": {"partition": 3, "offsets": [1, 9], "try": 0, "error": None},
    }
    answer = {"events": [event], "next": 7, "process": "x", "worker": "w1"}
    assert [
        WorkerMoment(
            at=BEGAN + 0.25,
            worker="w1",
            level="error",
            action="fold failed",
            text="partition=3 offsets=1,9 try=0 error=None",
        )
    ] == list(event_moments(answer))
    assert [] == list(event_moments({"events": [{"time": "soon"}]})) == list(event_moments(None))


def test_two_incidents_of_one_minute_have_files_of_their_own(tmp_path: Path) -> None:
    folder = IncidentFolder(tmp_path / "incidents")
    with folder.locked():
        for _ in range(11):
            folder.write(folder.new_id(BEGAN), a_report())
    expected = ["20261129-2355", *(f"20261129-2355-{number}" for number in range(2, 12))]
    assert expected == list(reversed(folder.ids()))
    assert rendered(a_report()) == folder.text("20261129-2355-11")


def test_a_minute_without_a_free_id_says_to_wait(tmp_path: Path) -> None:
    """Another folder or more rights would not help."""
    folder = IncidentFolder(tmp_path)
    for _ in range(99):
        folder.file(folder.new_id(BEGAN)).touch()
    with pytest.raises(TooManyIncidents, match="next minute"):
        folder.new_id(BEGAN)


def test_a_table_that_cannot_be_written_names_its_own_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IncidentFolderUnusable, match="place with --metrics"):
        add_line(tmp_path / "file" / "x.csv", BEGAN, "P1", "x", 1)


@pytest.mark.parametrize("name", ["20261129-2355", "../../etc/passwd", "", "x" * 5_000])
def test_an_unknown_id_reads_no_other_file(tmp_path: Path, name: str) -> None:
    with pytest.raises(IncidentUnknown):
        IncidentFolder(tmp_path).text(name)


def test_a_broken_report_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "streaming-incident-20261129-2355.md").write_text("# nothing\n")
    with pytest.raises(ReportUnreadable, match="20261129-2355"):
        IncidentFolder(tmp_path).read("20261129-2355")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(IncidentFolderUnusable, match="file"), IncidentFolder(tmp_path / "file" / "x").locked():
        pass


@pytest.mark.parametrize("before", ["", "Mon Nov 30,P1,High Consumer Lag,45\n", "Mon Nov 30,P1,High Consumer Lag,45"])
def test_a_line_of_the_table_has_the_runbook_s_columns(tmp_path: Path, before: str) -> None:
    """Lines that the runbook's `echo` wrote stay, also one without its line end."""
    table = tmp_path / "metrics" / "streaming-incidents.csv"
    table.parent.mkdir()
    table.write_text(before)
    for title in ('Lag, "high"', "Disk"):
        add_line(table, BEGAN, "P1", title, 45)
    rows = list(csv.reader(table.read_text().splitlines()))
    assert [
        ["2026-11-29T23:55:00Z", "P1", 'Lag, "high"', "45"],
        ["2026-11-29T23:55:00Z", "P1", "Disk", "45"],
    ] == rows[bool(before) :]


@pytest.mark.parametrize("title", ["=1+1", "+1", "-1", "@x", '=HYPERLINK("http://x","y")'])
def test_a_spreadsheet_reads_no_formula_in_the_table(tmp_path: Path, title: str) -> None:
    add_line(tmp_path / "table.csv", BEGAN, "P1", title, 45)
    (row,) = csv.reader((tmp_path / "table.csv").read_text().splitlines())
    assert ["2026-11-29T23:55:00Z", "P1", f"'{title}", "45"] == row


def test_a_line_that_does_not_fit_leaves_the_table_as_it_was(tmp_path: Path) -> None:
    """Neither does a part of the line stay."""
    table = tmp_path / "table.csv"
    add_line(table, BEGAN, "P1", "first", 45)
    before, limits = table.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) + 5, limits[1]))
    try:
        with pytest.raises(IncidentFolderUnusable, match="too large"):
            add_line(table, BEGAN, "P1", "second", 45)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before == table.read_bytes()


@pytest.mark.parametrize("text", ["## Timeline", "# x", "```", "~~~", "| a | b |", "---", "==="])
def test_a_note_begins_no_section_and_no_block(text: str) -> None:
    """Markdown shows the text itself."""
    report = parsed(rendered(with_text(a_report(), "Root Cause", text)))
    assert report is not None
    assert list(TEMPLATE) == [section.heading for section in report.sections]
    assert (f"\\{text}", "") == report.lines_of("Root Cause")


@pytest.mark.parametrize("text", ["- a step", "**bold**", "a # b"])
def test_a_note_stays_as_it_was_typed(text: str) -> None:
    assert (text, "") == with_text(a_report(), "Root Cause", text).lines_of("Root Cause")


def test_a_second_section_with_the_same_heading_stays_as_it_is() -> None:
    """An operator may have written it by hand."""
    report = parsed(rendered(a_report()) + "\n## Timeline\nmine\n")
    assert report is not None
    text = rendered(with_rows(report, [TimelineRow(BEGAN, "a row")]))
    assert 1 == text.count("a row")
    assert text.endswith("## Timeline\nmine\n")


def test_a_stranger_s_text_stays_in_its_line() -> None:
    """The auditor's details and the fields of the head have no line ends."""
    audit = Audit(verdict="violated", anomalies=(ToldAnomaly("x", "a\n## Timeline"),))
    evidence = IncidentEvidence(watched=watched(), audit=audit)
    report = new_report("a\n## Timeline", "P1", "b\n**State:** closed", BEGAN)
    text = rendered(closed(report, BEGAN + 5, evidence)[0])
    assert 1 == sum(line == "## Timeline" for line in text.splitlines())
    assert "a\\n## Timeline" == (parsed(text) or report).title


@pytest.mark.parametrize("text", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_a_moment_outside_the_years_of_utc_is_none(text: str) -> None:
    assert read_moment(text) is None


def test_incidents_that_are_opened_at_once_have_reports_of_their_own(tmp_path: Path) -> None:
    """Each writer holds the folder's lock by a descriptor of its own, as processes do."""

    def write(number: int) -> str:
        folder = IncidentFolder(tmp_path / "incidents")
        with folder.locked():
            found = folder.new_id(BEGAN)
            folder.write(found, new_report(f"title {number}", "P1", "Kafka", BEGAN))
        return found

    with ThreadPoolExecutor(10) as threads:
        found = list(threads.map(write, range(10)))
    folder = IncidentFolder(tmp_path / "incidents")
    assert [f"title {number}" for number in range(10)] == [folder.read(one).title for one in found]

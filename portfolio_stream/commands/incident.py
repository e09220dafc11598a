"""portfolio-stream incident: a report for each incident, by the template of docs/runbook.md."""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from portfolio_stream.commands.common import OutputFormat, bootstrap_option, output_option, read_settings, run
from portfolio_stream.commands.output import note as remark
from portfolio_stream.commands.output import print_columns, print_json, print_line, print_lines
from portfolio_stream.errors import shortened

F = TypeVar("F", bound=Callable[..., Any])

FOLDER = Path("incidents")
METRICS = Path("metrics/streaming-incidents.csv")
COLUMNS = ("ID", "PRIORITY", "STATE", "DATE", "DURATION", "TITLE")
LONGEST_TITLE = 200  # characters
LONGEST_NOTE = 2_000
PRIORITIES = ("P0", "P1", "P2", "P3")
MOST_DAYS = 30  # what happened before is no incident to note now: the watcher forgets its minutes, too
AHEAD_SECONDS = 60.0  # two machines' clocks may differ by less


class LineType(click.ParamType):
    """One line of text that is not empty."""

    name = "text"

    def __init__(self, longest: int) -> None:
        self._longest = longest

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        text: str = value.strip()
        if not text:
            self.fail("The text is empty.", param, ctx)
        if len(text) > self._longest:
            self.fail(f"The text has {len(text):,} characters, and {self._longest:,} are the most.", param, ctx)
        if not text.isprintable():
            self.fail("The text has a line end or another control character.", param, ctx)
        return text


class SinceType(click.ParamType):
    """A moment (RFC 3339 with its offset), or a time before now such as 10m. The value is in UNIX seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        from portfolio_stream.incidents.report import read_moment
        from portfolio_stream.setting_values import duration_setting

        now = time.time()
        at: float | None
        try:
            at = now - duration_setting(0, math.inf).read(value)
        except ValueError:
            at = read_moment(value)
        if at is None:
            self.fail(f"{shortened(value)} is no time such as 10m or 2026-11-30T05:00:00Z.", param, ctx)
        if at < now - MOST_DAYS * 86_400:
            self.fail(f"{shortened(value)} is more than {MOST_DAYS} days ago.", param, ctx)
        if at > now + AHEAD_SECONDS:
            self.fail(f"{shortened(value)} is in the future.", param, ctx)
        return at


def folder_option(command: F) -> F:
    return click.option(
        "--folder",
        type=click.Path(file_okay=False, path_type=Path),
        default=FOLDER,
        show_default=True,
        help="The folder of the reports.",
    )(command)


@click.group()
def incident() -> None:
    """Write a report of an incident: filled in with alerts, events of the workers, durations, lag and verdict.

    A report is a Markdown file. You may edit it by hand at any time: the commands keep what you write. Times are UTC.
    """


@incident.command("open")
@click.argument("title", type=LineType(LONGEST_TITLE))
@click.option("--priority", type=click.Choice(PRIORITIES), required=True)
@click.option("--component", type=LineType(LONGEST_TITLE), help="Default: the one of the alerts that fire.")
@click.option(
    "--since",
    type=SinceType(),
    metavar="TIME",
    help="When the incident began: such as 10m (ago), or 2026-11-30T05:00:00Z. Default: when the first alert that "
    "fires now began to fire, or else now.",
)
@folder_option
@bootstrap_option
@output_option
def open_incident(
    title: str,
    priority: Any,
    component: str | None,
    since: float | None,
    folder: Path,
    bootstrap_servers: str | None,
    output: OutputFormat,
) -> None:
    """Begin a report. Prints its id and its file."""
    from portfolio_stream.incidents.closing import opened
    from portfolio_stream.incidents.evidence import looked
    from portfolio_stream.incidents.folder import IncidentFolder

    evidence = run(looked(read_settings(bootstrap_servers=bootstrap_servers)))
    for sentence in evidence.missing:
        remark(f"{sentence.rstrip('.')}.")
    now = time.time()
    report = opened(title, priority, component, since, now, evidence)
    reports = IncidentFolder(folder)
    with reports.locked():
        found = reports.new_id(now)
        path = reports.write(found, report)
    if output == "json":
        print_json({"id": found, "file": str(path)})
    else:
        print_line(f"{found} is open: {path}")


@incident.command()
@click.argument("incident_id", metavar="ID")
@click.argument("text", type=LineType(LONGEST_NOTE))
@click.option(
    "--mark",
    type=click.Choice(["detected", "investigated", "identified", "mitigated", "restored"]),
    help="What happened now, or at --at. The report says how long it took until then. The text of `identified` also "
    "goes to root-cause, and that of `mitigated` to remediation.",
)
@click.option(
    "--section",
    type=click.Choice(["root-cause", "impact", "remediation", "action-items"]),
    help="Write the text into this section alone. Default: into the timeline.",
)
@click.option("--at", type=SinceType(), metavar="TIME", help="When it happened: such as 10m (ago). Default: now.")
@folder_option
@output_option
def note(
    incident_id: str, text: str, mark: Any, section: str | None, at: float | None, folder: Path, output: OutputFormat
) -> None:
    """Add a line to a report, also to a closed one."""
    from portfolio_stream.incidents.closing import noted
    from portfolio_stream.incidents.folder import IncidentFolder
    from portfolio_stream.incidents.report import DURATION, FILLED, TimelineRow, with_rows, with_text

    if section is not None and (mark is not None or at is not None):
        raise click.UsageError("--mark and --at are for the timeline, and --section names another section.")
    when = time.time() if at is None else at
    reports = IncidentFolder(folder)
    reports.text(incident_id)  # an id that is wrong makes no folder
    with reports.locked():
        report = reports.read(incident_id)
        before = report.fields.get(DURATION)
        if section is not None:
            report = with_text(report, FILLED[section], text)
        elif mark is not None:
            report = noted(report, when, mark, text)
        else:
            report = with_rows(report, [TimelineRow(when, text)])
        path = reports.write(incident_id, report)
    if report.fields.get(DURATION) != before:
        remark(
            f"Its duration was {before} and is {report.fields[DURATION]}: correct its line in the table of incidents."
        )
    if output == "json":
        print_json({"id": incident_id, "file": str(path)})
    else:
        print_line(f"Noted in {path}")


@incident.command()
@click.argument("incident_id", metavar="ID")
@click.option(
    "--metrics",
    type=click.Path(dir_okay=False, path_type=Path),
    default=METRICS,
    show_default=True,
    help="The table of closed incidents: date, priority, title, minutes.",
)
@folder_option
@bootstrap_option
@output_option
def close(incident_id: str, metrics: Path, folder: Path, bootstrap_servers: str | None, output: OutputFormat) -> None:
    """Complete a report, and add a line to the table of incidents.

    Asks the watcher, the auditor and every worker, for half a minute at most. What nobody could tell is in the report.
    """
    from portfolio_stream.commands.doctor import quieten
    from portfolio_stream.incidents.closing import closed, not_restored, timed
    from portfolio_stream.incidents.evidence import gathered
    from portfolio_stream.incidents.folder import IncidentFolder
    from portfolio_stream.incidents.report import marked, unfilled
    from portfolio_stream.watch.words import listed

    reports = IncidentFolder(folder)
    evidence = None
    if reports.unclosed(incident_id).is_open:
        quieten()
        evidence = run(gathered(read_settings(bootstrap_servers=bootstrap_servers)))
        for sentence in evidence.missing:
            remark(f"{sentence.rstrip('.')}.")
    with reports.locked():
        report = reports.unclosed(incident_id)  # another command may have been faster
        if evidence is not None and report.is_open:
            done, minutes = closed(report, time.time(), evidence)
        else:  # an earlier `close` was ended before the table had the line
            done, minutes = timed(report)
        path = reports.close(incident_id, done, metrics, minutes, is_repeated=report.is_closing)
    if evidence is not None and marked(done, "restored") is None:
        reason = not_restored(evidence, done.began)
        remark(f"The report does not say that the service is restored: {reason}. Note it with --mark restored.")
    if empty := unfilled(done):
        remark(f"Nobody noted {listed(empty)}: `portfolio-stream incident note {incident_id} TEXT --section NAME`.")
    if output == "json":
        print_json({"id": incident_id, "file": str(path), "minutes": minutes, "metrics": str(metrics)})
    else:
        print_line(f"{incident_id} is closed after {minutes} min: {path}, and a line in {metrics}")


@incident.command("list")
@folder_option
@output_option
def list_incidents(folder: Path, output: OutputFormat) -> None:
    """List the incidents, the newest first."""
    from portfolio_stream.errors import IncidentFolderUnusable, IncidentUnknown, ReportUnreadable
    from portfolio_stream.incidents.folder import IncidentFolder
    from portfolio_stream.incidents.report import DATE, DURATION, NAME, SEVERITY, STATE

    reports = IncidentFolder(folder)
    rows = []
    for found in reports.ids():
        try:
            fields = reports.read(found).fields
        except (ReportUnreadable, IncidentFolderUnusable, IncidentUnknown) as error:
            remark(str(error))
            continue
        rows.append((found, *(fields.get(name, "-") for name in (SEVERITY, STATE, DATE, DURATION, NAME))))
    if output == "json":
        print_json([dict(zip(map(str.lower, COLUMNS), row, strict=True)) for row in rows])
    elif rows:
        print_columns(COLUMNS, rows)
    else:
        print_line(f"There is no incident in {folder}. `portfolio-stream incident open` begins one.")


@incident.command()
@click.argument("incident_id", metavar="ID")
@folder_option
@output_option
def show(incident_id: str, folder: Path, output: OutputFormat) -> None:
    """Print a report. As JSON: its text, and the lines of its head by name."""
    from portfolio_stream.incidents.folder import IncidentFolder
    from portfolio_stream.incidents.report import parsed

    reports = IncidentFolder(folder)
    text = reports.text(incident_id)
    if output == "json":
        report = parsed(text)
        fields = {} if report is None else {name.lower(): value for name, value in report.fields.items()}
        print_json({"id": incident_id, "file": str(reports.file(incident_id)), "fields": fields, "text": text})
    else:
        print_lines(text.splitlines())

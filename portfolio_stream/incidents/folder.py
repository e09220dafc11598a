"""The reports of a folder: one file each, `streaming-incident-YYYYMMDD-HHMM.md`, and the table of all closed ones.

The id is the file's date, with `-2` and so on for more incidents of the same minute. A file is never seen half written,
and two commands never change one at the same time.

An incident is closed in three steps: its complete report has the state `closing`, the table gets its line, the state is
`closed`. After a kill between two steps, another `close` does what is left. The incident's line is not added again.
"""

import csv
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO, StringIO
from pathlib import Path

from portfolio_stream.errors import (
    IncidentClosed,
    IncidentFolderUnusable,
    IncidentUnknown,
    ReportUnreadable,
    TooManyIncidents,
)
from portfolio_stream.files import write_atomically
from portfolio_stream.incidents.report import CLOSING, STATE, IncidentReport, moment, parsed, rendered, with_fields

PREFIX = "streaming-incident-"
MOST_A_MINUTE = 99
FORMULA_STARTS = ("=", "+", "-", "@", "\t")  # a spreadsheet reads such a cell as a formula
ID = re.compile(r"\d{8}-\d{4}(?:-\d{1,2})?", re.ASCII)


class IncidentFolder:
    def __init__(self, path: Path) -> None:
        self.path = path

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Make the folder, and be the only command that changes a report. Raises IncidentFolderUnusable."""
        with usable(self.path):
            self.path.mkdir(parents=True, exist_ok=True)
            with (self.path / ".lock").open("ab") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield

    def file(self, incident: str) -> Path:
        return self.path / f"{PREFIX}{incident}.md"

    def new_id(self, at: float) -> str:
        """The first id of the minute that no report has. Raises TooManyIncidents."""
        stamp = moment(at)
        first = f"{stamp[:10].replace('-', '')}-{stamp[11:16].replace(':', '')}"
        ids = (first, *(f"{first}-{number}" for number in range(2, MOST_A_MINUTE + 1)))
        free = next((one for one in ids if not self.file(one).exists()), None)
        if free is None:
            raise TooManyIncidents(self.path, MOST_A_MINUTE)
        return free

    def write(self, incident: str, report: IncidentReport) -> Path:
        path = self.file(incident)
        write_atomically(path, rendered(report).encode())
        return path

    def read(self, incident: str) -> IncidentReport:
        """Raises IncidentUnknown, ReportUnreadable and IncidentFolderUnusable."""
        report = parsed(self.text(incident))
        if report is None:
            raise ReportUnreadable(self.file(incident))
        return report

    def unclosed(self, incident: str) -> IncidentReport:
        """Raises IncidentClosed too."""
        report = self.read(incident)
        if not (report.is_open or report.is_closing):
            raise IncidentClosed(incident)
        return report

    def close(self, incident: str, report: IncidentReport, table: Path, minutes: int, *, is_repeated: bool) -> Path:
        """Write the complete report and its line. `is_repeated`: an earlier call may have added the line."""
        self.write(incident, with_fields(report, {STATE: CLOSING}))
        others = self._closed_with_name_of(incident, report) if is_repeated else None
        add_line(table, report.began, report.priority, report.title, minutes, others)
        return self.write(incident, with_fields(report, {STATE: "closed"}))

    def _closed_with_name_of(self, incident: str, report: IncidentReport) -> int:
        """How many other closed incidents have lines that only their minutes tell from this one's."""
        count = 0
        for other in self.ids():
            try:
                found = self.read(other)
            except (ReportUnreadable, IncidentFolderUnusable, IncidentUnknown):
                continue
            is_named_so = (found.began, found.priority, found.title) == (report.began, report.priority, report.title)
            count += other != incident and is_named_so and not (found.is_open or found.is_closing)
        return count

    def text(self, incident: str) -> str:
        """Raises IncidentUnknown and IncidentFolderUnusable."""
        path = self.file(incident)
        if ID.fullmatch(incident) is None:
            raise IncidentUnknown(incident, self.path)
        with usable(path):
            try:
                return path.read_text(encoding="utf-8", errors="replace")
            except FileNotFoundError:
                raise IncidentUnknown(incident, self.path) from None

    def ids(self) -> list[str]:
        """The ids of all reports, the newest first."""
        names = [path.stem.removeprefix(PREFIX) for path in self.path.glob(f"{PREFIX}*.md")]
        return sorted((name for name in names if ID.fullmatch(name)), key=_by_time, reverse=True)


def _by_time(incident: str) -> tuple[str, int]:
    day, minute, *number = incident.split("-")
    return f"{day}{minute}", int(number[0]) if number else 1


@contextmanager
def usable(path: Path, option: str = "--folder") -> Iterator[None]:
    """Turn what the system refuses into IncidentFolderUnusable. `option` names another place."""
    try:
        yield
    except OSError as error:
        raise IncidentFolderUnusable(path, error.strerror or type(error).__name__, option) from error


def add_line(table: Path, began: float, priority: str, title: str, minutes: int, others: int | None = None) -> None:
    """Append a line to the table: date, priority, title, minutes, as the runbook has them.

    With `others`, only if the table has no more lines with this date, priority and title than that. Raises
    IncidentFolderUnusable, and the table is as before then.
    """
    name = _csv_line(moment(began), _cell(priority), _cell(title))
    with usable(table.parent, "--metrics"):
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("a+b", buffering=0) as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.readall()
            if others is not None and sum(line.startswith(name + b",") for line in content.split(b"\n")) > others:
                return
            gap = b"\n" if content and not content.endswith(b"\n") else b""
            _append(file, len(content), gap + name + f",{minutes}\n".encode())


def _append(file: FileIO, size: int, line: bytes) -> None:
    """Append all of the line or nothing: a full disk may take a part of it."""
    try:
        while line:
            line = line[file.write(line) :]
    except OSError:
        file.truncate(size)
        raise


def _cell(text: str) -> str:
    """The text as a spreadsheet shows it: without the apostrophe it would calculate a formula."""
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text


def _csv_line(*cells: str) -> bytes:
    line = StringIO()
    csv.writer(line, lineterminator="").writerow(cells)
    return line.getvalue().encode()

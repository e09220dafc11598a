"""The reports of a folder: one file each, `streaming-incident-YYYYMMDD-HHMM.md`, and the table of all closed ones.

The id is the file's date, with `-2` and so on for more incidents of the same minute. A file is never seen half written,
and two commands never change one at the same time.
"""

import csv
import fcntl
import re
from collections.abc import Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path

from portfolio_stream.errors import IncidentFolderUnusable, IncidentUnknown, ReportUnreadable
from portfolio_stream.files import write_atomically
from portfolio_stream.incidents.report import IncidentReport, moment, parsed, rendered

PREFIX = "streaming-incident-"
MOST_A_MINUTE = 99
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
        """The first id of the minute that no report has."""
        stamp = moment(at)
        first = f"{stamp[:10].replace('-', '')}-{stamp[11:16].replace(':', '')}"
        ids = (first, *(f"{first}-{number}" for number in range(2, MOST_A_MINUTE + 1)))
        free = next((one for one in ids if not self.file(one).exists()), None)
        if free is None:
            raise IncidentFolderUnusable(self.path, f"it has {MOST_A_MINUTE} incidents of this minute already")
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

    def text(self, incident: str) -> str:
        """Raises IncidentUnknown and IncidentFolderUnusable."""
        path = self.file(incident)
        if ID.fullmatch(incident) is None:
            raise IncidentUnknown(incident, self.path)
        with usable(self.path):
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
def usable(path: Path) -> Iterator[None]:
    """Turn what the system refuses into IncidentFolderUnusable."""
    try:
        yield
    except OSError as error:
        raise IncidentFolderUnusable(path, error.strerror or type(error).__name__) from error


def add_line(table: Path, began: float, priority: str, title: str, minutes: int) -> None:
    """Append a line to the table: date, priority, title, minutes, as the runbook has them. Raises
    IncidentFolderUnusable."""
    line = StringIO()
    csv.writer(line, lineterminator="\n").writerow((moment(began), priority, title, minutes))
    with usable(table.parent):
        table.parent.mkdir(parents=True, exist_ok=True)
        with table.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            content = file.read()
            gap = b"\n" if content and not content.endswith(b"\n") else b""
            file.write(gap + line.getvalue().encode())

"""Why a broker ended by itself, found in its log since its start. On a full disk the log may be empty."""

import re
import signal
from pathlib import Path

from portfolio_stream.broker.layout import Layout
from portfolio_stream.errors import BrokerAlreadyRunning, BrokerDied, BrokerDiskFull, PortfolioStreamError

TAIL_BYTES = 256 << 10  # a start writes about 100 KiB
LONGEST_LINE = 300  # characters of a log line that an error message repeats
LOG_LINE = re.compile(r"^\S+T\S+ (?P<level>[A-Z]+) (?P<logger>\S+) (?P<message>.*)$")
DEADLY = ("FATAL", "ERROR")
FRAME = re.compile(r"^\s+at |^\s*\.\.\. \d+ more")
CAUSE = re.compile(r"^Caused by: (?P<message>.*)$")


def why_it_died(layout: Layout, node: int, since: int, exit_code: int) -> PortfolioStreamError:
    """Returns the error that names the cause. `since` is the log's length before the broker's start (`log_length`)."""
    written = _tail(layout.log(node), since)
    printed = _tail(layout.output(node), 0)
    is_from_outside = exit_code == -signal.SIGKILL
    if "No space left on device" in written + printed or (layout.is_full() and not is_from_outside):
        return BrokerDiskFull(layout.data_dir)
    if "Failed to acquire lock on file .lock" in written:
        return BrokerAlreadyRunning(layout.data_dir, None)
    if exit_code < 0:
        return BrokerDied(node, f"it was killed by {signal.Signals(-exit_code).name}", layout.log(node))
    log = layout.log(node) if written.strip() else layout.output(node)
    return BrokerDied(node, last_meaningful_line(written, printed), log)


def log_length(layout: Layout, node: int) -> int:
    log = layout.log(node)
    return log.stat().st_size if log.exists() else 0


def last_meaningful_line(written: str, printed: str) -> str:
    """Returns the innermost cause of the last FATAL or ERROR record, or that record's message if it has no cause.

    Without such a record: the last line that the process printed, or else the last message that it logged.
    """
    lines = written.splitlines()
    records = [(at, match) for at, line in enumerate(lines) if (match := LOG_LINE.match(line))]
    deadly = [(at, match) for at, match in records if match["level"] in DEADLY]
    if deadly:
        at, record = deadly[-1]
        return _cut(_innermost_cause(lines[at + 1 :]) or record["message"])
    said = [line.strip() for line in printed.splitlines() if line.strip() and not FRAME.match(line)]
    if said:
        return _cut(said[-1])
    return _cut(records[-1][1]["message"]) if records else "it logged nothing"


def _innermost_cause(lines: list[str]) -> str | None:
    """Returns the last `Caused by` of the stack trace at the beginning of the lines, or else the trace's first line."""
    trace: list[str] = []
    for line in lines:
        if LOG_LINE.match(line):
            break
        trace.append(line)
    causes = [match["message"] for line in trace if (match := CAUSE.match(line))]
    first = next((line.strip() for line in trace if line.strip() and not FRAME.match(line)), None)
    return causes[-1] if causes else first


def _cut(line: str) -> str:
    return line if len(line) <= LONGEST_LINE else f"{line[: LONGEST_LINE - 3]}..."


def _tail(path: Path, since: int) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        start = since if since <= size else 0  # a shorter log was rolled over since then: all of it is new
        file.seek(max(start, size - TAIL_BYTES))
        return file.read().decode("utf-8", "replace")

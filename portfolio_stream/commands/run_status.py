"""Shows a run in a terminal: as a table that is kept up to date, or as a plain line every two seconds."""

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from portfolio_stream.commands.output import note, print_line
from portfolio_stream.foreign import printable

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

PLAIN_SECONDS = 2.0
LIVE_SECONDS = 1.0  # a look sends one request to each worker and a few to Kafka: a millisecond of two cores


@dataclass(frozen=True, kw_only=True, slots=True)
class ShownWorker:
    name: str
    pid: int
    address: str
    #: the partitions that the worker processes; None: the worker does not answer
    partitions: frozenset[int] | None
    restarts: int


@dataclass(frozen=True, kw_only=True, slots=True)
class RunStatus:
    #: seconds since the first worker was started
    seconds: float
    #: what the run does now, in one to four words
    phase: str
    #: source records since the start; `processed` counts those whose transaction is committed
    produced: int
    processed: int
    #: source records committed in a second
    rate: float
    #: the 99th percentile of the seconds from a record's timestamp to its commit; None without a record
    p99: float | None
    lag: int
    #: transactions committed in a second
    transactions: float
    drops: int
    halted: int
    #: whether exactly-once holds, in a few words
    verdict: str
    workers: tuple[ShownWorker, ...]


class Display(Protocol):
    interval: float

    def open(self) -> AbstractContextManager[object]: ...
    def say(self, text: str) -> None: ...
    def show(self, status: RunStatus) -> None: ...


class PlainDisplay:
    """Writes one line for each look: to stderr if a program reads stdout."""

    def __init__(self, to_stderr: bool) -> None:
        self.interval = PLAIN_SECONDS
        self._to_stderr = to_stderr

    def open(self) -> AbstractContextManager[object]:
        return nullcontext()

    def say(self, text: str) -> None:
        (note if self._to_stderr else print_line)(text)

    def show(self, status: RunStatus) -> None:
        self.say(line(status))


class TerminalDisplay:
    """Keeps a table at the bottom of the terminal. Messages scroll above the table."""

    def __init__(self) -> None:
        from rich.console import Console

        self.interval = LIVE_SECONDS
        self._console = Console(highlight=False)
        self._live: Live | None = None

    def open(self) -> AbstractContextManager[object]:
        from rich.live import Live

        self._live = Live(console=self._console, auto_refresh=False)
        return self._live

    def say(self, text: str) -> None:
        self._console.print(printable(text), markup=False, soft_wrap=True)

    def show(self, status: RunStatus) -> None:
        if self._live is not None:
            self._live.update(table(status), refresh=True)


def rows(status: RunStatus) -> list[tuple[str, str]]:
    """The name and value of each figure of the run, without the workers."""
    shown = [
        ("produced", f"{status.produced:,}"),
        ("processed", f"{status.processed:,}"),
        ("events/s", f"{status.rate:,.0f}"),
        ("p99", milliseconds(status.p99)),
        ("lag", f"{status.lag:,}"),
        ("transactions/s", f"{status.transactions:,.0f}"),
        ("drops", f"{status.drops:,}"),
        ("exactly-once", status.verdict),
    ]
    return shown if not status.halted else [*shown, ("halted partitions", f"{status.halted}: see /health/ready")]


def line(status: RunStatus) -> str:
    numbers = " ".join(f"{name}={value}" for name, value in rows(status) if name != "exactly-once")
    workers = " ".join(f"{worker.name}={_partitions(worker)}" for worker in status.workers)
    return f"{status.seconds:.0f} s, {status.phase}: {numbers} {workers}"


def table(status: RunStatus) -> "Table":
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(
        title=f"portfolio-stream: {status.phase}, {status.seconds:.0f} s", box=box.SIMPLE_HEAD, show_header=False
    )
    for name, value in rows(status):
        made.add_row(name, Text(printable(value)))
    made.add_section()
    for worker in status.workers:
        restarts = f", {worker.restarts} restarts" if worker.restarts else ""
        doing = f"partitions {_partitions(worker)}, process {worker.pid}, {worker.address}{restarts}"
        made.add_row(worker.name, Text(printable(doing)))
    return made


def milliseconds(seconds: float | None) -> str:
    return "-" if seconds is None else f"{seconds * 1000:,.0f} ms"


def ranges(numbers: Iterable[int]) -> str:
    """The numbers as text: 0-3,6 for 0, 1, 2, 3 and 6, and - for none."""
    spans: list[list[int]] = []
    for number in sorted(numbers):
        if spans and number == spans[-1][1] + 1:
            spans[-1][1] = number
        else:
            spans.append([number, number])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans) or "-"


def _partitions(worker: ShownWorker) -> str:
    return "silent" if worker.partitions is None else ranges(worker.partitions)

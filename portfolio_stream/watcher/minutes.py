"""Makes a slice of each minute from looks. Pure: no clock, no I/O.

Time that the watcher did not look is in no slice: a watcher that stood still, or did not run, has seen nothing.
"""

from dataclasses import dataclass, field

from msgspec.structs import replace

from portfolio_stream.observe.history import minute_of
from portfolio_stream.observe.rates import Counted
from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.time_slices import TimeSlice

LONGEST_GAP = 10.0  # two looks that are further apart saw nothing between them; a look ends within 4 s


@dataclass(frozen=True, kw_only=True, slots=True)
class Grown:
    """What came since the last look."""

    counted: Counted = field(default_factory=Counted)
    round_trips: int = 0
    failed_round_trips: int = 0
    checkpoints: int = 0
    failed_checkpoints: int = 0
    anomalies: int = 0
    #: the run of the auditor that found them
    audit_run: str = ""


class MinuteSlices:
    def __init__(self) -> None:
        self._looked: float | None = None
        #: the slice of the minute that is not over, and its latencies
        self.open: TimeSlice | None = None
        self._latencies = Counted()

    def feed(self, now: float, figures: SystemFigures, grown: Grown, *, is_down: bool) -> TimeSlice | None:
        """Take a look. Returns the slice of the minute before, if that is over now. `now` is in monotonic seconds."""
        gap = 0.0 if self._looked is None else now - self._looked
        self._looked = now
        seconds = gap if 0 < gap <= LONGEST_GAP else 0.0
        at = minute_of(figures.at)
        ended = self.end() if self.open is not None and self.open.at != at else None
        self._latencies += grown.counted
        seen = TimeSlice(
            at=at,
            seconds=seconds,
            wanted_seconds=seconds if figures.is_job_wanted else 0.0,
            down_seconds=seconds if is_down else 0.0,
            lag_seconds=seconds if figures.lag is not None else 0.0,
            lagging_seconds=seconds if (figures.lag or 0) >= limit.LAG_RECORDS else 0.0,
            events=sum(grown.counted.latencies.values()),
            fast_events=fast_events(grown.counted),
            round_trips=grown.round_trips,
            failed_round_trips=grown.failed_round_trips,
            checkpoints=grown.checkpoints,
            failed_checkpoints=grown.failed_checkpoints,
            lag=figures.lag or 0,
            p99=self._latencies.latency(0.99),
            anomalies=grown.anomalies,
            anomalies_by_run={grown.audit_run: grown.anomalies} if grown.anomalies else {},
        )
        self.open = seen if self.open is None else replace(self.open + seen, p99=seen.p99)
        return ended

    def end(self) -> TimeSlice | None:
        """End the open slice, and return it."""
        ended, self.open, self._latencies = self.open, None, Counted()
        return ended


def fast_events(came: Counted) -> int:
    """Events that took LATENCY_SECONDS, a bound of the histogram, or less."""
    return sum(count for bound, count in came.latencies.items() if bound <= limit.LATENCY_SECONDS)


class JobDown:
    """Whether the job is down: a partition has not been processed for JOB_DOWN_SECONDS, and the job is to run.

    While nobody knows how many partitions are missing, it stays as it is.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self.is_down = False

    def feed(self, now: float, missing: int | None) -> bool:
        """`now` is in monotonic seconds."""
        if missing is not None:
            self._since = None if missing <= 0 else now if self._since is None else self._since
        self.is_down = self._since is not None and now - self._since > limit.JOB_DOWN_SECONDS
        return self.is_down

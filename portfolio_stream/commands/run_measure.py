"""What a run's workers have done, from their /metrics: pure sums and differences.

A process counts from its own zero, so samples are kept by process id: the last one of a killed worker stays in the
totals, and its successor begins anew beside it.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.observe.histogram import quantile
from portfolio_stream.observe.rates import WINDOW_SECONDS

PREFIX = "portfolio_stream_"
COUNTS = frozenset({"events_total", "commits_total", "drops_total", "replayed_records_total", "partitions_halted"})


class RunSample(NamedTuple):
    """One look at one worker."""

    events: int = 0
    commits: int = 0
    drops: int = 0
    replayed: int = 0
    halted: int = 0
    #: partitions that it processes now
    running: frozenset[int] = frozenset()
    latencies: tuple[tuple[float, float], ...] = ()


class RunTotals(NamedTuple):
    """The sum over all processes that ever ran."""

    events: int
    commits: int
    drops: int
    latencies: tuple[tuple[float, float], ...]


def parse(text: str) -> RunSample:
    """A worker's answer to GET /metrics; a family that is missing counts as zero."""
    counts: dict[str, int] = {}
    running: set[int] = set()
    latencies: list[tuple[float, float]] = []
    for family in text_string_to_metric_families(text):
        for name, labels, value, *_ in family.samples:
            match name.removeprefix(PREFIX):
                case "event_latency_seconds_bucket":
                    latencies.append((float(labels["le"]), value))
                case "lag_records":
                    running.add(int(labels["partition"]))
                case (
                    "events_total"
                    | "commits_total"
                    | "drops_total"
                    | "replayed_records_total"
                    | "partitions_halted" as kind
                ):
                    counts[kind] = counts.get(kind, 0) + int(value)
    return RunSample(
        events=counts.get("events_total", 0),
        commits=counts.get("commits_total", 0),
        drops=counts.get("drops_total", 0),
        replayed=counts.get("replayed_records_total", 0),
        halted=counts.get("partitions_halted", 0),
        running=frozenset(running),
        latencies=tuple(sorted(latencies)),
    )


def add(samples: Sequence[RunSample]) -> RunTotals:
    buckets: dict[float, float] = {}
    for sample in samples:
        for bound, count in sample.latencies:
            buckets[bound] = buckets.get(bound, 0) + count
    return RunTotals(
        events=sum(sample.events for sample in samples),
        commits=sum(sample.commits for sample in samples),
        drops=sum(sample.drops for sample in samples),
        latencies=tuple(sorted(buckets.items())),
    )


class RunMeter:
    """Rates over the last WINDOW_SECONDS."""

    def __init__(self) -> None:
        self._last: dict[int, RunSample] = {}
        self._looks: deque[tuple[float, int, RunTotals]] = deque()

    def feed(self, now: float, processed: int, samples: Mapping[int, RunSample]) -> None:
        """One look: source records that are committed, and a sample of each process that answered."""
        self._last |= samples
        self._looks.append((now, processed, add(tuple(self._last.values()))))
        while len(self._looks) > 2 and now - self._looks[1][0] >= WINDOW_SECONDS:
            self._looks.popleft()

    @property
    def totals(self) -> RunTotals:
        return self._looks[-1][2] if self._looks else add(())

    @property
    def events_rate(self) -> float:
        """Committed source records a second."""
        return self._rate(lambda look: look[1])

    @property
    def commits_rate(self) -> float:
        """Transactions a second."""
        return self._rate(lambda look: look[2].commits)

    @property
    def p99(self) -> float | None:
        """Seconds from a record's timestamp to its commit, of the window."""
        return quantile(0.99, self._looks[0][2].latencies, self._looks[-1][2].latencies) if self._looks else None

    @property
    def p99_of_all(self) -> float | None:
        return quantile(0.99, (), self.totals.latencies)

    def _rate(self, of: Callable[[tuple[float, int, RunTotals]], int]) -> float:
        if len(self._looks) < 2 or self._looks[-1][0] <= self._looks[0][0]:
            return 0.0
        first, last = self._looks[0], self._looks[-1]
        return max(0.0, (of(last) - of(first)) / (last[0] - first[0]))

"""Plain numbers about an engine's work. The counts only grow, so that a missed scrape of /metrics loses nothing."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

#: Upper bounds in seconds. The bounds are dense around the budgets: 50 ms from a record's timestamp to its commit, and
#: 25 ms for a commit.
LATENCY_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COMMIT_BOUNDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Histogram:
    """Counts of observations by inclusive upper bound in seconds; the last count is for those above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Count an observation. A negative one (another machine's clock was ahead) counts as zero."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times


@dataclass(slots=True)
class Statistics:
    events: int = 0
    commits: int = 0
    #: how often everything uncommitted was dropped, by reason
    drops: Counter[str] = field(default_factory=Counter)
    #: the counts of the folds, e.g. accepted, duplicate, rejected:<code>
    counts: Counter[str] = field(default_factory=Counter)
    #: from the transaction's close to the answer of EndTxn
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    #: the usual seconds of a commit; the newest commits count most, and the adaptive commit interval follows this
    usual_commit_seconds: float = 0.0
    #: the seconds of one RocksDB write
    store_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    #: events by the seconds from a record's timestamp to its commit; all of a slice count as its last record
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))
    #: how many changelog records were replayed
    replayed: int = 0
    agent_failures: int = 0

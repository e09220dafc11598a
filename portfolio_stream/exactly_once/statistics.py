"""What an engine has done, as plain numbers: they only grow, so that no scrape loses any. Read by metrics."""

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

#: upper bounds in seconds, dense around the budgets: 50 ms from a record's timestamp to its commit, 25 ms a commit
LATENCY_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COMMIT_BOUNDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Histogram:
    """Counts of seconds by upper bound (inclusive), and one more for what is above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, seconds: float, times: int = 1) -> None:
        """Below zero (another machine's clock) counts as zero."""
        seconds = max(0.0, seconds)
        self.counts[bisect_left(self.bounds, seconds)] += times
        self.sum += seconds * times


@dataclass(slots=True)
class Statistics:
    events: int = 0
    commits: int = 0
    #: times everything uncommitted was dropped, by reason
    drops: Counter[str] = field(default_factory=Counter)
    #: what folds counted, e.g. accepted, duplicate, rejected:<code>
    counts: Counter[str] = field(default_factory=Counter)
    #: from close to EndTxn's answer
    commit_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    #: of late; the adaptive commit interval follows it
    usual_commit_seconds: float = 0.0
    #: of one RocksDB write
    store_seconds: Histogram = field(default_factory=lambda: Histogram(COMMIT_BOUNDS))
    #: events by the time from a record's timestamp to its commit: the last record of each slice stands for it
    latencies: Histogram = field(default_factory=lambda: Histogram(LATENCY_BOUNDS))
    #: changelog records replayed
    replayed: int = 0
    agent_failures: int = 0

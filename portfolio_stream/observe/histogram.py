"""Histograms of seconds, and quantiles of the observations between two looks."""

import math
from bisect import bisect_left
from collections.abc import Sequence

#: Upper bounds in seconds. The bounds are dense around the budgets: 50 ms from a record's timestamp to its commit, and
#: 25 ms for a commit.
LATENCY_BOUNDS = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
COMMIT_BOUNDS = (0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
LOOP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: cumulative counts by upper bound in seconds; the last bound is infinite
Buckets = Sequence[tuple[float, float]]


class Histogram:
    """Counts observations by inclusive upper bound in seconds. The last count is for observations above all bounds."""

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


def quantile(share: float, before: Buckets, after: Buckets) -> float | None:
    """Returns the seconds below which `share` of the observations between two looks lie. None without an observation.

    Like Prometheus' histogram_quantile: linear within a bucket; an observation above all bounds counts as the highest
    bound.
    """
    earlier = dict(before)
    grown = [(bound, count - earlier.get(bound, 0)) for bound, count in after]
    if not grown or grown[-1][1] <= 0:
        return None
    wanted = share * grown[-1][1]
    low, below = 0.0, 0.0
    for bound, count in grown:
        if math.isinf(bound):
            return low
        if count >= wanted:
            return low + (bound - low) * (wanted - below) / (count - below) if count > below else bound
        low, below = bound, count
    return low

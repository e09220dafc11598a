"""Rates and percentiles of the last seconds, from counters that only grow.

A look reads the counters of one or more processes. The growth between two looks is a `Counted`. A `Meter` takes the
growths, and gives rates. Nothing here reads a clock.
"""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TypeVar

from portfolio_stream.observe.histogram import quantile

T = TypeVar("T")

WINDOW_SECONDS = 5.0  # long enough for a hundred commits, short enough to see a fault come and go


@dataclass(frozen=True, slots=True)
class Counted:
    """Counts of one worker or of the whole group: since the start of the process, or between two looks."""

    events: int = 0
    commits: int = 0
    rejected: int = 0
    #: how often everything uncommitted was dropped
    drops: int = 0
    #: how many events had a latency up to each upper bound in seconds, and above the bound before it. Bounds without
    #: events are included: each bound is also the lower bound of the next one
    latencies: Mapping[float, int] = field(default_factory=dict)

    def __add__(self, other: "Counted") -> "Counted":
        return self._with(other, 1)

    def since(self, before: "Counted") -> "Counted":
        return self._with(before, -1)

    def latency(self, share: float) -> float | None:
        """The seconds within which `share` of the events was committed; None without an event."""
        latencies = sorted(self.latencies.items())
        totals = accumulate(count for _, count in latencies)
        return quantile(share, (), [(bound, total) for (bound, _), total in zip(latencies, totals, strict=True)])

    def _with(self, other: "Counted", sign: int) -> "Counted":
        bounds = self.latencies.keys() | other.latencies.keys()
        return Counted(
            self.events + sign * other.events,
            self.commits + sign * other.commits,
            self.rejected + sign * other.rejected,
            self.drops + sign * other.drops,
            {bound: self.latencies.get(bound, 0) + sign * other.latencies.get(bound, 0) for bound in bounds},
        )


class Looks(deque[tuple[float, T]]):
    """What was seen in the last `seconds`, and once before: that look is where the window begins."""

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        super().__init__()
        self._seconds = seconds

    def feed(self, now: float, seen: T) -> None:
        """Take what is seen at this moment. `now` is in monotonic seconds."""
        self.append((now, seen))
        while len(self) > 2 and now - self[1][0] >= self._seconds:
            self.popleft()


class Meter:
    """Rates over the last `seconds`. The first growth is not counted: only its time is used, as the beginning."""

    def __init__(self, seconds: float = WINDOW_SECONDS) -> None:
        self._looks = Looks[Counted](seconds)

    def feed(self, now: float, came: Counted) -> None:
        """Take `came`, the growth since the last look. `now` is in monotonic seconds."""
        self._looks.feed(now, came)

    def rate(self, of: Callable[[Counted], int]) -> float | None:
        """Returns how much the figure `of` grew in a second; None until there are two looks."""
        if len(self._looks) < 2:
            return None
        return sum(of(came) for came in self._in_window()) / (self._looks[-1][0] - self._looks[0][0])

    def latency(self, share: float) -> float | None:
        """The seconds within which `share` of the window's events was committed; None without an event."""
        return sum(self._in_window(), Counted()).latency(share)

    def _in_window(self) -> list[Counted]:
        return [came for _, came in self._looks][1:]

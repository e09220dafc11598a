"""How far a replay is: offsets done and remaining, the rate, and the seconds left. Values and arithmetic, no I/O.

Progress is the fetch position. Compaction, markers and aborted records leave gaps between offsets. So "records" here
are offsets: there are at most so many records.
"""

from collections import deque
from collections.abc import Collection, Mapping
from typing import NamedTuple

WINDOW_SECONDS = 5.0  # the moving rate: long enough to level fetches out, short enough to see a broker stall


class Remaining(NamedTuple):
    """The progress of one partition's replay, or of several together."""

    #: records that are replayed since the recovery of the partition began
    done: int
    #: records up to the end that the replay wants to reach
    remaining: int

    @property
    def percent(self) -> int:
        whole = self.done + self.remaining
        return 100 if whole == 0 else 100 * self.done // whole


class Replays(NamedTuple):
    """The replays that run at one moment."""

    by_partition: Mapping[int, Remaining]
    #: of all of them together
    records_per_second: float
    #: until all of them are at their ends, at the present rate; None if nothing moves
    seconds_left: float | None

    @property
    def total(self) -> Remaining:
        every = self.by_partition.values()
        return Remaining(sum(one.done for one in every), sum(one.remaining for one in every))


NO_REPLAYS = Replays({}, 0.0, 0.0)


class ReplayProgress:
    """Takes note of what replays do. `now` is in monotonic seconds everywhere."""

    def __init__(self) -> None:
        #: first offset, position and end, by partition
        self._spans: dict[int, tuple[int, int, int]] = {}
        #: moments, and how many records all replays had done by then since the process began
        self._samples: deque[tuple[float, int]] = deque()
        self._done = 0

    def forget(self, partitions: Collection[int]) -> None:
        """The replay of `partitions` has ended, or a new one begins."""
        for partition in partitions:
            self._spans.pop(partition, None)
        if not self._spans:
            self._samples.clear()

    def begin(self, partition: int, position: int, end: int, now: float) -> None:
        """A replay begins, or goes on after an interruption with an end that has moved."""
        first, _, _ = self._spans.get(partition, (position, position, end))
        self._spans[partition] = (min(first, position), position, end)  # lower: the store was wiped meanwhile
        if not self._samples:
            self._samples.append((now, self._done))

    def reach(self, partition: int, position: int, now: float) -> None:
        first, before, end = self._spans[partition]
        self._spans[partition] = (first, position, end)
        self._done += max(0, position - before)
        self._samples.append((now, self._done))
        while len(self._samples) > 2 and now - self._samples[1][0] >= WINDOW_SECONDS:
            self._samples.popleft()

    def now(self, now: float) -> Replays:
        by_partition = {
            partition: Remaining(position - first, max(0, end - position))
            for partition, (first, position, end) in self._spans.items()
        }
        rate = self._rate(now)
        remaining = sum(one.remaining for one in by_partition.values())
        seconds_left = 0.0 if remaining == 0 else remaining / rate if rate > 0 else None
        return Replays(by_partition, rate, seconds_left)

    def _rate(self, now: float) -> float:
        """Records in a second, over the last WINDOW_SECONDS, of all replays together."""
        if not self._samples:
            return 0.0
        since, done = self._samples[0]
        return (self._done - done) / (now - since) if now > since else 0.0

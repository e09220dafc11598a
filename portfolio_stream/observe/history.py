"""A worker's last hours, minute by minute, and the minutes of several workers as those of their group.

1. The pulse looks once a second. A look only compares the lag: nothing is added up before a minute ends.
2. A minute begins at a multiple of 60 UNIX seconds, so the minutes of all workers can be laid over each other.
3. The newest minute is not over yet: its `seconds` say how long it has been.
4. The history dies with its process, and its memory is bounded.
"""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate, chain
from typing import Annotated, NamedTuple

import msgspec

from portfolio_stream.decoding import WireCount
from portfolio_stream.observe.histogram import quantile
from portfolio_stream.observe.statistics import Statistics

MINUTE_SECONDS = 60
KEPT_MINUTES = 720  # 12 hours: a night, in 0.4 to 0.8 MB
INFINITE = float("inf")
#: any process may answer in a worker's place: what takes longer than 300 years is no figure
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]


class Minute(msgspec.Struct, frozen=True, kw_only=True):
    """What one worker did in a minute."""

    #: UNIX seconds of its beginning, by the worker's clock
    at: WireCount
    #: how long the worker has watched it, at most 60
    seconds: Seconds
    #: source records whose transaction is committed
    events: WireCount = 0
    commits: WireCount = 0
    rejected: WireCount = 0
    #: how often everything uncommitted was dropped
    drops: WireCount = 0
    #: events by the upper bound of their latency, and at the end those above all bounds; empty without an event
    latency_counts: tuple[WireCount, ...] = ()
    #: the most records that the worker's partitions were behind together; None: the worker had no partition
    lag: WireCount | None = None
    #: the most seconds that one of them was behind; None: unknown
    lag_seconds: Seconds | None = None


class GroupMinute(msgspec.Struct, frozen=True, kw_only=True):
    """What several workers did in the same minute."""

    at: int
    #: of the worker that has watched longest
    seconds: float
    events: int
    commits: int
    rejected: int
    drops: int
    #: seconds from a record's timestamp to its commit; None without an event
    p50: float | None
    p99: float | None
    #: the sum of the workers' largest lags, so at least the largest lag of the group; None: unknown
    lag: int | None
    #: of the partition that was furthest behind; None: unknown
    lag_seconds: float | None


class Histories(NamedTuple):
    """The minutes of one worker, with the bounds of its latencies."""

    bounds: tuple[float, ...]
    minutes: Sequence[Minute]


class _Counts(NamedTuple):
    events: int
    commits: int
    rejected: int
    drops: int
    latencies: tuple[int, ...]


class MinuteHistory:
    """The minutes of this worker. `clock` returns UNIX seconds."""

    def __init__(self, statistics: Statistics, clock: Callable[[], float] = time.time) -> None:
        self._statistics = statistics
        self._clock = clock
        self._minutes: deque[Minute] = deque(maxlen=KEPT_MINUTES - 1)
        #: the largest ones of the minute
        self._lag: int | None = None
        self._lag_seconds: float | None = None
        self._begin(clock())

    def look(self, lag: Mapping[int, int], lag_seconds: Mapping[int, float]) -> None:
        """Take the lag of this moment, by partition. Ends the minute if its time is over."""
        now = self._clock()
        if minute_of(now) != self._at:  # also if the clock was set back: minutes with the same beginning are added up
            self._minutes.append(self._current(now))
            self._begin(now)
        if lag:
            self._lag = max(self._lag or 0, sum(lag.values()))
        if lag_seconds:
            self._lag_seconds = max(self._lag_seconds or 0.0, *lag_seconds.values())

    def minutes(self) -> list[Minute]:
        """The minutes that are kept, oldest first, with the one that has begun."""
        return [*self._minutes, self._current(self._clock())]

    def _begin(self, now: float) -> None:
        self._at, self._since = minute_of(now), now
        self._before = self._counts()
        self._lag = self._lag_seconds = None

    def _counts(self) -> _Counts:
        known = self._statistics
        return _Counts(known.events, known.commits, known.rejected, known.drops.total(), tuple(known.latencies.counts))

    def _current(self, now: float) -> Minute:
        counts, before = self._counts(), self._before
        events = counts.events - before.events
        latencies = tuple(after - was for after, was in zip(counts.latencies, before.latencies, strict=True))
        return Minute(
            at=self._at,
            seconds=round(min(max(now - self._since, 0.0), MINUTE_SECONDS), 3),
            events=events,
            commits=counts.commits - before.commits,
            rejected=counts.rejected - before.rejected,
            drops=counts.drops - before.drops,
            latency_counts=latencies if any(latencies) else (),
            lag=self._lag,
            lag_seconds=None if self._lag_seconds is None else round(self._lag_seconds, 3),
        )


def minute_of(at: float) -> int:
    """Returns the UNIX seconds at which the minute began."""
    return int(at) // MINUTE_SECONDS * MINUTE_SECONDS


def merged(workers: Iterable[Histories]) -> Iterator[GroupMinute]:
    """Yields the newest KEPT_MINUTES minutes of the workers together, oldest first."""
    by_minute: dict[int, list[tuple[tuple[float, ...], Minute]]] = {}
    for worker in workers:
        for minute in worker.minutes:
            by_minute.setdefault(minute.at, []).append((worker.bounds, minute))
    for at in sorted(by_minute)[-KEPT_MINUTES:]:
        yield _together(at, by_minute[at])


def _together(at: int, parts: Sequence[tuple[tuple[float, ...], Minute]]) -> GroupMinute:
    minutes = [minute for _, minute in parts]
    lags = [minute.lag for minute in minutes if minute.lag is not None]
    latencies = _cumulative(parts)
    return GroupMinute(
        at=at,
        seconds=max(minute.seconds for minute in minutes),
        events=sum(minute.events for minute in minutes),
        commits=sum(minute.commits for minute in minutes),
        rejected=sum(minute.rejected for minute in minutes),
        drops=sum(minute.drops for minute in minutes),
        p50=_rounded(quantile(0.5, (), latencies)),
        p99=_rounded(quantile(0.99, (), latencies)),
        lag=sum(lags) if lags else None,
        lag_seconds=max((one.lag_seconds for one in minutes if one.lag_seconds is not None), default=None),
    )


def _cumulative(parts: Sequence[tuple[tuple[float, ...], Minute]]) -> list[tuple[float, int]]:
    """The counts of all parts by upper bound. Workers of another version may have other bounds."""
    counts: dict[float, int] = {}
    for bounds, minute in parts:
        for bound, count in zip(chain(bounds, (INFINITE,)), minute.latency_counts, strict=False):
            counts[bound] = counts.get(bound, 0) + count
    ordered = sorted(counts)
    return list(zip(ordered, accumulate(counts[bound] for bound in ordered), strict=True))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)

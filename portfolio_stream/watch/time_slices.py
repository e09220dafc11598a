"""A minute of the whole system, for objectives and error budgets. Slices add up to any window."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter

import msgspec

from portfolio_stream.watch.thresholds import WINDOW_DAYS


class TimeSlice(msgspec.Struct, frozen=True, kw_only=True):
    """What the watcher saw in one minute, or in several slices together. Seconds are those that the watcher looked."""

    #: UNIX seconds of its beginning
    at: int
    seconds: float = 0.0
    #: seconds in which the operator wanted the job to run
    wanted_seconds: float = 0.0
    #: of these, seconds in which the job was down
    down_seconds: float = 0.0
    #: seconds in which the lag was known
    lag_seconds: float = 0.0
    #: of these, seconds with thresholds.LAG_RECORDS behind or more
    lagging_seconds: float = 0.0
    #: records that were committed
    events: int = 0
    #: of these, records that took thresholds.LATENCY_SECONDS or less
    fast_events: int = 0
    round_trips: int = 0
    #: failed or lost
    failed_round_trips: int = 0
    checkpoints: int = 0
    failed_checkpoints: int = 0
    #: the largest of the time
    lag: int = 0
    #: the largest p99 of a minute, in seconds; None without a record
    p99: float | None = None
    #: anomalies that the auditor found
    anomalies: int = 0
    #: how many of them each run of the auditor found, by the id of the run
    anomalies_by_run: Mapping[str, int] = {}

    def __add__(self, later: "TimeSlice") -> "TimeSlice":
        return _sum((self, later))


SUMMED = tuple(name for name in TimeSlice.__struct_fields__ if name not in ("at", "lag", "p99", "anomalies_by_run"))
MINUTE, HOUR = 60, 3_600
_beginning = attrgetter("at")
MINUTES_SECONDS = 3 * 86_400 + HOUR  # burn rates look back three days at most; only the budget looks further


def together(slices: Sequence[TimeSlice]) -> TimeSlice | None:
    """The slices as one; None if there is none. Takes some 0.4 us for each."""
    return _sum(slices) if slices else None


def since(slices: Sequence[TimeSlice], at: float) -> Sequence[TimeSlice]:
    """The slices that have a moment after `at`. `slices` are in the order of their beginnings."""
    return slices[bisect_right(slices, at - MINUTE, key=lambda one: one.at) :]


def thinned(slices: Sequence[TimeSlice], now: float) -> list[TimeSlice]:
    """Returns the slices in order, without those older than every budget, and one for each minute.

    Minutes that no burn rate needs any more become hours. So 30 days take 5,000 slices at most, instead of 43,200.
    Thinning what is thin already changes nothing.
    """
    kept = since(sorted(slices, key=_beginning), now - WINDOW_DAYS * 86_400)
    minutes = since(kept, now - MINUTES_SECONDS)
    older = kept[: len(kept) - len(minutes)]
    hours = [_sum(list(hour)) for _, hour in groupby(older, key=lambda one: one.at // HOUR)]
    return [*hours, *(_sum(list(minute)) for _, minute in groupby(minutes, key=_beginning))]


def _sum(slices: Sequence[TimeSlice]) -> TimeSlice:
    if len(slices) == 1:
        return slices[0]
    by_run: Counter[str] = Counter()
    for one in slices:
        if one.anomalies_by_run:
            by_run.update(one.anomalies_by_run)
    return TimeSlice(
        at=min(one.at for one in slices),
        lag=max(one.lag for one in slices),
        p99=max((one.p99 for one in slices if one.p99 is not None), default=None),
        anomalies_by_run=dict(by_run),
        **{name: sum(map(attrgetter(name), slices)) for name in SUMMED},
    )

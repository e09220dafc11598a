"""A minute of the whole system, for objectives and error budgets. Slices add up to any window."""

from collections.abc import Iterable

import msgspec


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

    def __add__(self, later: "TimeSlice") -> "TimeSlice":
        known = [one for one in (self.p99, later.p99) if one is not None]
        sums = {name: getattr(self, name) + getattr(later, name) for name in SUMMED}
        return TimeSlice(at=min(self.at, later.at), lag=max(self.lag, later.lag), p99=max(known, default=None), **sums)


SUMMED = tuple(name for name in TimeSlice.__struct_fields__ if name not in ("at", "lag", "p99"))


def together(slices: Iterable[TimeSlice]) -> TimeSlice | None:
    """The slices as one; None if there is none."""
    total: TimeSlice | None = None
    for one in slices:
        total = one if total is None else total + one
    return total

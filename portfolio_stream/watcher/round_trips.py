"""Counts the probe's round trips: a record is produced with acks=all, and read back. Pure: no clock, no I/O.

1. Each round trip has one outcome. It has `completed` if its record is read within ROUND_TRIP_SECONDS of its start.
2. It has `failed` if Kafka has not acknowledged its record by then, or if its acknowledged record is read later. So
   while no broker answers, every round trip fails.
3. It is `lost` if Kafka has acknowledged its record, and nobody could read the record for LOST_SECONDS.
4. If the process itself stood still, nobody knows what Kafka did: the round trips of that time are not counted.
"""

from collections import Counter
from dataclasses import dataclass
from itertools import count
from typing import Literal, get_args

from portfolio_stream.observe.histogram import Histogram
from portfolio_stream.watch.thresholds import LOST_SECONDS, ROUND_TRIP_SECONDS

TripOutcome = Literal["completed", "failed", "lost"]
TRIP_OUTCOMES: tuple[TripOutcome, ...] = get_args(TripOutcome)
STOOD_STILL_SECONDS = 0.5  # between two calls of `settle`, which are 0.1 s apart
BOUNDS = (0.002, 0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@dataclass(slots=True)
class _Trip:
    began: float
    acknowledged: float | None = None


class RoundTrips:
    """All times are in monotonic seconds."""

    def __init__(self) -> None:
        self._numbers = count(1)
        #: those without an outcome, the oldest first
        self._open: dict[int, _Trip] = {}
        self._settled: float | None = None
        self.outcomes: Counter[TripOutcome] = Counter(dict.fromkeys(TRIP_OUTCOMES, 0))
        #: of the records that were read
        self.seconds = Histogram(BOUNDS)

    @property
    def total(self) -> int:
        return self.outcomes.total()

    @property
    def bad(self) -> int:
        """Failed or lost."""
        return self.total - self.outcomes["completed"]

    def begin(self, now: float) -> int:
        """Returns the number of a new round trip."""
        number = next(self._numbers)
        self._open[number] = _Trip(now)
        return number

    def acknowledge(self, number: int, now: float) -> None:
        """Kafka has acknowledged the record."""
        trip = self._open.get(number)
        if trip is not None and trip.acknowledged is None:
            trip.acknowledged = now

    def read(self, number: int, now: float) -> None:
        """The record was read. After its outcome this changes nothing: a retry may have written it twice."""
        trip = self._open.pop(number, None)
        if trip is not None:
            seconds = now - trip.began
            self.seconds.observe(seconds)
            self.outcomes["completed" if seconds <= ROUND_TRIP_SECONDS else "failed"] += 1

    def settle(self, now: float) -> None:
        """Give an outcome to the round trips whose time is over."""
        before, self._settled = self._settled, now
        if before is not None and now - before > STOOD_STILL_SECONDS:
            self._open.clear()
            return
        for number, trip in list(self._open.items()):
            if trip.acknowledged is None and now - trip.began > ROUND_TRIP_SECONDS:
                self._end(number, "failed")
            elif trip.acknowledged is not None and now - trip.acknowledged > LOST_SECONDS:
                self._end(number, "lost")

    def waits(self) -> bool:
        """Whether an acknowledged record is still to be read."""
        return any(trip.acknowledged is not None for trip in self._open.values())

    def _end(self, number: int, outcome: TripOutcome) -> None:
        del self._open[number]
        self.outcomes[outcome] += 1

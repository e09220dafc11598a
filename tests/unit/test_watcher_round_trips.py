"""What the probe's round trips count as, over a clock of our own."""

from collections.abc import Mapping

from portfolio_stream.watch.thresholds import LOST_SECONDS, ROUND_TRIP_SECONDS
from portfolio_stream.watcher.round_trips import STOOD_STILL_SECONDS, RoundTrips

TICK = 0.1


class Clock:
    """A probe's round trips, settled ten times a second."""

    def __init__(self) -> None:
        self.trips = RoundTrips()
        self.ticks = 0

    @property
    def now(self) -> float:
        return self.ticks * TICK

    def begin(self) -> int:
        return self.trips.begin(self.now)

    def acknowledge(self, number: int) -> None:
        self.trips.acknowledge(number, self.now)

    def read(self, number: int) -> None:
        self.trips.read(number, self.now)

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds / TICK)):
            self.ticks += 1
            self.trips.settle(self.now)

    @property
    def outcomes(self) -> Mapping[str, int]:
        return {name: times for name, times in self.trips.outcomes.items() if times}


def test_a_record_that_is_read_in_time_completes() -> None:
    """Its seconds are in the histogram, and nothing is bad."""
    clock = Clock()
    number = clock.begin()
    clock.acknowledge(number)
    clock.wait(0.5)
    clock.read(number)
    clock.wait(LOST_SECONDS + 5)
    assert {"completed": 1} == clock.outcomes
    assert (1, 0) == (clock.trips.total, clock.trips.bad)
    assert 0.5 == clock.trips.seconds.sum
    assert not clock.trips.waits()


def test_while_nobody_acknowledges_every_round_trip_fails() -> None:
    """A second after its beginning, so the availability falls while the outage lasts."""
    clock = Clock()
    for _ in range(10):
        clock.begin()
        clock.wait(1)
    clock.wait(ROUND_TRIP_SECONDS + TICK)
    assert {"failed": 10} == clock.outcomes
    assert 10 == clock.trips.bad


def test_an_acknowledged_record_that_is_read_late_has_failed() -> None:
    """Not before it is read: until then it may be lost. It counts once."""
    clock = Clock()
    number = clock.begin()
    clock.acknowledge(number)
    clock.wait(LOST_SECONDS - 1)
    assert {} == clock.outcomes
    assert clock.trips.waits()
    clock.read(number)
    clock.wait(LOST_SECONDS + 5)
    assert {"failed": 1} == clock.outcomes


def test_an_acknowledged_record_that_nobody_can_read_is_lost() -> None:
    """A record that nobody acknowledged is never lost."""
    clock = Clock()
    clock.acknowledge(clock.begin())
    clock.begin()
    clock.wait(LOST_SECONDS + 1)
    assert {"failed": 1, "lost": 1} == clock.outcomes


def test_a_late_acknowledgement_and_a_second_copy_change_no_outcome() -> None:
    """A retry may write a record twice, and an answer may come after the outcome."""
    clock = Clock()
    late, twice = clock.begin(), clock.begin()
    clock.read(twice)
    clock.read(twice)
    clock.wait(2)
    clock.acknowledge(late)
    clock.read(late)
    clock.wait(LOST_SECONDS + 1)
    assert {"completed": 1, "failed": 1} == clock.outcomes


def test_a_record_that_is_read_without_an_acknowledgement_completes() -> None:
    """Whoever can read a record knows that Kafka has it: only the answer was lost."""
    clock = Clock()
    clock.read(clock.begin())
    assert {"completed": 1} == clock.outcomes


def test_what_happened_while_the_process_stood_still_is_not_counted() -> None:
    """A watcher that was stopped for a minute has not seen Kafka fail."""
    clock = Clock()
    clock.begin()
    clock.acknowledge(clock.begin())
    clock.wait(TICK)
    clock.ticks += round((LOST_SECONDS + STOOD_STILL_SECONDS) / TICK)
    clock.wait(LOST_SECONDS + 1)
    assert {} == clock.outcomes


def test_an_outage_of_hours_keeps_no_round_trip() -> None:
    """Those without an outcome are those of the last second."""
    clock = Clock()
    for _ in range(3_600):
        clock.begin()
        clock.wait(1)
    assert 2 >= len(clock.trips._open)

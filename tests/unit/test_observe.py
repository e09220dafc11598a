"""The figures of a worker: lag in seconds, the event loop's lag, the phases of a commit."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from portfolio_stream.observe import lag as lag_module
from portfolio_stream.observe.histogram import LOOP_BOUNDS, Histogram
from portfolio_stream.observe.lag import LagClock, records_behind
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.observe.statistics import PHASES, Laps, Statistics


@pytest.mark.parametrize(("position", "end", "behind"), [(0, 0, 0), (3, 10, 7), (10, 10, 0), (11, 10, 0)])
def test_lag_in_records(position: int, end: int, behind: int) -> None:
    """An end that was asked for before the position is no negative lag."""
    assert behind == records_behind(position, end)


class Looking:
    """A clock of lag, and the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        self._clock = LagClock()
        monkeypatch.setattr(lag_module, "time", SimpleNamespace(time=lambda: self.now))

    def __call__(self, now: float, lag: dict[int, int], last: dict[int, float] | None = None) -> dict[int, float]:
        self.now = now
        return self._clock.look(lag, last or {})


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Looking:
    return Looking(monkeypatch)


def test_lag_in_seconds_is_of_the_last_committed_record(look: Looking) -> None:
    """In a backlog the oldest uncommitted record is about as old as the last committed one."""
    assert {0: 60.0} == look(1_000.0, {0: 500}, {0: 940.0})
    assert {0: 10.0} == look(1_001.0, {0: 20}, {0: 991.0})
    assert {0: 0.0} == look(1_002.0, {0: 0}, {0: 1_001.9})


def test_an_idle_hour_is_no_lag(look: Looking) -> None:
    """What came after a look without lag is no older than that look, however old the last committed record is."""
    look(1_000.0, {0: 0}, {0: 999.0})
    look(4_600.0, {0: 0}, {0: 999.0})
    assert {0: 2.0} == look(4_602.0, {0: 3}, {0: 999.0})


def test_lag_in_seconds_may_be_unknown(look: Looking) -> None:
    """Nothing was committed here yet: absent, not zero. A clock that runs behind the producer's makes no negative."""
    assert {} == look(1_000.0, {0: 5})
    assert {0: 0.0} == look(1_001.0, {0: 5}, {0: 2_000.0})


def test_a_partition_that_comes_back_begins_anew(look: Looking) -> None:
    """Another worker may have been behind meanwhile: the last look of the former ownership says nothing."""
    look(1_000.0, {0: 0}, {0: 900.0})
    look(1_001.0, {})
    assert {0: 102.0} == look(1_002.0, {0: 4}, {0: 900.0})


class TellingHistogram(Histogram):
    """One that says when it was told something."""

    def __init__(self) -> None:
        super().__init__(LOOP_BOUNDS)
        self.is_told = asyncio.Event()

    def observe(self, seconds: float, times: int = 1) -> None:
        super().observe(seconds, times)
        self.is_told.set()


async def test_the_pulse_sees_a_loop_that_stands_still() -> None:
    """A fold that keeps the loop for 200 ms shows as a wake that is at least 100 ms late."""
    statistics = Statistics(loop_lag=(observed := TellingHistogram()))
    pulse = asyncio.create_task(Pulse(statistics, dict).run())
    await asyncio.sleep(0.01)
    time.sleep(0.25)  # noqa: ASYNC251  it is the loop that must stand still
    await observed.is_told.wait()
    pulse.cancel()
    late = dict(zip(statistics.loop_lag.bounds, statistics.loop_lag.counts, strict=False))
    assert 1 == sum(count for bound, count in late.items() if bound > 0.1)


def test_the_pulse_measures_rates() -> None:
    """Of the last five seconds; what was counted before the first look has no part in them."""
    statistics = Statistics(events=1_000_000, commits=40_000)
    pulse = Pulse(statistics, dict)
    for second in range(9):
        pulse.look(100.0 + second)
        statistics.events += 300 if second < 3 else 500
        statistics.commits += 20
    assert (500.0, 20.0) == (pulse.meter.rate(lambda came: came.events), pulse.meter.rate(lambda came: came.commits))


def test_laps_are_one_after_the_other() -> None:
    """Together they are the time from the beginning to the last one's end."""
    began = time.perf_counter()
    laps = Laps()
    for phase in PHASES[1:]:
        laps.end(phase)
    assert list(PHASES[1:]) == list(laps.seconds)
    assert 0 <= laps.total <= time.perf_counter() - began

"""The last hours by minute: of one worker, and of the group."""

import json
import time
import tracemalloc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from portfolio_stream.observe.history import (
    KEPT_MINUTES,
    Histories,
    Minute,
    MinuteHistory,
    merged,
)
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.observe.statistics import Statistics
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, listening, serving

BEGIN = 1_795_408_200  # the beginning of a minute


class Clock:
    def __init__(self) -> None:
        self.now = float(BEGIN)

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def statistics() -> Statistics:
    return Statistics(events=1_000, commits=10)


@pytest.fixture
def history(statistics: Statistics, clock: Clock) -> MinuteHistory:
    return MinuteHistory(statistics, clock)


def work(statistics: Statistics, events: int, seconds: float) -> None:
    statistics.events += events
    statistics.commits += 1
    statistics.latencies.observe(seconds, events)


def test_a_minute_has_its_own_growth(statistics: Statistics, clock: Clock, history: MinuteHistory) -> None:
    """What came before the process's first minute, and in other minutes, is not in it. Lag is the largest one."""
    history.look({0: 5, 1: 7}, {0: 0.5, 1: 2.0})
    work(statistics, 600, 0.004)
    statistics.drops["fenced"] += 1
    statistics.counts["rejected:invalid_field"] += 3
    history.look({0: 1, 1: 0}, {0: 0.1, 1: 0.0})
    clock.now += 61
    history.look({0: 0}, {0: 0.0})
    work(statistics, 40, 0.3)
    clock.now += 9
    first, second = history.minutes()
    assert (BEGIN, 60.0, 600, 1, 3, 1) == (
        first.at, first.seconds, first.events, first.commits, first.rejected, first.drops,
    )  # fmt: skip
    assert (12, 2.0, 600) == (first.lag, first.lag_seconds, first.latency_counts[0])
    assert (BEGIN + 60, 9.0, 40, 0, 0.0) == (second.at, second.seconds, second.events, second.lag, second.lag_seconds)
    assert 40 == sum(second.latency_counts)


def test_nothing_is_known_of_a_lag_without_partitions(clock: Clock, history: MinuteHistory) -> None:
    """A worker that waits for partitions has none, which is not a lag of 0."""
    history.look({}, {})
    (minute,) = history.minutes()
    assert (None, None, ()) == (minute.lag, minute.lag_seconds, minute.latency_counts)


def test_the_history_is_bounded(statistics: Statistics, clock: Clock, history: MinuteHistory) -> None:
    """It keeps the newest 12 hours, in less than a megabyte."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(KEPT_MINUTES + 50):
        for seconds in statistics.latencies.bounds:
            work(statistics, 10_000, seconds)
        clock.now += 60
        history.look({0: 100_000}, {0: 1.5})
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    minutes = history.minutes()
    assert KEPT_MINUTES == len(minutes)
    assert clock.now == minutes[-1].at
    assert all(later.at - earlier.at == 60 for earlier, later in pairwise(minutes))
    assert grown < 1_000_000


def test_a_clock_that_is_set_back_loses_nothing(statistics: Statistics, clock: Clock, history: MinuteHistory) -> None:
    """Two minutes with one beginning are added up."""
    work(statistics, 5, 0.01)
    clock.now += 60
    history.look({}, {})
    work(statistics, 6, 0.01)
    clock.now -= 60
    history.look({}, {})
    work(statistics, 7, 0.01)
    assert {BEGIN: 12, BEGIN + 60: 6} == {
        one.at: one.events for one in merged([Histories(statistics.latencies.bounds, history.minutes())])
    }


def minute(at: int, **figures: Any) -> Minute:
    return Minute(at=at, **{"seconds": 60.0, **figures})


def test_workers_are_laid_over_each_other() -> None:
    """Counts are sums, percentiles those of all events, the lag the sum, the lag in seconds the largest."""
    bounds = (0.1, 1.0)
    one = [minute(BEGIN, events=99, commits=3, rejected=1, latency_counts=(99, 0, 0), lag=4, lag_seconds=0.5)]
    two = [
        minute(BEGIN, seconds=20.0, events=1, drops=2, latency_counts=(0, 1, 0), lag=3, lag_seconds=2.0),
        minute(BEGIN + 60, seconds=5.0),
    ]
    both, alone = merged([Histories(bounds, one), Histories(bounds, two)])
    assert (BEGIN, 60.0, 100, 3, 1, 2) == (
        both.at, both.seconds, both.events, both.commits, both.rejected, both.drops,
    )  # fmt: skip
    assert (7, 2.0, 0.1) == (both.lag, both.lag_seconds, both.p99)
    assert (5.0, None, None, None) == (alone.seconds, alone.p50, alone.p99, alone.lag)


def test_workers_of_two_versions_may_have_other_bounds() -> None:
    """A count belongs to its own worker's bound."""
    old, new = Histories((1.0,), [minute(BEGIN, latency_counts=(1, 0))]), Histories((0.5, 1.0), [
        minute(BEGIN, latency_counts=(1, 0, 0)),
    ])  # fmt: skip
    (both,) = merged([old, new])
    assert 0.5 == both.p50


def test_the_pulse_feeds_the_history() -> None:
    """At its look, with the lag in records and in seconds."""
    pulse = Pulse(Statistics(), lambda: {3: 8})
    pulse.look(100.0)
    assert 8 == pulse.history.minutes()[-1].lag


# -- over HTTP


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.join(0)
    return made


async def test_a_worker_tells_its_own_minutes(engine: FakeEngine) -> None:
    """The one that has begun, too."""
    async with serving(engine) as server:
        engine.statistics.events += 7
        answer = (await get(server, "/worker/history")).json
    assert ("w1", engine.events.process, 7) == (answer["worker"], answer["process"], answer["minutes"][-1]["events"])
    assert list(engine.statistics.latencies.bounds) == answer["latency_bounds"]


async def test_any_worker_tells_the_minutes_of_the_group(engine: FakeEngine, tmp_path: Path) -> None:
    """It names whose they are, and who did not answer."""
    coordinator = engine._coordinator
    other = FakeEngine(tmp_path, "w2", coordinator)
    other.join(1)
    async with serving(engine) as one, serving(other) as two:
        coordinator.members = {f"w1@{one.address}": (0,), f"w2@{two.address}": (1,), "w3@127.0.0.1:1": ()}
        engine.statistics.events += 7
        other.statistics.events += 5
        answer = (await get(one, "/history")).json
    assert (["w1", "w2"], ["w3"], "w1") == (
        answer["workers"], [absent["worker"] for absent in answer["absent"]], answer["worker"],
    )  # fmt: skip
    assert "nobody listens" in answer["absent"][0]["detail"]
    assert 12 == sum(one["events"] for one in answer["minutes"])


async def test_the_group_is_this_worker_while_nobody_knows_the_members(tmp_path: Path) -> None:
    """Before the engine has started, and while Kafka is away."""
    async with serving(FakeEngine(tmp_path, "w1", FakeCoordinator())) as server:
        answer = (await get(server, "/history")).json
    assert (["w1"], []) == (answer["workers"], answer["absent"])


@pytest.mark.parametrize(
    "minutes",
    [
        [{"at": 2**53 - 1, "seconds": 60}, {"at": 0, "seconds": 60}],
        [{"at": -1, "seconds": 1}] * 5_000,
        [{"at": BEGIN, "seconds": 60, "events": 2**60}],
        [{"at": BEGIN, "seconds": 60, "latency_counts": [1] * 1_000}] * 3,
        [{"at": BEGIN, "seconds": 60, "lag_seconds": 1e308}],
        [{"at": BEGIN, "seconds": -1}],
        "no list",
    ],
)
async def test_a_forged_history_moves_nothing(engine: FakeEngine, minutes: object) -> None:
    """Minutes that are not of the last hours are left out, and what is no history is told as an absent worker."""

    async def forged(_request: web.Request) -> web.Response:
        told = {"worker": "<b>", "process": "p", "latency_bounds": [1.0, 0.5], "minutes": minutes}
        return web.Response(body=json.dumps(told).encode())

    async with listening(forged, "w2") as address, serving(engine) as server:
        engine._coordinator.members = {f"w1@{server.address}": (0,), f"w2@{address}": (1,)}
        answer = await get(server, "/history")
    assert 200 == answer.status
    assert answer.json["minutes"]
    assert all(one["events"] == 0 and abs(one["at"] - time.time()) < 120 for one in answer.json["minutes"])

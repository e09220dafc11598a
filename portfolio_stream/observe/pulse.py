"""The worker's pulse: a task that measures how late the event loop wakes it. Once a second it looks at counts and lag.

A fold, a long encoding or a garbage collection keeps the event loop, and delays heartbeats, commits and HTTP. The pulse
only sleeps, so it is late by this delay alone. A look also feeds the history of the last hours.
"""

import asyncio
from collections.abc import Callable, Mapping

from portfolio_stream.observe.history import MinuteHistory
from portfolio_stream.observe.lag import LagClock
from portfolio_stream.observe.rates import Meter
from portfolio_stream.observe.statistics import Statistics
from portfolio_stream.observe.steps import StepGrowth, StepMeter

BEAT_SECONDS = 0.1  # the pulse costs 0.15 % of a core, looks included; it sees half of all standstills of 50 ms
LOOK_BEATS = 10  # a look each second: rates need no more, and the lag in seconds is exact to a second


class Pulse:
    def __init__(self, statistics: Statistics, lag: Callable[[], Mapping[int, int]]) -> None:
        """`lag` returns the lag in records, by partition; nothing before the engine has started."""
        self._statistics = statistics
        self._lag = lag
        self._clock = LagClock()
        self._counted = statistics.counted
        #: the rates of the last seconds
        self.meter = Meter()
        self._steps = StepMeter()
        #: the last hours
        self.history = MinuteHistory(statistics)

    async def run(self) -> None:
        """Run until the task is cancelled."""
        loop = asyncio.get_running_loop()
        beats = 0
        while True:
            due = loop.time() + BEAT_SECONDS
            await asyncio.sleep(BEAT_SECONDS)
            self._statistics.loop_lag.observe(loop.time() - due)
            beats += 1
            if beats % LOOK_BEATS == 0:
                self.look(loop.time())

    def look(self, now: float) -> None:
        """Feed the meters and the lag's clock. `now` is in monotonic seconds."""
        before, self._counted = self._counted, self._statistics.counted
        self.meter.feed(now, self._counted.since(before))
        self._steps.feed(now, self._statistics.steps)
        lag = self._lag()
        self.history.look(lag, self._clock.look(lag, self._statistics.last_timestamps))

    def growth(self) -> StepGrowth | None:
        """Returns what the steps have done in the last seconds; None until there are two looks."""
        return self._steps.growth()

    def lag_seconds(self) -> Mapping[int, float]:
        """Returns the lag in seconds, by partition."""
        return self._clock.look(self._lag(), self._statistics.last_timestamps)

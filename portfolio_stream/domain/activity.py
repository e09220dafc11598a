"""A portfolio's activity by the minute of occurred_at: tumbling windows of a minute, the latest 1,440 per portfolio.

- A window's name is its start, `2026-11-23T04:30:00Z`, so text order is time order.
- A portfolio keeps its newest window and the 1,439 minutes before it. An event of an older minute is late. An event
  whose occurred_at is more than a day after its record's timestamp is early: a wrong clock must not push all other
  windows out. Late and early events are not added to any window.
- The portfolio has one bit for each of its windows. So the windows that a new one pushes out are known without a look
  into the table. The event that opens the new window removes them: the table never has a window that is too old.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import final

import msgspec

from portfolio_stream.domain.money import ZERO, Amounts, is_storable
from portfolio_stream.domain.rejection import Rejected, out_of_range

WINDOWS = 1_440
_KEPT = (1 << WINDOWS) - 1
_MINUTE, _EARLY_AFTER = timedelta(minutes=1), timedelta(hours=24)
_EPOCH = datetime(1970, 1, 1)  # UTC, as all times here


@final
class Activity(msgspec.Struct, frozen=True, gc=False):
    """One window: the number of accepted events, and the notional of its trades."""

    events: int
    #: buys and sells together, by currency
    notional: Amounts


@final
class Windows(msgspec.Struct, frozen=True, gc=False):
    """Which windows a portfolio has."""

    #: the start of the newest window; "" before the first event
    newest: str = ""
    #: bit n is set if the window n minutes before the newest exists
    present: int = 0


NOTHING = Activity(0, {})
NO_WINDOWS = Windows()


def window_of(occurred_at: str) -> str:
    """Returns the start of the window of an event's occurred_at."""
    return occurred_at[:17] + "00Z"


def open_window(windows: Windows, start: str) -> Windows | None:
    """Returns the windows with that of `start` added; the same object if it was there, None if `start` is late."""
    if not windows.newest:
        return Windows(start, 1)
    ahead, present = _minute(start) - _minute(windows.newest), windows.present
    if ahead <= -WINDOWS:
        return None
    if ahead > 0:
        return Windows(start, (present << min(ahead, WINDOWS) | 1) & _KEPT)
    after = present | 1 << -ahead
    return windows if after == present else Windows(windows.newest, after)


def leaving(before: Windows, after: Windows) -> Iterator[str]:
    """Yields the starts of the windows of `before` that are too old for `after`, newest first."""
    if after.newest == before.newest or not before.newest:
        return
    newest = _minute(before.newest)
    first = max(0, newest + WINDOWS - _minute(after.newest))
    gone = before.present >> first
    while gone:  # one step for each window, not for each minute
        lowest = gone & -gone
        yield _start(newest - first - lowest.bit_length() + 1)
        gone ^= lowest


def add(before: Activity, currency: str | None, notional: Decimal | None) -> Activity | Rejected:
    """Count one accepted event. `notional` is None unless the event is a trade."""
    if notional is None or currency is None:
        return Activity(before.events + 1, before.notional)
    total = before.notional.get(currency, ZERO) + notional
    if not is_storable(total):
        return out_of_range("the window's notional")
    totals = before.notional.copy()
    totals[currency] = total
    return Activity(before.events + 1, totals)


@lru_cache(maxsize=1 << 10)
def latest_in_time(timestamp: int) -> str:
    """Returns the latest occurred_at that is not early, for a record's timestamp in milliseconds since 1970.

    An event with a greater occurred_at, in text order, is early.
    """
    try:
        moment = _EPOCH + timedelta(milliseconds=timestamp) + _EARLY_AFTER
    except OverflowError:  # a producer may write any 64-bit timestamp
        return "~" if timestamp > 0 else ""
    return f"{moment.isoformat(timespec='milliseconds')}Z"


@lru_cache(maxsize=1 << 14)  # 0.7 us; portfolios share their minutes
def _minute(start: str) -> int:
    return (datetime.fromisoformat(start[:-1]) - _EPOCH) // _MINUTE


@lru_cache(maxsize=1 << 14)
def _start(minute: int) -> str:
    return f"{(_EPOCH + minute * _MINUTE).isoformat()}Z"

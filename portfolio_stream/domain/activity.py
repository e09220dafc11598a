"""What happened in a portfolio, by the minute of occurred_at: tumbling windows, the last 1,440 of each portfolio.

- A window is named by its start, `2026-11-23T04:30:00Z`: text order is time order.
- The windows up to the portfolio's newest are kept. An event in an older one is late. One that occurred more than a day
  after its record's timestamp is early: a wrong clock must not push every other window out. Neither is added.
- Which windows exist stands in the portfolio, a bit each. So those that a new one pushes out are known without a look
  at the table, and leave it with the event that opens the new one: what is out of the window is never in the table.
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
    """One window. Every accepted event counts, trades alone have a notional."""

    events: int
    #: of trades of either side, by currency
    notional: Amounts


@final
class Windows(msgspec.Struct, frozen=True, gc=False):
    """Which windows a portfolio has."""

    #: the start of the newest; "" before the first event
    newest: str = ""
    #: bit n: the one n minutes before the newest exists
    present: int = 0


NOTHING = Activity(0, {})
NO_WINDOWS = Windows()


def window_of(occurred_at: str) -> str:
    """The start of its window."""
    return occurred_at[:17] + "00Z"


def open_window(windows: Windows, start: str) -> Windows | None:
    """With the window of `start` among them, the same object if it is already; None if it is too old: late."""
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
    """The starts of the windows that `after` has no room for, newest first."""
    if after.newest == before.newest or not before.newest:
        return
    newest = _minute(before.newest)
    first = max(0, newest + WINDOWS - _minute(after.newest))
    gone = before.present >> first
    while gone:  # a step for each, however far apart they are
        lowest = gone & -gone
        yield _start(newest - first - lowest.bit_length() + 1)
        gone ^= lowest


def add(before: Activity, currency: str | None, notional: Decimal | None) -> Activity | Rejected:
    """One accepted event; `notional` is None unless it is a trade."""
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
    """Of a record with this timestamp (milliseconds since 1970): a later occurred_at is early, by text order."""
    try:
        moment = _EPOCH + timedelta(milliseconds=timestamp) + _EARLY_AFTER
    except OverflowError:  # a producer may write any 64 bits
        return "~" if timestamp > 0 else ""
    return f"{moment.isoformat(timespec='milliseconds')}Z"


@lru_cache(maxsize=1 << 14)  # 0.7 us; portfolios share their minutes
def _minute(start: str) -> int:
    return (datetime.fromisoformat(start[:-1]) - _EPOCH) // _MINUTE


@lru_cache(maxsize=1 << 14)
def _start(minute: int) -> str:
    return f"{(_EPOCH + minute * _MINUTE).isoformat()}Z"

"""Which windows of activity a portfolio has, and which leave when a new one opens. `domain.activity` has the rules."""

from datetime import datetime, timedelta
from typing import Final

from portfolio_stream.compiled.values import PortfolioRow

WINDOWS: Final = 1_440
_KEPT: Final = (1 << WINDOWS) - 1
_EPOCH: Final = datetime(1970, 1, 1)  # UTC, as all times here
_MINUTE: Final = timedelta(minutes=1)
_KNOWN: Final = 1 << 14

_minutes: dict[str, int] = {}


def is_open(portfolio: PortfolioRow, start: str) -> bool:
    """Whether the portfolio has the window."""
    if start == portfolio.newest:
        return True
    if not portfolio.newest:
        return False
    behind = _minute(portfolio.newest) - _minute(start)
    return 0 <= behind < WINDOWS and portfolio.present >> behind & 1 == 1


def is_late(portfolio: PortfolioRow, start: str) -> bool:
    """Whether the window is too old for the portfolio."""
    newest = portfolio.newest
    return newest != "" and start < newest and _minute(newest) - _minute(start) >= WINDOWS


def open_window(portfolio: PortfolioRow, start: str) -> list[str]:
    """Add a window that is neither late nor there yet. Returns the starts of the windows that leave, newest first."""
    newest = portfolio.newest
    if not newest:
        portfolio.newest = start
        portfolio.present = 1
        return []
    ahead = _minute(start) - _minute(newest)
    if ahead < 0:
        portfolio.present |= 1 << -ahead
        return []
    gone = _leaving(newest, portfolio.present, ahead)
    portfolio.newest = start
    portfolio.present = (portfolio.present << min(ahead, WINDOWS) | 1) & _KEPT
    return gone


def _leaving(newest: str, present: int, ahead: int) -> list[str]:
    first = max(0, WINDOWS - ahead)
    gone = present >> first
    starts: list[str] = []
    while gone:  # one step for each window, not for each minute
        lowest = gone & -gone
        starts.append(_start(_minute(newest) - first - lowest.bit_length() + 1))
        gone ^= lowest
    return starts


def _minute(start: str) -> int:
    """Minutes since 1970. Portfolios share their minutes, so the look-up costs little."""
    known = _minutes.get(start)
    if known is not None:
        return known
    if len(_minutes) >= _KNOWN:
        _minutes.clear()
    minute: int = (datetime.fromisoformat(start[:-1]) - _EPOCH) // _MINUTE
    _minutes[start] = minute
    return minute


def _start(minute: int) -> str:
    return f"{(_EPOCH + minute * _MINUTE).isoformat()}Z"

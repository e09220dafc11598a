"""activity: portfolio_id, window -> ActivityRow, for the 1,440 one-minute windows up to the portfolio's newest window.

A window's start is its key, `2026-11-23T04:30:00Z`: the keys of a portfolio sort in time order. The event that opens a
window removes the windows that the new one pushes out, in the same transaction. So every entry of the store is part of
the table, and readers need no check.
"""

from portfolio_stream.compiled.amounts import plain
from portfolio_stream.compiled.codecs import decode_activity, encode_activity
from portfolio_stream.compiled.values import ActivityRow
from tables.table import Table


def _show(activity: ActivityRow) -> dict[str, object]:
    notional = activity.notional
    return {"events": activity.events, "notional": {currency: plain(notional[currency]) for currency in notional}}


ACTIVITY: Table[ActivityRow] = Table(
    name="activity", key=("portfolio_id", "window"), encode=encode_activity, decode=decode_activity, show=_show
)

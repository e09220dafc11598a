"""activity: portfolio_id, window -> Activity, for the 1,440 one-minute windows up to the portfolio's newest window.

A window's start is its key, `2026-11-23T04:30:00Z`: the keys of a portfolio sort in time order. The event that opens a
window removes the windows that the new one pushes out, in the same transaction. So every entry of the store is part of
the table, and readers need no check.
"""

from typing import Literal

import msgspec

from portfolio_stream.domain.activity import Activity
from portfolio_stream.domain.money import Amounts
from tables.table import FORMAT, Table, check_amounts, pack, plain_amounts

_unpack = msgspec.msgpack.Decoder(tuple[Literal[2], int, Amounts]).decode


def _encode(activity: Activity) -> bytes:
    return pack((FORMAT, activity.events, activity.notional))


def _decode(value: bytes) -> Activity:
    members = _unpack(value)
    check_amounts(members[2].values())
    return Activity(*members[1:])


def _show(activity: Activity) -> dict[str, object]:
    return {"events": activity.events, "notional": plain_amounts(activity.notional)}


ACTIVITY: Table[Activity] = Table(
    name="activity", key=("portfolio_id", "window"), encode=_encode, decode=_decode, show=_show
)

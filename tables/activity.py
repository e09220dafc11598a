"""activity: portfolio_id, window start -> Activity, for the 1,440 one-minute windows up to the portfolio's newest.

A window's start is its key, `2026-11-23T04:30:00Z`: a portfolio's keys sort in time order. What gets too old is removed
by the event that pushes it out, in the same transaction: whatever the table holds is part of it, readers need no check.
"""

from portfolio_stream.domain.activity import Activity
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.records.values import decode_activity, encode_activity, join_key

ACTIVITY: TableDefinition[Activity] = TableDefinition(name="activity", encode=encode_activity, decode=decode_activity)


def key(portfolio_id: str, start: str) -> bytes:
    return join_key(portfolio_id, start)

"""seen_events: portfolio_id, event_id -> SeenEvent, for the accepted events in the portfolio's deduplication window.

Entries that left it are removed a chunk at a time (`seen_chunks` knows them), so a few more are held. What is out of
the window is no part of the table, removed or not; `is_in_window` says so.
"""

from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.records.values import SEPARATOR, SeenEvent, decode_seen_event, encode_seen_event, join_key

SEEN_EVENTS: TableDefinition[SeenEvent] = TableDefinition(
    name="seen_events", encode=encode_seen_event, decode=decode_seen_event
)


def key(portfolio_id: str, event_id: str) -> bytes:
    return join_key(portfolio_id, event_id)


def prefix(portfolio_id: str) -> bytes:
    """What the keys of all of a portfolio's entries start with."""
    return join_key(portfolio_id) + SEPARATOR


def is_in_window(seen: SeenEvent, sequence: int, window: int) -> bool:
    """Whether it is among the last `window` of the first `sequence` accepted events."""
    return seen.sequence > sequence - window

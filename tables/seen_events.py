"""seen_events: portfolio_id, event_id -> a row with sequence, source offset and fingerprint, for the accepted events in
the portfolio's deduplication window.

The fold removes the entries that have left the window, a chunk of entries at a time (`compiled/ring.py`). So the store
holds a few entries that are no longer part of the table, and readers ask `is_current`. A row stays in its stored form
(`compiled/seen.py`).
"""

from portfolio_stream.compiled.seen import fingerprint_of, offset_of, read_row, sequence_of
from portfolio_stream.domain.deduplication import is_in_window
from tables.portfolios import PORTFOLIOS
from tables.table import CommittedState, Table


def _show(row: bytes) -> dict[str, object]:
    return {"sequence": sequence_of(row), "offset": offset_of(row), "fingerprint": fingerprint_of(row).hex()}


def _is_current(state: CommittedState, key: tuple[str, ...], row: bytes) -> bool:
    portfolio = state.value(PORTFOLIOS, key[0])
    sequence = 0 if portfolio is None else portfolio.sequence
    return is_in_window(sequence_of(row), sequence, state.deduplication_window)


SEEN_EVENTS: Table[bytes] = Table(
    name="seen_events",
    key=("portfolio_id", "event_id"),
    encode=bytes,
    decode=read_row,
    show=_show,
    is_current=_is_current,
)

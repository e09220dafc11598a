"""seen_events: portfolio_id, event_id -> SeenEvent, for the accepted events in the portfolio's deduplication window.

The fold removes the entries that have left the window, a chunk of entries at a time (`tables/seen_chunks.py`). So the
store holds a few entries that are no longer part of the table, and readers ask `is_current`.
"""

from typing import Literal

import msgspec

from portfolio_stream.domain.deduplication import SeenEvent, is_in_window
from tables.portfolios import PORTFOLIOS
from tables.table import FORMAT, CommittedState, Table, pack

_unpack = msgspec.msgpack.Decoder(tuple[Literal[2], int, int, bytes]).decode


def _encode(seen: SeenEvent) -> bytes:
    return pack((FORMAT, seen.sequence, seen.offset, seen.fingerprint))


def _decode(value: bytes) -> SeenEvent:
    return SeenEvent(*_unpack(value)[1:])


def _show(seen: SeenEvent) -> dict[str, object]:
    return {"sequence": seen.sequence, "offset": seen.offset, "fingerprint": seen.fingerprint.hex()}


def _is_current(state: CommittedState, key: tuple[str, ...], seen: SeenEvent) -> bool:
    portfolio = state.value(PORTFOLIOS, key[0])
    sequence = 0 if portfolio is None else portfolio.sequence
    return is_in_window(seen, sequence, state.deduplication_window)


SEEN_EVENTS: Table[SeenEvent] = Table(
    name="seen_events",
    key=("portfolio_id", "event_id"),
    encode=_encode,
    decode=_decode,
    show=_show,
    is_current=_is_current,
)

"""The audit's own description of the tables: how a value is stored, and how people see it.

This module repeats what `tables/` defines, on purpose. The audit imports neither the engine nor the agents nor the
tables: if the audit used their code, a fault of that code would look right to the audit too. If you change a
table's format, change it here as well.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.deduplication import SeenEvent
from portfolio_stream.domain.events import EventType
from portfolio_stream.domain.money import MAGNITUDE_LIMIT, QUANTUM, Amounts, plain
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position

SEPARATOR = b"\x00"
#: what the changelog keys of each table begin with
ACTIVITY, PORTFOLIOS, POSITIONS, SEEN_EVENTS = b"activity\x00", b"portfolios\x00", b"positions\x00", b"seen_events\x00"
#: an index of seen_events: its effect shows in seen_events, so the audit passes it over
INDEX_KEY = b"seen_chunks\x00"

_position = msgspec.msgpack.Decoder(tuple[Literal[2], str, Decimal, Decimal, Decimal, Decimal]).decode
_portfolio = msgspec.msgpack.Decoder(
    tuple[Literal[2], int, Amounts, Amounts, Amounts, dict[EventType, int], str, str, str, bytes]
).decode
_activity = msgspec.msgpack.Decoder(tuple[Literal[2], int, Amounts]).decode
_seen_event = msgspec.msgpack.Decoder(tuple[Literal[2], int, int, bytes]).decode


@dataclass(frozen=True, slots=True)
class AuditedTable:
    """A table's value as the changelog has it, and as people see it."""

    decode: Callable[[bytes], Any]
    show: Callable[[Any], dict[str, object]]


def _decode_position(value: bytes) -> Position:
    _, currency, *amounts = _position(value)
    return Position(currency, *_storable(amounts))


def _decode_portfolio(value: bytes) -> Portfolio:
    _, sequence, cash, fees, dividends, events, earliest, latest, newest, present = _portfolio(value)
    for amounts in (cash, fees, dividends):
        _storable(amounts.values())
    windows = Windows(newest, int.from_bytes(present, "big"))
    return Portfolio(sequence, cash, fees, dividends, events, earliest, latest, windows)


def _decode_activity(value: bytes) -> Activity:
    _, events, notional = _activity(value)
    _storable(notional.values())
    return Activity(events, notional)


def _decode_seen_event(value: bytes) -> SeenEvent:
    _, sequence, offset, fingerprint = _seen_event(value)
    return SeenEvent(sequence, offset, fingerprint)


def _storable(amounts: Iterable[Decimal]) -> list[Decimal]:
    """Returns the amounts. Raises msgspec.ValidationError for a NaN, and for an exponent that no fold stores."""
    given = list(amounts)
    if not all(one.is_finite() and QUANTUM.adjusted() <= one.adjusted() < MAGNITUDE_LIMIT for one in given):
        raise msgspec.ValidationError("an amount that is never stored")
    return given


def _show_position(position: Position) -> dict[str, object]:
    names = ("quantity", "cost_basis", "average_cost", "realised_pnl")
    return {"currency": position.currency, **{name: plain(getattr(position, name)) for name in names}}


def _show_portfolio(portfolio: Portfolio) -> dict[str, object]:
    amounts = {name: _show_amounts(getattr(portfolio, name)) for name in ("cash", "fees", "dividends")}
    times = {"earliest": portfolio.earliest, "latest": portfolio.latest}
    return {"sequence": portfolio.sequence, "events": portfolio.events} | amounts | times


def _show_activity(activity: Activity) -> dict[str, object]:
    return {"events": activity.events, "notional": _show_amounts(activity.notional)}


def _show_seen_event(seen: SeenEvent) -> dict[str, object]:
    return {"sequence": seen.sequence, "offset": seen.offset, "fingerprint": seen.fingerprint.hex()}


def _show_amounts(amounts: Amounts) -> dict[str, str]:
    return {currency: plain(amount) for currency, amount in amounts.items()}


#: by name
TABLES: Mapping[bytes, AuditedTable] = {
    b"activity": AuditedTable(_decode_activity, _show_activity),
    b"portfolios": AuditedTable(_decode_portfolio, _show_portfolio),
    b"positions": AuditedTable(_decode_position, _show_position),
    b"seen_events": AuditedTable(_decode_seen_event, _show_seen_event),
}


def decode_value(key: bytes, value: bytes) -> Any:
    """Decode a table's value. Return None if no table has the key's name, or if the bytes are no value of the table."""
    name, separator, _ = key.partition(SEPARATOR)
    table = TABLES.get(name)
    try:
        return table.decode(value) if table is not None and separator else None
    except UNDECODABLE:
        return None


def show_value(key: bytes, value: Any) -> dict[str, object]:
    """Returns a value as HTTP shows it."""
    return TABLES[key.partition(SEPARATOR)[0]].show(value)

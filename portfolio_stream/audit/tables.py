"""The audit's own description of the tables: how a value is stored, and how people see it.

This module repeats what `tables/` defines, on purpose. The audit imports neither the engine nor the agents nor the
tables: if the audit used their code, a fault of that code would look right to the audit too. If you change a
table's format, change it here as well.
"""

import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal

import msgspec

from portfolio_stream.decoding import UNDECODABLE
from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.deduplication import fingerprint, older_fingerprint
from portfolio_stream.domain.events import EventType
from portfolio_stream.domain.money import ARITHMETIC, MAGNITUDE_LIMIT, QUANTUM, Amounts, plain
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position

SEPARATOR = b"\x00"
#: what the changelog keys of each table begin with
ACTIVITY, PORTFOLIOS, POSITIONS, SEEN_EVENTS = b"activity\x00", b"portfolios\x00", b"positions\x00", b"seen_events\x00"
#: an index of seen_events: its effect shows in seen_events, so the audit passes it over
INDEX_KEY = b"seen_chunks\x00"

_Amount = int | str
_position = msgspec.msgpack.Decoder(tuple[Literal[3], str, _Amount, _Amount, _Amount, _Amount]).decode
_portfolio = msgspec.msgpack.Decoder(
    tuple[Literal[3], int, list[_Amount | None], tuple[int, int, int, int, int, int], str, str, str, bytes, str, int]
).decode
_activity = msgspec.msgpack.Decoder(tuple[Literal[3], int, list[_Amount]]).decode
_seen_event = struct.Struct(">BQQ16s")
#: the types of event in the order of a portfolio's counts
_TYPES: tuple[EventType, ...] = ("trade", "cash", "dividend", "fee", "split", "adjustment")

# Format 2, which the changelog has of keys that did not change since.
_older_position = msgspec.msgpack.Decoder(tuple[Literal[2], str, Decimal, Decimal, Decimal, Decimal]).decode
_older_portfolio = msgspec.msgpack.Decoder(
    tuple[Literal[2], int, Amounts, Amounts, Amounts, dict[EventType, int], str, str, str, bytes]
).decode
_older_activity = msgspec.msgpack.Decoder(tuple[Literal[2], int, Amounts]).decode
_older_seen_event = msgspec.msgpack.Decoder(tuple[Literal[2], int, int, bytes]).decode


class AuditedSeen(msgspec.Struct, frozen=True, gc=False, eq=False):
    """An accepted event_id. A row has one of two fingerprints; the replay knows both. b"" is an unknown one."""

    sequence: int
    offset: int
    fingerprint: bytes
    older_fingerprint: bytes

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AuditedSeen) or (self.sequence, self.offset) != (other.sequence, other.offset):
            return False
        pairs = ((self.fingerprint, other.fingerprint), (self.older_fingerprint, other.older_fingerprint))
        known = [pair for pair in pairs if all(pair)]
        return bool(known) and all(one == same for one, same in known)

    def __ne__(self, other: object) -> bool:  # msgspec's would not ask __eq__
        return not self == other

    __hash__ = None  # type: ignore[assignment]

    def is_of(self, value: bytes) -> bool:
        """Whether the event had these bytes. A row of format 2 has only the older fingerprint."""
        if self.fingerprint:
            return self.fingerprint == fingerprint(value)
        return self.older_fingerprint == older_fingerprint(value)


@dataclass(frozen=True, slots=True)
class AuditedTable:
    """A table's value as the changelog has it, and as people see it."""

    decode: Callable[[bytes], Any]
    show: Callable[[Any], dict[str, object]]


def _decode_position(value: bytes) -> Position:
    if _is_older(value):
        _, currency, *older = _older_position(value)
        return Position(currency, *_storable(older))
    _, currency, *amounts = _position(value)
    return Position(currency, *map(_exact, amounts))


def _decode_portfolio(value: bytes) -> Portfolio:
    if _is_older(value):
        _, sequence, cash, fees, dividends, events, earliest, latest, newest, present = _older_portfolio(value)
        for amounts in (cash, fees, dividends):
            _storable(amounts.values())
    else:
        # the last two members are an index of seen_events
        _, sequence, accounts, counts, earliest, latest, newest, present, _, _ = _portfolio(value)
        cash, fees, dividends = (_by_currency(accounts, place, 4) for place in (1, 2, 3))
        events = {kind: count for kind, count in zip(_TYPES, counts, strict=True) if count}
    windows = Windows(newest, int.from_bytes(present, "big"))
    return Portfolio(sequence, cash, fees, dividends, events, earliest, latest, windows)


def _decode_activity(value: bytes) -> Activity:
    if _is_older(value):
        _, events, notional = _older_activity(value)
        _storable(notional.values())
        return Activity(events, notional)
    _, events, flat = _activity(value)
    return Activity(events, _by_currency(flat, 1, 2))


def _decode_seen_event(value: bytes) -> AuditedSeen:
    if value[:1] != b"\x03":
        _, sequence, offset, older = _older_seen_event(value)
        return AuditedSeen(sequence, offset, b"", older)
    if len(value) != _seen_event.size:
        raise msgspec.ValidationError("a row of another length")
    _, sequence, offset, fingerprint = _seen_event.unpack(value)
    return AuditedSeen(sequence, offset, fingerprint, b"")


def _is_older(value: bytes) -> bool:
    """The format stands behind the array's head, which is one byte."""
    return value[1:2] == b"\x02"


def _by_currency(flat: Sequence[int | str | None], place: int, width: int) -> Amounts:
    """The amounts at one place of the flat list's rows, each of which begins with a currency."""
    rows = [flat[start : start + width] for start in range(0, len(flat), width)]
    if not all(isinstance(row[0], str) and len(row) == width for row in rows):
        raise msgspec.ValidationError("a row without a currency")
    return {str(row[0]): _exact(amount) for row in rows if (amount := row[place]) is not None}


def _exact(scaled: int | str) -> Decimal:
    """Returns an amount with eight decimals. Raises msgspec.ValidationError for one that no fold stores."""
    text = str(scaled)
    if len(text) > 33 or not text.removeprefix("-").isdecimal() or not abs(int(text)) < 10 ** (MAGNITUDE_LIMIT + 8):
        raise msgspec.ValidationError("an amount that is never stored")
    return ARITHMETIC.scaleb(Decimal(text), QUANTUM.adjusted())


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


def _show_seen_event(seen: AuditedSeen) -> dict[str, object]:
    fingerprint = seen.fingerprint or seen.older_fingerprint
    return {"sequence": seen.sequence, "offset": seen.offset, "fingerprint": fingerprint.hex()}


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


def show_value(key: bytes, value: Any, found: Mapping[str, object] | None = None) -> dict[str, object]:
    """Returns a value as HTTP shows it. If a seen event was `found` with its older fingerprint, that one is shown."""
    shown = TABLES[key.partition(SEPARATOR)[0]].show(value)
    if isinstance(value, AuditedSeen) and found is not None:
        older = value.older_fingerprint.hex()
        if found.get("fingerprint") == older:
            shown["fingerprint"] = older
    return shown

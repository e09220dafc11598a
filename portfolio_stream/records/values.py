"""Encode and decode the keys and values of tables, for the changelog and the local store.

- A value is a msgpack array that begins with the format's version.
- Equal values have equal bytes: mappings are sorted, and an amount is text with exactly eight decimals (`domain.money`
  keeps the decimals, and msgspec writes a Decimal as text, in C).
- A key has the parts of the table's key, joined by 0x00, which no part contains. The engine puts the table's name
  before it.
"""

from collections.abc import Iterable
from decimal import Decimal
from hashlib import blake2b
from typing import Literal

import msgspec

from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.events import EventType
from portfolio_stream.domain.money import MAGNITUDE_LIMIT, QUANTUM, Amounts, plain
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position

FORMAT = 2
SEPARATOR = b"\x00"
FINGERPRINT_BYTES = 16
STORED_POWERS = frozenset(range(QUANTUM.adjusted(), MAGNITUDE_LIMIT))  # powers of ten; a range is 0.2 us slower

_pack = msgspec.msgpack.Encoder(order="deterministic").encode
_unpack_position = msgspec.msgpack.Decoder(tuple[Literal[2], str, Decimal, Decimal, Decimal, Decimal]).decode
_unpack_portfolio = msgspec.msgpack.Decoder(
    tuple[Literal[2], int, Amounts, Amounts, Amounts, dict[EventType, int], str, str, str, bytes]
).decode
_unpack_activity = msgspec.msgpack.Decoder(tuple[Literal[2], int, Amounts]).decode
_unpack_seen = msgspec.msgpack.Decoder(tuple[Literal[2], int, int, bytes]).decode
_unpack_chunk = msgspec.msgpack.Decoder(tuple[Literal[2], int, list[str], int, str]).decode


class SeenEvent(msgspec.Struct, frozen=True, gc=False):
    """An accepted event_id: the event's sequence in its portfolio, its offset, and a fingerprint of its bytes."""

    sequence: int
    #: the source record's offset
    offset: int
    fingerprint: bytes


class SeenChunk(msgspec.Struct, gc=False):
    """One chunk of the ring: event_ids of a portfolio's latest accepted events, up to the sequence `last`.

    This is the only table value that the fold changes in place: a new value for each event would cost 0.3 us of some
    10. The change is safe: the store gets the bytes at the end of a transaction, and a fold that fails drops the views.
    """

    last: int
    #: oldest first; an event_id that was accepted again later is not in it
    event_ids: list[str]
    #: event_ids up to this sequence may be missing from the ring; 0: the ring has all
    unlisted: int = 0
    #: unlisted event_ids up to this one have been removed; "" before the first
    swept: str = ""


def _check_amounts(amounts: Iterable[Decimal]) -> None:
    """Raises msgspec.ValidationError for amounts that we never store: NaN, or an exponent with a gigabyte of digits."""
    for amount in amounts:
        if not (amount.is_finite() and amount.adjusted() in STORED_POWERS):
            raise msgspec.ValidationError("an amount that is never stored")


def join_key(*parts: str) -> bytes:
    return SEPARATOR.join([part.encode() for part in parts])


def split_key(key: bytes) -> tuple[str, ...]:
    return tuple(part.decode() for part in key.split(SEPARATOR))


def fingerprint(value: bytes) -> bytes:
    """Returns 128 bits of BLAKE2b of an event's bytes: other bytes never have the same fingerprint."""
    return blake2b(value, digest_size=FINGERPRINT_BYTES).digest()


def encode_position(position: Position) -> bytes:
    p = position
    return _pack((FORMAT, p.currency, p.quantity, p.cost_basis, p.average_cost, p.realised_pnl))


def decode_position(value: bytes) -> Position:
    members = _unpack_position(value)
    _check_amounts(members[2:])
    return Position(*members[1:])


def encode_portfolio(portfolio: Portfolio) -> bytes:
    p, w = portfolio, portfolio.windows
    present = w.present.to_bytes((w.present.bit_length() + 7) // 8, "big")
    return _pack((FORMAT, p.sequence, p.cash, p.fees, p.dividends, p.events, p.earliest, p.latest, w.newest, present))


def decode_portfolio(value: bytes) -> Portfolio:
    members = _unpack_portfolio(value)
    newest, present = members[-2:]
    for amounts in members[2:5]:
        _check_amounts(amounts.values())
    return Portfolio(*members[1:-2], Windows(newest, int.from_bytes(present, "big")))


def encode_activity(activity: Activity) -> bytes:
    return _pack((FORMAT, activity.events, activity.notional))


def decode_activity(value: bytes) -> Activity:
    members = _unpack_activity(value)
    _check_amounts(members[2].values())
    return Activity(*members[1:])


def encode_seen_event(seen: SeenEvent) -> bytes:
    return _pack((FORMAT, seen.sequence, seen.offset, seen.fingerprint))


def decode_seen_event(value: bytes) -> SeenEvent:
    return SeenEvent(*_unpack_seen(value)[1:])


def encode_seen_chunk(chunk: SeenChunk) -> bytes:
    return _pack((FORMAT, chunk.last, chunk.event_ids, chunk.unlisted, chunk.swept))


def decode_seen_chunk(value: bytes) -> SeenChunk:
    return SeenChunk(*_unpack_chunk(value)[1:])


def show_position(position: Position) -> dict[str, object]:
    """Returns the position with the contract's field names, ready for JSON."""
    p = position
    return {
        "currency": p.currency,
        "quantity": plain(p.quantity),
        "cost_basis": plain(p.cost_basis),
        "average_cost": plain(p.average_cost),
        "realised_pnl": plain(p.realised_pnl),
    }


def show_portfolio(portfolio: Portfolio) -> dict[str, object]:
    p = portfolio
    return {
        "sequence": p.sequence,
        "cash": _plain_amounts(p.cash),
        "fees": _plain_amounts(p.fees),
        "dividends": _plain_amounts(p.dividends),
        "events": dict(sorted(p.events.items())),
        "earliest": p.earliest,
        "latest": p.latest,
    }


def show_activity(activity: Activity) -> dict[str, object]:
    return {"events": activity.events, "notional": _plain_amounts(activity.notional)}


def show_seen_event(seen: SeenEvent) -> dict[str, object]:
    return {"sequence": seen.sequence, "offset": seen.offset, "fingerprint": seen.fingerprint.hex()}


def _plain_amounts(amounts: Amounts) -> dict[str, str]:
    return {currency: plain(amounts[currency]) for currency in sorted(amounts)}

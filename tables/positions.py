"""positions: portfolio_id, symbol -> Position. A flat position stays in the table."""

from decimal import Decimal
from typing import Literal

import msgspec

from portfolio_stream.domain.money import plain
from portfolio_stream.domain.positions import Position
from tables.table import FORMAT, Table, check_amounts, pack

_unpack = msgspec.msgpack.Decoder(tuple[Literal[2], str, Decimal, Decimal, Decimal, Decimal]).decode


def _encode(position: Position) -> bytes:
    p = position
    return pack((FORMAT, p.currency, p.quantity, p.cost_basis, p.average_cost, p.realised_pnl))


def _decode(value: bytes) -> Position:
    members = _unpack(value)
    check_amounts(members[2:])
    return Position(*members[1:])


def _show(position: Position) -> dict[str, object]:
    p = position
    return {
        "currency": p.currency,
        "quantity": plain(p.quantity),
        "cost_basis": plain(p.cost_basis),
        "average_cost": plain(p.average_cost),
        "realised_pnl": plain(p.realised_pnl),
    }


POSITIONS: Table[Position] = Table(
    name="positions", key=("portfolio_id", "symbol"), encode=_encode, decode=_decode, show=_show
)

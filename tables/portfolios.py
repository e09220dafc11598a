"""portfolios: portfolio_id -> Portfolio."""

from typing import Literal

import msgspec

from portfolio_stream.domain.activity import Windows
from portfolio_stream.domain.events import EventType
from portfolio_stream.domain.money import Amounts
from portfolio_stream.domain.portfolios import Portfolio
from tables.table import FORMAT, Table, check_amounts, pack, plain_amounts

_unpack = msgspec.msgpack.Decoder(
    tuple[Literal[2], int, Amounts, Amounts, Amounts, dict[EventType, int], str, str, str, bytes]
).decode


def _encode(portfolio: Portfolio) -> bytes:
    p, w = portfolio, portfolio.windows
    present = w.present.to_bytes((w.present.bit_length() + 7) // 8, "big")
    return pack((FORMAT, p.sequence, p.cash, p.fees, p.dividends, p.events, p.earliest, p.latest, w.newest, present))


def _decode(value: bytes) -> Portfolio:
    members = _unpack(value)
    newest, present = members[-2:]
    for amounts in members[2:5]:
        check_amounts(amounts.values())
    return Portfolio(*members[1:-2], Windows(newest, int.from_bytes(present, "big")))


def _show(portfolio: Portfolio) -> dict[str, object]:
    p = portfolio
    return {
        "sequence": p.sequence,
        "cash": plain_amounts(p.cash),
        "fees": plain_amounts(p.fees),
        "dividends": plain_amounts(p.dividends),
        "events": dict(sorted(p.events.items())),
        "earliest": p.earliest,
        "latest": p.latest,
    }


PORTFOLIOS: Table[Portfolio] = Table(
    name="portfolios", key=("portfolio_id",), encode=_encode, decode=_decode, show=_show
)

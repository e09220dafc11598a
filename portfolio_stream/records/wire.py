"""The types of event that have a fast path, as msgspec reads them from JSON. No field's text has been checked.

Splits have no fast path: they are rare, and msgspec would accept 1.0 as an integer.
"""

from typing import final

import msgspec

from portfolio_stream.domain.events import Side


class Wire(msgspec.Struct, frozen=True, gc=False, tag_field="type"):
    event_id: str
    portfolio_id: str
    occurred_at: str


@final
class TradeEvent(Wire, frozen=True, gc=False, tag="trade"):
    side: Side
    symbol: str
    quantity: str
    price: str
    currency: str
    fee: str = "0"


@final
class CashEvent(Wire, frozen=True, gc=False, tag="cash"):
    amount: str
    currency: str


@final
class DividendEvent(Wire, frozen=True, gc=False, tag="dividend"):
    symbol: str
    amount: str
    currency: str


@final
class FeeEvent(Wire, frozen=True, gc=False, tag="fee"):
    amount: str
    currency: str


@final
class AdjustmentEvent(Wire, frozen=True, gc=False, tag="adjustment"):
    symbol: str
    quantity: str
    cost_basis: str
    currency: str
    realised_pnl: str = "0"
    reason: str = ""


WireTypes = TradeEvent | CashEvent | DividendEvent | FeeEvent | AdjustmentEvent

#: raises msgspec.MsgspecError for what is no such event
decode_wire = msgspec.json.Decoder(WireTypes).decode

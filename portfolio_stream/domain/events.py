"""Events as the fold gets them: valid and complete, with decimals and UTC times. Only `records` makes them from bytes.

The classes are final, so that code can test `type(event) is Trade`. isinstance is slower: it goes through msgspec's
metaclass.
"""

from decimal import Decimal
from typing import ClassVar, Literal, final

import msgspec

EventType = Literal["trade", "cash", "dividend", "fee", "split", "adjustment"]
Side = Literal["buy", "sell"]


class _Event(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    portfolio_id: str
    #: `2026-11-23T04:30:00.123Z`: UTC, milliseconds. All have this form, so text order is time order
    occurred_at: str


@final
class Trade(_Event, frozen=True, gc=False):
    type: ClassVar[EventType] = "trade"
    side: Side
    symbol: str
    quantity: Decimal
    price: Decimal
    currency: str
    fee: Decimal


@final
class Cash(_Event, frozen=True, gc=False):
    type: ClassVar[EventType] = "cash"
    amount: Decimal
    currency: str


@final
class Dividend(_Event, frozen=True, gc=False):
    type: ClassVar[EventType] = "dividend"
    symbol: str
    amount: Decimal
    currency: str


@final
class Fee(_Event, frozen=True, gc=False):
    type: ClassVar[EventType] = "fee"
    amount: Decimal
    currency: str


@final
class Split(_Event, frozen=True, gc=False):
    type: ClassVar[EventType] = "split"
    symbol: str
    numerator: int
    denominator: int


@final
class Adjustment(_Event, frozen=True, gc=False):
    """An adjustment's `reason` is checked but not kept: nothing reads it."""

    type: ClassVar[EventType] = "adjustment"
    symbol: str
    quantity: Decimal
    cost_basis: Decimal
    currency: str
    realised_pnl: Decimal


Event = Trade | Cash | Dividend | Fee | Split | Adjustment

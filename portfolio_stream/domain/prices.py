"""The latest market price of a symbol."""

from decimal import Decimal
from typing import final

import msgspec


@final
class Price(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    #: the price of one unit; not negative
    price: Decimal
    currency: str
    #: UTC with milliseconds, as Event.occurred_at
    as_of: str

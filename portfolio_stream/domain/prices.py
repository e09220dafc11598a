"""The market's price of a symbol, as it was last told."""

from decimal import Decimal
from typing import final

import msgspec


@final
class Price(msgspec.Struct, frozen=True, gc=False):
    symbol: str
    #: of one unit; not negative
    price: Decimal
    currency: str
    #: UTC with three digits of milliseconds
    as_of: str

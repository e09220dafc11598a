"""Exact decimal arithmetic with one rounding.

Amounts are `Decimal`, never float. Inside `arithmetic()` the operators are exact on anything that an event or a table
can hold (80 digits; Python's default context has 28 and rounds in silence), and `rounded_product` and
`rounded_quotient` round once, half-even, from the exact rational value. Operators cost a third of a context's methods,
hence the context that is set around the work instead of named in it; `fold` enters it by itself.

Stored amounts start from ZERO, so all have exactly eight decimals and no negative zero: equal amounts are equal bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from decimal import (
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
    Overflow,
    getcontext,
    setcontext,
)

Amounts = dict[str, Decimal]  # by currency

QUANTUM = Decimal("0.00000001")
ZERO = Decimal("0.00000000")
#: a stored amount is smaller than 10 to this power
MAGNITUDE_LIMIT = 24
# The widest exact value is a stored amount (24 + 8 digits) times another: 64; a notional has 36 + 16. Only a division
# can need more, and is then rounded twice, which is harmless: a quotient by a divisor of d digits that is not a tie
# differs from one within d + 1 digits after the quantum, so 32 + 33 digits tell them apart.
DIGITS = 80
ARITHMETIC = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


@contextmanager
def arithmetic() -> Iterator[None]:
    """Make this thread's (or task's) decimal operators exact."""
    before = getcontext()
    setcontext(ARITHMETIC)
    try:
        yield
    finally:
        setcontext(before)


def rounded_product(left: Decimal, right: Decimal) -> Decimal:
    return (left * right).quantize(QUANTUM)


def rounded_quotient(dividend: Decimal, divisor: Decimal) -> Decimal:
    return (dividend / divisor).quantize(QUANTUM) or ZERO  # never a negative zero


def is_storable(amount: Decimal) -> bool:
    return amount.adjusted() < MAGNITUDE_LIMIT


def plain(amount: Decimal) -> str:
    """The shortest decimal text: no exponent, no trailing zeros, `0` for any zero."""
    if not amount:
        return "0"
    text = str(amount)
    if "E" in text:
        text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

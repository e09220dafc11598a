"""Exact decimal arithmetic with one rounding.

- Amounts are `Decimal`, never float.
- Inside `arithmetic()` the operators are exact for every amount of an event or a table. The context has 80 digits;
  Python's default context has 28 and rounds without a word. `rounded_product` and `rounded_quotient` round once,
  half-even, from the exact rational value.
- `fold` enters `arithmetic()` by itself. The context is set around the work, because an operator takes a third of the
  time of a context's method.
- Every stored amount is made from ZERO by addition, so it has exactly eight decimals and is no negative zero. Equal
  amounts have equal bytes.
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
# The widest exact value is the product of two stored amounts of 24 + 8 digits: 64 digits. A notional has 36 + 16. Only
# a quotient can need more than 80 digits. It is then rounded twice, which is harmless: a quotient by a divisor of d
# digits is a tie, or differs from every tie within d + 1 digits after the quantum. So 32 + 33 digits are enough.
DIGITS = 80
ARITHMETIC = Context(prec=DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow])


@contextmanager
def arithmetic() -> Iterator[None]:
    """Make the decimal operators of this thread or task exact."""
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
    """Returns the shortest decimal text: no exponent, no trailing zeros, `0` for every zero."""
    if not amount:
        return "0"
    text = str(amount)
    if "E" in text:
        text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

"""Amounts as whole numbers of 0.00000001: a price of 101.25 is 10,125,000,000.

- Sums and differences are exact. `product` and `quotient` round once, half-even, from the exact rational value.
- Compiled code keeps numbers below 2**62 in a register. Larger ones become Python's own integers, which are slower and
  as exact. So `is_storable` compares with a number below 2**62 first, and `product` and `share` leave out the eight
  zeros of a whole number of shares.
"""

from typing import Final

ONE: Final = 100_000_000
HALF: Final = 50_000_000
#: the size of a stored amount is smaller: 1e24
LIMIT: Final = 10**32
#: below 2**62
SMALL: Final = 4_000_000_000_000_000_000

_BLOCK: Final = 10_000
#: four decimals: `.0500`
_FOUR: Final = [f".{n:04d}" for n in range(_BLOCK)]
#: four decimals without the zeros at their end: `.05`
_FIRST: Final = [four.rstrip("0") for four in _FOUR]
#: the next four decimals, without the zeros at their end: `05`
_LAST: Final = [first[1:] for first in _FIRST]


def is_storable(amount: int) -> bool:
    return -SMALL < amount < SMALL or -LIMIT < amount < LIMIT


def product(left: int, right: int) -> int:
    """Returns round(left * right)."""
    whole = left // ONE
    if whole * ONE == left:
        return whole * right
    exact = left * right
    rounded = exact // ONE
    rest = exact - rounded * ONE
    if rest > HALF or (rest == HALF and rounded & 1):
        rounded += 1
    return rounded


def quotient(dividend: int, divisor: int) -> int:
    """Returns round(dividend / divisor) as a whole number. The dividend has the scale of the result."""
    if divisor < 0:
        dividend = -dividend
        divisor = -divisor
    rounded = dividend // divisor
    twice = (dividend - rounded * divisor) * 2
    if twice > divisor or (twice == divisor and rounded & 1):
        rounded += 1
    return rounded


def share(amount: int, part: int, whole: int) -> int:
    """Returns round(amount * part / whole)."""
    parts = part // ONE
    wholes = whole // ONE
    if parts * ONE == part and wholes * ONE == whole:
        return quotient(amount * parts, wholes)
    return quotient(amount * part, whole)


def plain(amount: int) -> str:
    """Returns the shortest decimal text: no exponent, no trailing zeros, `0` for zero."""
    if amount < 0:
        return "-" + plain(-amount)
    whole = amount // ONE
    decimals = amount - whole * ONE
    if decimals == 0:
        return str(whole)
    first = decimals // _BLOCK
    last = decimals - first * _BLOCK
    if last == 0:
        return str(whole) + _FIRST[first]
    return str(whole) + _FOUR[first] + _LAST[last]

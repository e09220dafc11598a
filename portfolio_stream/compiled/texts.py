"""Checks and reads the texts of an event, character by character: `records.fields` has the rules.

The compiler makes a few machine instructions of each step. So reading a text takes less time than a look-up in a dict
of known texts, and a new text costs no more than a known one.
"""

from typing import Final

from portfolio_stream.compiled.amounts import ONE
from portfolio_stream.compiled.hints import i64

_LONGEST_AMOUNT: Final = 28  # characters: a sign, 18 digits, a point, 8 digits
_LONGEST_IDENTIFIER: Final = 64
_DIGITS: Final = 18
_DECIMALS: Final = 8
_SMALL_WHOLE: Final = 40_000_000_000  # its amounts are below 2**62


def is_identifier(text: str) -> bool:
    if not 0 < len(text) <= _LONGEST_IDENTIFIER or not text.isascii() or not text[0].isalnum():
        return False
    if text.replace("-", "").isalnum():  # as most are
        return True
    return text.replace("-", "").replace(".", "").replace("_", "").replace(":", "").isalnum()


def are_seconds(text: str, at: int) -> bool:
    """Whether the text ends, from `at` on, in seconds and milliseconds: `:59.123Z`."""
    return (
        len(text) == at + 8
        and ord(text[at]) == 58
        and 48 <= ord(text[at + 1]) <= 53
        and 48 <= ord(text[at + 2]) <= 57
        and ord(text[at + 3]) == 46
        and 48 <= ord(text[at + 4]) <= 57
        and 48 <= ord(text[at + 5]) <= 57
        and 48 <= ord(text[at + 6]) <= 57
        and ord(text[at + 7]) == 90
    )


def amount(text: str, is_signed: bool) -> int:
    """Returns a decimal text scaled. Raises ValueError for other texts, and for a sign unless `is_signed`."""
    length: i64 = len(text)
    if not 0 < length <= _LONGEST_AMOUNT:
        raise ValueError
    is_negative = ord(text[0]) == 45
    if is_negative and not is_signed:
        raise ValueError
    start: i64 = 1 if is_negative else 0
    at: i64 = start
    whole: i64 = 0  # below 10**18, or refused
    while at < length:
        digit: i64 = ord(text[at]) - 48
        if digit < 0 or digit > 9:
            break
        whole = whole * 10 + digit
        at += 1
        if at - start > _DIGITS:
            raise ValueError
    if at == start:
        raise ValueError
    decimals: i64 = 0 if at == length else _decimals(text, at)
    scaled: int
    if whole < _SMALL_WHOLE:
        small: i64 = whole * ONE + decimals
        scaled = small
    else:
        scaled = int(whole) * ONE + int(decimals)
    return -scaled if is_negative else scaled


def _decimals(text: str, point: i64) -> i64:
    length: i64 = len(text)
    if ord(text[point]) != 46 or not 1 < length - point <= _DECIMALS + 1:
        raise ValueError
    decimals: i64 = 0
    at: i64 = point + 1
    while at < length:
        digit: i64 = ord(text[at]) - 48
        if digit < 0 or digit > 9:
            raise ValueError
        decimals = decimals * 10 + digit
        at += 1
    while at < point + _DECIMALS + 1:
        decimals *= 10
        at += 1
    return decimals

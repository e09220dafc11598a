"""Reads a record's value by the contract: an event, or the code of the first check that fails.

Only the checks of the value stand here. `contract` makes the checks that need the key, the partition or the state.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

LARGEST = 64 * 1024  # bytes of a value
DEEPEST = 200  # of nested objects and arrays
#: the checks of the event's own fields come after these
COMMON = ("event_id", "portfolio_id", "type", "occurred_at")
TIME = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])(?:\.([0-9]+))?"
    r"(?:[Zz]|([+-](?:[01][0-9]|2[0-3]):[0-5][0-9]))"
)

Event = dict[str, Any]
Check = Callable[[Any], bool]


def moment_of(text: str) -> datetime | None:
    """The time in UTC, finer digits than milliseconds cut; None if the contract refuses the text."""
    match = TIME.fullmatch(text)
    if match is None:
        return None
    date, time, fraction, offset = match.groups()
    milliseconds = ((fraction or "") + "000")[:3]
    try:
        moment = datetime.fromisoformat(f"{date}T{time}.{milliseconds}{offset or '+00:00'}").astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return moment if 1970 <= moment.year <= 2100 else None


def matches(pattern: str) -> Check:
    whole = re.compile(pattern).fullmatch
    return lambda value: isinstance(value, str) and whole(value) is not None


def amount(is_allowed: Callable[[Fraction], bool]) -> Check:
    is_decimal = matches(r"-?[0-9]{1,18}(\.[0-9]{1,8})?")
    return lambda value: is_decimal(value) and is_allowed(Fraction(value))


def _is_time(value: Any) -> bool:
    return isinstance(value, str) and moment_of(value) is not None


def _is_ratio(value: Any) -> bool:
    return type(value) is int and 1 <= value <= 1_000_000


def _is_reason(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= 200


identifier = matches(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")
symbol = matches(r"[A-Z0-9._/-]{1,32}")
currency = matches(r"[A-Z]{3}")
signed, positive, not_negative = amount(lambda _: True), amount(lambda a: a > 0), amount(lambda a: a >= 0)

COMMON_CHECKS: Mapping[str, Check] = {"event_id": identifier, "portfolio_id": identifier, "occurred_at": _is_time}
#: fields of each type, in the contract's order
OWN: Mapping[str, Mapping[str, Check]] = {
    "trade": {
        "side": matches("buy|sell"),
        "symbol": symbol,
        "quantity": positive,
        "price": not_negative,
        "currency": currency,
        "fee": not_negative,
    },
    "cash": {"amount": signed, "currency": currency},
    "dividend": {"symbol": symbol, "amount": signed, "currency": currency},
    "fee": {"amount": positive, "currency": currency},
    "split": {"symbol": symbol, "numerator": _is_ratio, "denominator": _is_ratio},
    "adjustment": {
        "symbol": symbol,
        "quantity": signed,
        "cost_basis": signed,
        "currency": currency,
        "realised_pnl": signed,
        "reason": _is_reason,
    },
}
OPTIONAL = frozenset({"fee of trade", "realised_pnl of adjustment", "reason of adjustment"})


def read(value: bytes | None) -> Event | str:
    """The event's members, or a rejection code."""
    if not value:
        return "empty_value"
    if len(value) > LARGEST:
        return "too_large"
    members = _members(value)
    if members is None:
        return "malformed_json"
    if any(name not in members for name in COMMON):
        return "missing_field"
    kind = members["type"]
    if not isinstance(kind, str) or kind not in OWN:
        return "unknown_type"
    own = OWN[kind]
    if any(name not in members and f"{name} of {kind}" not in OPTIONAL for name in own):
        return "missing_field"
    checks = {**COMMON_CHECKS, **own}
    if not all(check(members[name]) for name, check in checks.items() if name in members):
        return "invalid_field"
    return members


def _members(value: bytes) -> Event | None:
    """A strict JSON object; None for anything else."""
    try:
        members = json.loads(value.decode(), parse_int=_integer, parse_float=lambda _: None, parse_constant=_refuse)
        json.dumps(members, ensure_ascii=False).encode()  # fails for half of a surrogate pair
        return members if isinstance(members, dict) and _depth(members) <= DEEPEST else None
    except (ValueError, RecursionError):
        return None


def _integer(text: str) -> int | None:
    return int(text) if len(text) <= 8 else None


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _depth(value: Any) -> int:
    if not isinstance(value, dict | list):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)

"""The strict reader: makes the contract's checks one by one, in the contract's order. Its answer is final.

- The reader is slow and complete: it accepts every valid value, and names the first fault of an invalid one.
- Strict means RFC 8259 for the whole value, also in fields that are ignored: UTF-8 without a byte order mark, no NaN or
  Infinity, nothing after the object, no half of a surrogate pair.
- The answer depends only on the bytes, not on Python's limits for recursion and for the digits of an integer. So
  nesting has a limit of our own, and only small integers are converted.
"""

import json
import re
from collections.abc import Sequence
from typing import Final, cast

from portfolio_stream.domain.events import Adjustment, Cash, Dividend, Event, EventType, Fee, Split, Trade
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.fields import COMMON, COMMON_NAMES, INVALID, OWN, EventField

VALUE_BYTES_LIMIT = 64 * 1024
NESTING_LIMIT = 200  # an event has 1; Python's JSON scanner can take far more on any stack

_EMPTY_VALUE = Rejected("empty_value", "the record has no value")
_TOO_LARGE = Rejected("too_large", f"the value has more than {VALUE_BYTES_LIMIT} bytes")
_NOT_UTF8 = Rejected("malformed_json", "the value is not UTF-8")
_NOT_JSON = Rejected("malformed_json", "the value is not JSON")
_TOO_DEEP = Rejected("malformed_json", f"the value is nested more than {NESTING_LIMIT} deep")
_NOT_UNICODE = Rejected("malformed_json", "the value has half of a surrogate pair")
_NOT_OBJECT = Rejected("malformed_json", "the value is not an object")
_UNKNOWN_TYPE = Rejected("unknown_type", f"type is not one of {', '.join(OWN)}")

_NUMBER: Final = object()  # a number that no field can have
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)
_ESCAPE = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})|\\.", re.DOTALL
)
_CLASSES: dict[EventType, type[Event]] = {
    "trade": Trade,
    "cash": Cash,
    "dividend": Dividend,
    "fee": Fee,
    "split": Split,
    "adjustment": Adjustment,
}


def classify(value: bytes | None) -> Event | Rejected:
    """Returns the event, or the rejection for the value's first fault."""
    members = read_members(value)
    return members if isinstance(members, Rejected) else _event(members)


def read_members(value: bytes | None) -> dict[str, object] | Rejected:
    """Returns the members of a strict JSON object. If a name comes twice, its last value counts."""
    if not value:
        return _EMPTY_VALUE
    if len(value) > VALUE_BYTES_LIMIT:
        return _TOO_LARGE
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return _NOT_UTF8
    if not is_surely_shallow(value) and _nesting(text) > NESTING_LIMIT:
        return _TOO_DEEP
    try:
        members = json.loads(text, parse_int=_integer, parse_float=_number, parse_constant=_refuse)
    except ValueError:
        return _NOT_JSON
    if "\\" in text and any(match[1] for match in _ESCAPE.finditer(text)):
        return _NOT_UNICODE
    return cast("dict[str, object]", members) if isinstance(members, dict) else _NOT_OBJECT


def _event(members: dict[str, object]) -> Event | Rejected:
    for name in COMMON_NAMES:
        if name not in members:
            return _missing(name)
    kind = members["type"]
    if not isinstance(kind, str) or kind not in OWN:
        return _UNKNOWN_TYPE
    values = read_values(members, (*COMMON, *OWN[kind]))
    if isinstance(values, Rejected):
        return values
    values.pop("reason", None)
    return _CLASSES[kind](**values)  # type: ignore[arg-type]  # _CLASSES and OWN fit together


def read_values(members: dict[str, object], fields: Sequence[EventField]) -> dict[str, object] | Rejected:
    """Returns the domain's values by field, or the rejection of the first missing or else first invalid field."""
    for field in fields:
        if field.name not in members and field.default is INVALID:
            return _missing(field.name)
    values: dict[str, object] = {}
    for field in fields:
        read = field.kind.read(members[field.name]) if field.name in members else field.default
        if read is INVALID:
            return _invalid(field)
        values[field.name] = read
    return values


def _missing(name: str) -> Rejected:
    return Rejected("missing_field", f"{name} is missing")


def _invalid(field: EventField) -> Rejected:
    return Rejected("invalid_field", f"{field.name} must be {field.kind.description}")


def is_surely_shallow(value: bytes) -> bool:
    return len(value) < 2 * NESTING_LIMIT or value.count(b"{") + value.count(b"[") <= NESTING_LIMIT


def _nesting(text: str) -> int:
    deepest = depth = 0
    for character in _STRING.sub("", text):
        if character in "{[":
            depth += 1
            deepest = max(deepest, depth)
        elif character in "}]":
            depth -= 1
    return deepest


def _integer(text: str) -> object:
    return int(text) if len(text) <= 8 else _NUMBER


def _number(_: str) -> object:
    return _NUMBER


def _refuse(constant: str) -> object:
    raise ValueError(constant)

"""Values in: what is accepted, what is refused, with which code and words; both readers give one answer."""

import json
import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from portfolio_stream.compiled.events import _classified
from portfolio_stream.compiled.events import decode as compiled_decode
from portfolio_stream.domain.events import Event
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.records.classifier import NESTING_LIMIT, VALUE_BYTES_LIMIT, classify
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.times import NORMAL_FORM, normal_form
from tests.unit.strategies import events, to_bytes

COMMON = {"event_id": "e-1", "portfolio_id": "P1", "occurred_at": "2026-11-23T04:30:00.123Z"}
VALID: dict[str, dict[str, Any]] = {
    "trade": {"side": "buy", "symbol": "ACME", "quantity": "12", "price": "101.25", "currency": "USD", "fee": "1.00"},
    "cash": {"amount": "-5", "currency": "USD"},
    "dividend": {"symbol": "ACME", "amount": "-5", "currency": "USD"},
    "fee": {"amount": "5", "currency": "USD"},
    "split": {"symbol": "ACME", "numerator": 2, "denominator": 1},
    "adjustment": {
        "symbol": "BRK.B/X-1_", "quantity": "-1", "cost_basis": "0.5", "currency": "USD", "realised_pnl": "1",
        "reason": "r",
    },
}  # fmt: skip


def members(kind: str, **other: object) -> dict[str, object]:
    return {**COMMON, "type": kind, **VALID[kind], **other}


def decode(value: bytes | None) -> Event | Rejected:
    """What the fast reader says, after making sure that the strict one and the compiled one say the same."""
    answer = decode_event(value)
    assert classify(value) == answer
    assert read_compiled(compiled_decode(value)) == read_compiled(_classified(value))
    assert (type(answer) is Rejected) == (type(compiled_decode(value)) is Rejected)
    return answer


def read_compiled(answer: Any) -> object:
    if isinstance(answer, Rejected):
        return answer
    names = ("kind", "event_id", "portfolio_id", "occurred_at", "window", "symbol", "currency", "is_buy")
    return *(getattr(answer, name) for name in names), answer.first, answer.second, answer.third


def code(value: bytes | None) -> str:
    answer = decode(value)
    return answer.code if isinstance(answer, Rejected) else "accepted"


def raw(text: str) -> bytes:
    """A cash event with `text` added as the last member."""
    return to_bytes(members("cash"))[:-1] + b"," + text.encode("utf-8", "surrogatepass") + b"}"


@pytest.mark.parametrize("kind", VALID)
def test_every_type_is_accepted(kind: str) -> None:
    """Each type of the contract, with and without its optional fields, and with unknown ones."""
    optional = {name: value for name, value in members(kind).items() if name not in ("fee", "realised_pnl", "reason")}
    for event in (members(kind), optional, members(kind, unknown={"a": [1.5e9, None, True]})):
        answer = decode(to_bytes(event))
        assert not isinstance(answer, Rejected)
        assert kind == answer.type


@pytest.mark.parametrize("kind", VALID)
def test_every_missing_field_is_named(kind: str) -> None:
    """Common ones first, in the contract's order; then the type's own."""
    names = ["event_id", "portfolio_id", "type", "occurred_at", *VALID[kind]]
    names = [name for name in names if name not in ("fee", "realised_pnl", "reason")]
    for start in range(len(names)):
        event = {name: value for name, value in members(kind).items() if name not in names[start:]}
        event |= {"type": kind} if start > 2 else {}
        assert Rejected("missing_field", f"{names[start]} is missing") == decode(to_bytes(event))


INVALID: dict[str, list[object]] = {
    "event_id": ["", "-a", "a b", "a" * 65, "é", "٣", "a\n", 1, None, True, [], {}],
    "portfolio_id": ["", ".a", "a/b", "a" * 65, 1, None],
    "occurred_at": [
        "", 1, None, "2026-11-23", "2026-11-23T04:30:00", "2026-11-23 04:30:00Z", "2026-W48-1T04:30:00Z",
        "2026-11-23T04:30Z", "2026-11-23T04:30:60Z", "2026-11-23T24:00:00Z", "2026-02-29T00:00:00Z",
        "2100-02-29T00:00:00.000Z", "2026-04-31T00:00:00.000Z", "2026-00-01T00:00:00.000Z", "2026-11-23T04:30:00.Z",
        "2026-11-23T04:30:00,1Z", "2026-11-23T04:30:00+0100", "2026-11-23T04:30:00+24:00", "2026-11-23T04:30:00+01:60",
        "2026-11-23T04:30:00ZZ", "2026-11-23T04:30:00.123Z\n", "٢٠٢٦-11-23T04:30:00Z", "1969-12-31T23:59:59.999Z",
        "2101-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01", "2100-12-31T23:59:59-00:01", "0000-01-01T00:00:00Z",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00",
    ],
    "side": ["", "BUY", "hold", None, 1],
    "symbol": ["", "acme", "A" * 33, "A B", None, "A\x00"],
    "quantity": ["0", "-0", "0.00", "-1", "", "1.", ".5", "+1", "1e3", "NaN", "Infinity", "1_0", " 1", "1 ", "1\n",
                 "٣", "1" * 19, "0.123456789", "1,5", 1, 1.5, None, True],
    "price": ["-1", "-0.00000001", "x", None, 0],
    "currency": ["", "usd", "US", "USDT", "US$", None, 840],
    "fee": ["-1", None, "", 0],
}  # fmt: skip


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in INVALID.items() for value in values])
def test_invalid_field_is_named(name: str, value: object) -> None:
    """A value that a field cannot have, null included, is refused in words that name the field and not the value."""
    answer = decode(to_bytes(members("trade", **{name: value})))
    assert isinstance(answer, Rejected)
    assert "invalid_field" == answer.code
    assert answer.detail.startswith(f"{name} must be ")


@pytest.mark.parametrize(
    ("kind", "other"),
    [
        ("fee", {"amount": "0"}),
        ("fee", {"amount": "-1"}),
        ("adjustment", {"reason": "x" * 201}),
        ("adjustment", {"reason": None}),
        ("adjustment", {"realised_pnl": None}),
        *(("split", {"numerator": n}) for n in (0, -1, 1_000_001, 10**30, True, "2", 1.0, 1.5, None)),
    ],
)
def test_invalid_field_of_other_types(kind: str, other: dict[str, object]) -> None:
    """Fields whose rules differ from a trade's; JSON's true, 1.0 and "2" are no integers."""
    assert "invalid_field" == code(to_bytes(members(kind, **other)))


@pytest.mark.parametrize("number", ["1.0", "1e0", "2E0", "01", "+1", "-0", "1" * 5000])
def test_integers_are_written_as_integers(number: str) -> None:
    """A split's ratio is a JSON integer by its text, and no length of digits breaks the reader."""
    value = to_bytes(members("split")).replace(b'"numerator":2', f'"numerator":{number}'.encode())
    assert code(value) in ("invalid_field", "malformed_json")


@pytest.mark.parametrize(
    "other",
    [
        {"quantity": "9" * 18 + ".12345678"},
        {"quantity": "000.00000001"},
        {"price": "-0"},
        {"fee": "-0.00"},
        {"event_id": "a" * 64},
        {"symbol": "A" * 32},
        {"occurred_at": "2026-11-23t04:30:00z"},
        {"occurred_at": "2026-11-23T04:30:00-00:00"},
        {"occurred_at": "1969-12-31T23:59:59-00:01"},
        {"occurred_at": "2101-01-01T00:00:00.5+00:01"},
        {"occurred_at": "2000-02-29T23:59:59." + "9" * 40 + "Z"},
    ],
)
def test_edges_that_are_accepted(other: dict[str, object]) -> None:
    """The last values that the contract's patterns let through."""
    assert "accepted" == code(to_bytes(members("trade", **other)))


def test_reason_counts_characters() -> None:
    """200 characters, not bytes and not UTF-16 units; escaped or not."""
    for ascii_only in (True, False):
        event = json.dumps(members("adjustment", reason="\U0001f600" * 200), ensure_ascii=ascii_only)
        assert "accepted" == code(event.encode())


@pytest.mark.parametrize(
    "value",
    [
        b" ", b"null", b"[]", b'"x"', b"1", b"{", b"{}}", b"{'a':1}", b'\xef\xbb\xbf{"a":1}', b'{"a":1,}', b"NaN",
        b"{}\x00",
        raw('"x":NaN'), raw('"x":Infinity'), raw('"x":-Infinity'), raw('"x":01'), raw('"x":1.'), raw('"x":"\t"'),
        raw('"x":"\\x41"'), raw('"x":"\\ud800"'), raw('"x":"\\udc00\\ud800"'), raw('"x":"\\ud800 padding"'),
        raw('"\\udfff":1'), raw('"x":"\ud800"'), raw('"x":1')[:-1], raw('"x":tru'), raw('"x":[1,]'),
        raw('"x":1}{"y":1'),
        to_bytes(members("cash"))[:-1] + b',"x":"\xff"}',
        to_bytes(members("cash"))[:-1] + b',"x":"\xc0\xaf"}',
        to_bytes(members("cash")).decode().encode("utf-16"),
        raw('"x":' + "[" * NESTING_LIMIT + "]" * NESTING_LIMIT),
        b"[" * 60_000,
        b'{"a":' * 10_000,
    ],
)  # fmt: skip
def test_malformed_json(value: bytes) -> None:
    """Not strict JSON, not an object, not UTF-8 anywhere, half a surrogate pair, nested too deep."""
    assert "malformed_json" == code(value)


@pytest.mark.parametrize(
    "text",
    [
        '"x":1e999', '"x":' + "9" * 10_000, '"x":-0', '"x":"\\ud83d\\ude00"', '"x":"\\\\ud800"', '"x":"\x7f\u2028"',
        '"x":' + "[" * (NESTING_LIMIT - 1) + "]" * (NESTING_LIMIT - 1), '"x":"' + "[{" * 500 + '"', '"":null',
        '"amount":"7"', '"\\u0061mount":"7"', '"amount":null,"amount":"7"', '"type":"trade","type":"cash"',
        '"event_id":{"a":[]},"event_id":"e"',
    ],
)  # fmt: skip
def test_strange_but_valid_json(text: str) -> None:
    """Unknown members may hold any JSON; of equal names the last wins, however it is spelt and whatever came before."""
    assert "accepted" == code(raw(text))


def test_last_of_equal_names_decides() -> None:
    """Also for `type`, and also when the last one is the bad one."""
    assert "invalid_field" == code(raw('"amount":5'))
    assert "unknown_type" == code(raw('"type":"transfer"'))
    assert "missing_field" == code(raw('"type":"trade"'))
    answer = decode(raw('"amount":"7"'))
    assert not isinstance(answer, Rejected)
    assert Decimal(7) == answer.amount  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", ["Trade", "", "transfer", None, 1, True, [], {}, ["trade"]])
def test_unknown_type(kind: object) -> None:
    """Whatever is in `type`, if it is not one of the six."""
    assert "unknown_type" == code(to_bytes(members("cash") | {"type": kind}))


def test_empty_and_large() -> None:
    """No value, no bytes, and the last size that is accepted."""
    assert ["empty_value", "empty_value"] == [code(None), code(b"")]
    room = VALUE_BYTES_LIMIT - len(raw('"x":""'))
    assert "accepted" == code(raw(f'"x":"{"y" * room}"'))
    assert "too_large" == code(raw(f'"x":"{"y" * (room + 1)}"'))


def test_precedence() -> None:
    """The first check that fails decides: an event is repaired step by step, and each step shows the next code."""
    event: dict[str, Any] = {"type": "nope", "quantity": None}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("missing_field", {"event_id": None, "portfolio_id": "?", "occurred_at": 1}),
        ("unknown_type", {"type": "trade"}),
        ("missing_field", VALID["trade"] | {"quantity": None}),
        ("invalid_field", COMMON),
        ("invalid_field", {"quantity": "1"}),
        ("accepted", {}),
    ]
    assert "malformed_json" == code(to_bytes(event) + b"x")
    for expected, repair in steps:
        assert expected == code(to_bytes(event))
        event |= repair


mutations = st.lists(
    st.tuples(st.integers(0, 400), st.sampled_from(("set", "cut", "add", "copy")), st.binary(min_size=1, max_size=3)),
    max_size=3,
)


def mutated(value: bytes, steps: list[tuple[int, str, bytes]]) -> bytes:
    for place, what, other in steps:
        at = place % (len(value) + 1)
        if what == "set":
            value = value[:at] + other + value[at + len(other) :]
        elif what == "cut":
            value = value[:at] + value[at + len(other) :]
        elif what == "add":
            value = value[:at] + other + value[at:]
        else:
            value = value[:at] + value[at // 2 : at] + value[at:]
    return value


@settings(max_examples=500)
@given(events, mutations)
@example(members("cash"), [(0, "set", b"{")])
def test_both_readers_agree_on_mutated_bytes(event: dict[str, Any], steps: list[tuple[int, str, bytes]]) -> None:
    """Whatever happens to a valid event's bytes, the fast reader never accepts what the strict one does not."""
    decode(mutated(to_bytes(event), steps))


json_values = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text(max_size=8),
        st.sampled_from(("1", "-0", "1.5", "USD", "buy", "trade", "2026-11-23T04:30:00+05:30", "0.000000001", "ACME")),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=4,
)  # fmt: skip


@settings(max_examples=500)
@given(events, st.lists(st.tuples(st.integers(0, 12), json_values), max_size=2), st.booleans())
def test_both_readers_agree_on_other_values(
    event: dict[str, Any], other: list[tuple[int, object]], ascii: bool
) -> None:
    """Also where the bytes are JSON and only a member's value or presence changed."""
    names = list(event)
    for number, value in other:
        event[names[number] if number < len(names) else f"x{number}"] = value
    decode(json.dumps(event, ensure_ascii=ascii).encode("utf-8", "surrogatepass"))


@given(st.datetimes(), st.integers(-1439, 1439), st.text("0123456789", max_size=12))
def test_times_are_utc_milliseconds(moment: Any, minutes: int, fraction: str) -> None:
    """Any offset is applied, finer digits are cut, and the result is the normal form of itself."""
    sign, (hours, rest) = "-" if minutes < 0 else "+", divmod(abs(minutes), 60)
    digits = f".{fraction}" if fraction else ""
    normal = normal_form(f"{moment:%Y-%m-%dT%H:%M:%S}{digits}{sign}{hours:02d}:{rest:02d}".rjust(25 + len(digits), "0"))
    if normal is not None:
        assert re.fullmatch(NORMAL_FORM, normal) or normal.startswith("2100")
        assert normal == normal_form(normal)
        assert f"{fraction:0<3}"[:3] == normal[-4:-1]


@given(st.dates(), st.times())
def test_fast_time_pattern_is_the_calendar(day: Any, time: Any) -> None:
    """What the spelt-out calendar accepts, the strict reader gives back unchanged: all of 1970 to 2099."""
    text = f"{day.isoformat()}T{time:%H:%M:%S}.000Z"
    assert bool(re.fullmatch(NORMAL_FORM, text)) == (1970 <= day.year <= 2099)
    if re.fullmatch(NORMAL_FORM, text):
        assert text == normal_form(text)


def test_fast_time_pattern_knows_leap_days() -> None:
    """29 February of each year, and the days after the last of each month."""
    for year in range(1970, 2100):
        for month_day in ("02-29", "02-30", "04-30", "04-31", "12-31", "12-32", "01-00"):
            text = f"{year}-{month_day}T00:00:00.000Z"
            assert (normal_form(text) is not None) == bool(re.fullmatch(NORMAL_FORM, text)), text

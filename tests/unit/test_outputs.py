"""Bytes out: ProcessedEvent, dead letters, table values and keys, the partitioner."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.domain.activity import Activity, Windows
from portfolio_stream.domain.money import plain
from portfolio_stream.domain.portfolios import Portfolio, with_windows
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.rejection import KEY_MISMATCH
from portfolio_stream.kafka.partitioning import murmur2, partition_of
from portfolio_stream.records import outputs, values
from tables import activity, portfolios, positions, seen_events


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"), ("-0.00", "0"), ("1E+3", "1000"), ("100", "100"), ("1.50", "1.5"), ("-1.00", "-1"),
        ("1E-8", "0.00000001"), ("-0.00000100", "-0.000001"), ("123456789012345678.12345678",) * 2,
    ],
)  # fmt: skip
def test_plain(text: str, expected: str) -> None:
    """No exponent, no trailing zeros, zero is 0; no digit before the point is lost."""
    assert expected == plain(Decimal(text))


@given(st.decimals(allow_nan=False, allow_infinity=False, places=8))
def test_plain_keeps_the_value(amount: Decimal) -> None:
    """The text is the same number, and of the shape that the contract accepts."""
    text = plain(amount)
    assert Decimal(text) == amount
    assert not ("." in text and text[-1] in "0.")


@pytest.mark.parametrize(
    ("key", "signed_hash"),
    [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ],
)
def test_murmur2_is_kafkas(key: bytes, signed_hash: int) -> None:
    """The vectors of Kafka's own UtilsTest."""
    assert signed_hash & 0xFFFFFFFF == murmur2(key)
    assert (signed_hash & 0x7FFFFFFF) % 8 == partition_of(key, 8)


def test_dead_letter_keeps_the_original() -> None:
    """Key, bytes and headers stay; the reason follows in KIP-1034's headers, as UTF-8 text."""
    original = [("trace", b"\x00\xff"), ("nothing", None)]
    letter = outputs.dead_letter(b"k", b"v", original, KEY_MISMATCH, "portfolio-events", 3, 1041)
    assert (b"k", b"v") == (letter.key, letter.value)
    assert [
        *original,
        ("__streams.errors.exception", b"key_mismatch"),
        ("__streams.errors.message", b"the record's key is not portfolio_id"),
        ("__streams.errors.topic", b"portfolio-events"),
        ("__streams.errors.partition", b"3"),
        ("__streams.errors.offset", b"1041"),
    ] == letter.headers


def test_dead_letter_that_does_not_fit_is_cut() -> None:
    """Only what the dead-letter topic cannot hold is cut to 64 KiB, and a header says so."""
    fits = outputs.dead_letter(b"k", b"v" * 4_000_000, (), KEY_MISMATCH, "t", 0, 0)
    assert (4_000_000, 5) == (len(fits.value or b""), len(fits.headers))
    cut = outputs.dead_letter(b"k", b"v" * 5_000_000, [("h", b"1")], KEY_MISMATCH, "t", 0, 0)
    assert (b"v" * 65536, ("h", b"1")) == (cut.value, cut.headers[0])
    assert (outputs.TRUNCATED, b"value=5000000") == cut.headers[-1]
    key = outputs.dead_letter(b"k" * 5_000_000, None, [("h", b"1" * 5_000_000)], KEY_MISMATCH, "t", 0, 0)
    assert (b"k" * 65536, None) == (key.key, key.value)
    assert (outputs.TRUNCATED, b"key=5000000,headers=1") == key.headers[-1]
    assert {name for name, _ in key.headers} == outputs.ADDED_HEADERS


@given(
    st.lists(st.tuples(st.sampled_from([*sorted(outputs.ADDED_HEADERS), "trace", ""]), st.none() | st.binary())),
    st.booleans(),
)
def test_the_origin_of_a_dead_letter_is_what_it_was_made_of(
    original: list[tuple[str, bytes | None]], is_cut: bool
) -> None:
    """Also where the original came with headers of the same names, or was a dead letter itself."""
    value = b"v" * (5_000_000 if is_cut else 1)
    letter = outputs.dead_letter(b"k", value, original, KEY_MISMATCH, "portfolio-events", 3, 1041)
    cut = "value=5000000" if is_cut else None
    assert outputs.Origin(
        "key_mismatch", "the record's key is not portfolio_id", "portfolio-events", 3, 1041, original, cut
    ) == outputs.origin_of(letter.headers)


@pytest.mark.parametrize("change", [lambda h: [], lambda h: h[1:], lambda h: h[::-1], lambda h: [*h, ("x", b"")]])
def test_headers_of_no_dead_letter(change: Callable[[list[Any]], list[Any]]) -> None:
    """Something else stands in the topic: nothing is guessed."""
    letter = outputs.dead_letter(b"k", b"v", (), KEY_MISMATCH, "t", 0, 0)
    assert outputs.origin_of(change(letter.headers)) is None


@pytest.mark.parametrize("number", [b"-1", b"", None, b"9" * 5000, b"9223372036854775808", "٣".encode()])
@pytest.mark.parametrize("place", [3, 4])
def test_a_forged_number_makes_no_origin(place: int, number: bytes | None) -> None:
    """Partition and offset are numbers that Kafka can have, or somebody else wrote the record; no number raises."""
    headers = outputs.dead_letter(b"k", b"v", (), KEY_MISMATCH, "t", 0, 0).headers
    headers[place] = (headers[place][0], number)
    assert outputs.origin_of(headers) is None


def test_keys() -> None:
    """Parts joined by 0x00; a portfolio's seen events share a prefix that no other portfolio's have."""
    assert b"P1\x00ACME" == positions.key("P1", "ACME")
    assert b"P1" == portfolios.key("P1")
    assert b"P1\x002026-11-23T04:30:00Z" == activity.key("P1", "2026-11-23T04:30:00Z")
    assert ("P1", "e-1") == values.split_key(seen_events.key("P1", "e-1"))
    assert seen_events.key("P1", "e").startswith(seen_events.prefix("P1"))
    assert not seen_events.key("P10", "e").startswith(seen_events.prefix("P1"))


def test_table_values_are_pinned() -> None:
    """The stored bytes: a change here needs a new format version, or no state of before can be read."""
    d = Decimal
    position = Position("USD", d("12.00000000"), d("1215.00000000"), d("101.25000000"), d("0.00000000"))
    assert bytes.fromhex(
        "9602a3555344ab31322e3030303030303030ad313231352e3030303030303030ac3130312e3235303030303030a4304 52d38".replace(
            " ", ""
        )
    ) == values.encode_position(position)
    portfolio = Portfolio(2, {"USD": d("1.00000000"), "EUR": d("2.00000000")}, {}, {}, {"trade": 2}, "a", "b")
    head = b"\x9a\x02\x02\x82\xa3EUR\xaa2.00000000\xa3USD\xaa1.00000000\x80\x80\x81\xa5trade\x02\xa1a\xa1b"
    assert head + b"\xa0\xc4\x00" == values.encode_portfolio(portfolio)
    windows = with_windows(portfolio, Windows("m", 0x101))
    assert head + b"\xa1m\xc4\x02\x01\x01" == values.encode_portfolio(windows)
    assert windows == values.decode_portfolio(values.encode_portfolio(windows))
    activity = Activity(3, {"USD": d("1.00000000"), "EUR": d("0.00000000")})
    assert b"\x93\x02\x03\x82\xa3EUR\xa40E-8\xa3USD\xaa1.00000000" == values.encode_activity(activity)
    assert activity == values.decode_activity(values.encode_activity(activity))
    seen = values.SeenEvent(7, 1041, bytes(16))
    assert b"\x94\x02\x07\xcd\x04\x11\xc4\x10" + bytes(16) == values.encode_seen_event(seen)
    assert seen == values.decode_seen_event(values.encode_seen_event(seen))


def test_fingerprint_is_pinned() -> None:
    """BLAKE2b with 128 bits, as any tool computes it."""
    assert "cae66941d9efbd404e4d88758ea67670" == values.fingerprint(b"").hex()


def test_values_are_shown_in_the_contracts_words() -> None:
    """Plain decimals, sorted currencies, the fingerprint in hex."""
    d = Decimal
    position = Position("USD", d("12.00000000"), d("1215.00000000"), d("101.25000000"), d("0.00000000"))
    assert {
        "currency": "USD", "quantity": "12", "cost_basis": "1215", "average_cost": "101.25", "realised_pnl": "0",
    } == values.show_position(position)  # fmt: skip
    portfolio = Portfolio(2, {"USD": d(1), "EUR": d(2)}, {}, {}, {"trade": 2}, "a", "b")
    shown = values.show_portfolio(portfolio)
    assert ["EUR", "USD"] == list(shown["cash"])  # type: ignore[call-overload]
    minute = Activity(2, {"USD": d("1.50000000"), "EUR": d("0.00000000")})
    assert {"events": 2, "notional": {"EUR": "0", "USD": "1.5"}} == values.show_activity(minute)
    assert {"sequence": 1, "offset": 2, "fingerprint": "ff"} == values.show_seen_event(values.SeenEvent(1, 2, b"\xff"))

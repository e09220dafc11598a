"""Bytes out: ProcessedEvent, dead letters, the partitioner."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.domain.money import plain
from portfolio_stream.domain.rejection import KEY_MISMATCH
from portfolio_stream.kafka.partitioning import murmur2, partition_of
from portfolio_stream.records import outputs


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
    assert outputs.DeadLetterOrigin(
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

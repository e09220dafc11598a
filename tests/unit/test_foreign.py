"""What strangers wrote, as it is shown and counted."""

import sys
import unicodedata

import pytest

from portfolio_stream.foreign import INT64_LIMIT, printable, printable_lines, whole_number


def test_no_character_that_a_terminal_obeys_is_left() -> None:
    """Of all of Unicode: no control character, override, surrogate or line separator; text stays as it is."""
    obeyed = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    everything = "".join(map(chr, range(sys.maxunicode + 1)))
    assert not {c for c in set(printable(everything)) if unicodedata.category(c) in obeyed}
    assert "Zoë 日本 €1 \\n" == printable("Zoë 日本 €1 \\n")


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        (b"\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        (b"a\xff\n", r"a\xff\n"),
        ("\x7f\x9b31m\u202e\u2028", r"\x7f\x9b31m\u202e\u2028"),
        ("\ud800", r"\ud800"),
        (None, "-"),
        (b"", ""),
    ],
)
def test_escapes_are_visible(content: bytes | str | None, shown: str) -> None:
    """Bytes that are no UTF-8 too."""
    assert shown == printable(content)


def test_lines_of_our_own_stay_lines() -> None:
    """Only the line end does: a carriage return would write over the line."""
    assert "a\nb\\rc\n" == printable_lines("a\nb\rc\n")


@pytest.mark.parametrize("digits", [b"0", b"007", str(INT64_LIMIT).encode(), "41"])
def test_a_number(digits: bytes | str) -> None:
    """ASCII digits, up to the highest offset that Kafka can have."""
    assert int(digits) == whole_number(digits)


@pytest.mark.parametrize(
    "digits", [b"", b"-1", b"+1", b" 1", b"1_0", b"9" * 5000, str(INT64_LIMIT + 1).encode(), "٣", "²", b"\xff", "1\n"]
)
def test_no_number(digits: bytes | str) -> None:
    """Nothing that only `int` takes for one, and nothing that makes `int` raise."""
    assert whole_number(digits) is None

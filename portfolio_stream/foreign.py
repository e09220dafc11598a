"""What strangers wrote, made fit to print and to count: keys, values, headers, names, addresses, a broker's words.

1. Text for people never holds a control character, a bidirectional override or a line separator: a terminal would obey
   it. Such a character is shown as an escape (`\\x1b`), and so is a byte that is no UTF-8.
2. A number is ASCII digits in the range of Kafka's int64, or it is no number: `int` reads other scripts' digits too,
   and raises for very long ones.
"""

INT64_LIMIT = (1 << 63) - 1  # the highest offset that Kafka can have
INT64_DIGITS = len(str(INT64_LIMIT))


def printable(content: bytes | str | None) -> str:
    """One line for a terminal; - for None."""
    if content is None:
        return "-"
    text = content.decode(errors="backslashreplace") if isinstance(content, bytes) else content
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """As `printable`, but the text's own line ends stay."""
    return "\n".join(map(printable, text.split("\n")))


def whole_number(digits: bytes | str) -> int | None:
    """The number from 0 to INT64_LIMIT that the ASCII digits are; None if they are none."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= INT64_DIGITS):
        return None
    number = int(digits)
    return number if number <= INT64_LIMIT else None

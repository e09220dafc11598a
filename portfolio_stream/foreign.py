"""Make text and numbers from strangers safe to print and to calculate with: keys, values, headers, names, addresses,
a broker's messages.

1. Printed text has no control characters, bidirectional overrides or line separators, because a terminal would obey
   them. Such a character becomes an escape (`\\x1b`), and so does a byte that is not UTF-8.
2. A number has only ASCII digits and is in the range of Kafka's int64. `int` alone would accept other scripts' digits
   too, and would raise for very long ones.
"""

INT64_LIMIT = (1 << 63) - 1  # the highest offset that Kafka can have
INT64_DIGITS = len(str(INT64_LIMIT))


def printable(content: bytes | str | None) -> str:
    """Returns one line that is safe for a terminal; `-` for None."""
    if content is None:
        return "-"
    text = content.decode(errors="backslashreplace") if isinstance(content, bytes) else content
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def printable_lines(text: str) -> str:
    """Like `printable`, but keeps the text's line ends."""
    return "\n".join(map(printable, text.split("\n")))


def whole_number(digits: bytes | str) -> int | None:
    """Returns the number, or None unless all characters are ASCII digits and the number is at most INT64_LIMIT."""
    if not (digits.isascii() and digits.isdigit() and len(digits) <= INT64_DIGITS):
        return None
    number = int(digits)
    return number if number <= INT64_LIMIT else None

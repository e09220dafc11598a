"""Pages as values: what a query means, cursors, and the merge of several workers' rows."""

from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from portfolio_stream.http.problem import Problem
from portfolio_stream.web.paging import PageQuery, Rows, TableRow, cursor_of, key_of, merge, read_query
from tables.table import join_key


def asked(query: str, key_parts: int = 2) -> PageQuery:
    found = read_query("positions", key_parts, query)
    assert isinstance(found, PageQuery), found
    return found


@pytest.mark.parametrize(
    ("query", "lower", "upper"),
    [
        ("", b"", None),
        ("prefix=P1", b"P1", b"P2"),
        ("prefix=P1/", b"P1\0", b"P1\1"),
        ("prefix=P1%2FBRK/B", b"P1\0BRK/B", b"P1\0BRK/C"),
        ("prefix=%C3%A9", "é".encode(), b"\xc3\xaa"),
        ("from=P1&to=P2/X", b"P1", b"P2\0X"),
        ("prefix=P1&from=P15&to=P3", b"P15", b"P2"),
        ("prefix=P1&from=P0&to=P1/B", b"P1", b"P1\0B"),
        ("prefix=&from=&to=", b"", None),
    ],
)
def test_a_range_of_keys(query: str, lower: bytes, upper: bytes | None) -> None:
    """Of the stored key: a slash between the parts, and only the last part may have its own."""
    found = asked(query)
    assert (lower, upper, 100) == (found.lower, found.upper, found.limit)


def test_a_slash_of_a_single_part() -> None:
    """It is no separator."""
    assert b"BRK/B" == asked("from=BRK/B", key_parts=1).lower


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=1001",
        "limit=-1",
        "limit=ten",
        "limit=",
        "limit=1e2",
        "limit=\u0661",
        "limt=10",
        "limit",
        "prefix=a&prefix=b",
        "prefix=%ff",
        "prefix=%zz",
        "prefix=a%00b",
        "cursor=",
        "cursor=nonsense",
        "cursor=%C3%A9",
    ],
)
def test_what_is_no_query_is_refused(query: str) -> None:
    """A typing error must not show another page than was meant."""
    assert isinstance(read_query("positions", 2, query), Problem)


def test_a_cursor_goes_on_after_its_key() -> None:
    """With any limit; not in another table or range, not changed, not shortened."""
    first = asked("prefix=P1&limit=5")
    cursor = cursor_of(first, b"P1\0B")
    onward = asked(f"prefix=P1&limit=7&cursor={cursor}")
    assert (b"P1\0B\0", b"P2", 7) == (onward.start, onward.upper, onward.limit)
    assert b"P1\0B" == key_of(first, cursor)
    for other in ("", "prefix=P", "prefix=P1&to=P1/C"):
        assert key_of(asked(other), cursor) is None
    other_table = read_query("seen_events", 2, "prefix=P1")
    assert isinstance(other_table, PageQuery)
    assert key_of(other_table, cursor) is None
    for broken in (cursor[:-1], cursor + "A", cursor.swapcase(), "A" * 12):
        assert key_of(first, broken) is None


def row(key: str, partition: int) -> TableRow:
    return TableRow((key,), msgspec.Raw(b"{}"), partition)


@given(
    keys=st.lists(st.text("abc", min_size=1, max_size=3), unique=True, max_size=30),
    places=st.lists(st.integers(0, 2), min_size=30, max_size=30),
    limits=st.lists(st.integers(1, 8), min_size=1, max_size=5),
    short=st.integers(1, 4),
)
def test_pages_together_are_the_table(keys: list[str], places: list[int], limits: list[int], short: int) -> None:
    """Whatever the limits, and however short a worker's own pages are: each key once, in order, and an end."""
    tables = [sorted(key for key, place in zip(keys, places, strict=False) if place == n) for n in range(3)]
    seen: list[str] = []
    after = b""
    for turn in range(200):
        limit = limits[turn % len(limits)]
        page = merge([_own_page(table, after, min(limit, short)) for table in tables], limit)
        assert len(page.rows) <= limit
        seen += [one.key[0] for one in page.rows]
        if page.through is None:
            break
        assert page.through > after
        after = page.through
    else:
        pytest.fail("no end")
    assert sorted(keys) == seen


def _own_page(table: Sequence[str], after: bytes, limit: int) -> Rows:
    left = [key for key in table if join_key(key) > after]
    shown = [row(key, 0) for key in left[:limit]]
    return Rows(shown, join_key(left[limit - 1]) if len(left) > limit else None)


def test_a_worker_that_read_much_and_found_little_holds_the_page_back() -> None:
    """Behind where it stopped it may have keys that come before another's."""
    page = merge([Rows([], b"b"), Rows([row("a", 1), row("c", 1)], None)], 10)
    assert (["a"], b"b") == ([one.key[0] for one in page.rows], page.through)

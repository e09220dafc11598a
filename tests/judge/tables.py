"""Reads tables and META out of a changelog, with msgpack alone, and compares the tables with a replay."""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import msgspec

from tests.judge.arithmetic import text

META_KEY = b"\x00META"  # how far the source is folded, and from where
SKIP_KEY = b"\x00SKIP"  # and a source offset in 8 bytes: an operator moved that record to the dead letters
#: tables that only help other tables; no reader sees them
HIDDEN = frozenset({"seen_chunks"})

Key = tuple[str, ...]
unpack = msgspec.msgpack.decode


def compacted(records: Iterable[Any]) -> dict[bytes, bytes]:
    """The newest value of each key."""
    found: dict[bytes, bytes] = {}
    for record in records:
        if record.value is None:
            found.pop(record.key, None)
        else:
            found[record.key] = record.value
    return found


def skipped(records: Iterable[Any]) -> set[int]:
    """The source offsets that an operator moved to the dead letters."""
    return {int.from_bytes(r.key[len(SKIP_KEY) :], "big") for r in records if r.key.startswith(SKIP_KEY)}


def read_tables(changelog: Mapping[bytes, bytes], window: int) -> dict[Key, Mapping[str, Any]]:
    """All values by table and key. An event that has left the `window` of its portfolio is no part of a table."""
    found: dict[Key, Mapping[str, Any]] = {}
    for key, value in changelog.items():
        name, *parts = (part.decode() for part in key.split(b"\x00"))
        if name and name not in HIDDEN:
            found[name, *parts] = READERS[name](value)
    sequences = {key[1]: value["sequence"] for key, value in found.items() if key[0] == "portfolios"}
    return {
        key: value
        for key, value in found.items()
        if key[0] != "seen_events" or value["sequence"] > sequences.get(key[1], 0) - window
    }


def _position(value: bytes) -> Mapping[str, Any]:
    _, currency, *amounts = unpack(value)
    names = ("quantity", "cost_basis", "average_cost", "realised_pnl")
    return {"currency": currency, **dict(zip(names, map(_plain, amounts), strict=True))}


def _portfolio(value: bytes) -> Mapping[str, Any]:
    _, sequence, accounts, counts, earliest, latest, *_ = unpack(value)
    names = ("cash", "fees", "dividends")
    books = {name: _amounts(accounts, place, 4) for place, name in enumerate(names, start=1)}
    events = {kind: count for kind, count in zip(TYPES, counts, strict=True) if count}
    return {"sequence": sequence, "events": events, **books, "earliest": earliest, "latest": latest}


def _activity(value: bytes) -> Mapping[str, Any]:
    _, events, notional = unpack(value)
    return {"events": events, "notional": _amounts(notional, 1, 2)}


def _seen_event(value: bytes) -> Mapping[str, Any]:
    assert 33 == len(value)
    return {"sequence": int.from_bytes(value[1:9], "big"), "offset": int.from_bytes(value[9:17], "big")}


READERS = {"positions": _position, "portfolios": _portfolio, "activity": _activity, "seen_events": _seen_event}
#: a portfolio's counts have this order
TYPES = ("trade", "cash", "dividend", "fee", "split", "adjustment")


def _plain(scaled: int | str) -> str:
    return text(Fraction(int(scaled), 10**8))


def _amounts(flat: Sequence[Any], place: int, width: int) -> dict[str, str]:
    """By currency, which stands at the beginning of each row of the flat list; None is no amount."""
    rows = [flat[start : start + width] for start in range(0, len(flat), width)]
    return {row[0]: _plain(row[place]) for row in rows if row[place] is not None}


def table_anomalies(expected: Mapping[Key, Any], found: Mapping[Key, Any]) -> list[str]:
    """How the tables differ from the replay's tables."""
    return [
        f"{'/'.join(key)} is {found.get(key)}, the replay gives {expected.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]

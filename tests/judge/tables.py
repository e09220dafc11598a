"""Reads tables and META out of a changelog, with msgpack alone, and compares the tables with a replay."""

from collections.abc import Iterable, Mapping
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
            found[name, *parts] = READERS[name](unpack(value))
    sequences = {key[1]: value["sequence"] for key, value in found.items() if key[0] == "portfolios"}
    return {
        key: value
        for key, value in found.items()
        if key[0] != "seen_events" or value["sequence"] > sequences.get(key[1], 0) - window
    }


def _position(members: Any) -> Mapping[str, Any]:
    _, currency, *amounts = members
    names = ("quantity", "cost_basis", "average_cost", "realised_pnl")
    return {"currency": currency, **dict(zip(names, map(_plain, amounts), strict=True))}


def _portfolio(members: Any) -> Mapping[str, Any]:
    _, sequence, cash, fees, dividends, events, earliest, latest, *_ = members
    books = {"cash": _amounts(cash), "fees": _amounts(fees), "dividends": _amounts(dividends)}
    return {"sequence": sequence, "events": events, **books, "earliest": earliest, "latest": latest}


def _activity(members: Any) -> Mapping[str, Any]:
    _, events, notional = members
    return {"events": events, "notional": _amounts(notional)}


def _seen_event(members: Any) -> Mapping[str, Any]:
    _, sequence, offset, _ = members
    return {"sequence": sequence, "offset": offset}


READERS = {"positions": _position, "portfolios": _portfolio, "activity": _activity, "seen_events": _seen_event}


def _plain(amount: str) -> str:
    return text(Fraction(amount))


def _amounts(amounts: Mapping[str, str]) -> dict[str, str]:
    return {currency: _plain(amount) for currency, amount in amounts.items()}


def table_anomalies(expected: Mapping[Key, Any], found: Mapping[Key, Any]) -> list[str]:
    """How the tables differ from the replay's tables."""
    return [
        f"{'/'.join(key)} is {found.get(key)}, the replay gives {expected.get(key)}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]

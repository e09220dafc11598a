"""A tiny good history, and what the tests of the auditor do with it."""

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import msgspec

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import DECISION_KEY, Effect
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.tables import AuditedSeen
from portfolio_stream.compiled.seen import seen_row
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tests.unit.table_values import table_value

SECRETS = ("P1", "101.25", "1216")  # a portfolio and amounts of the history below: no anomaly may show one
TOPIC_ID = "00112233445566778899aabbccddeeff"
NOON = 1_795_435_200_000  # of the day on which the events below occurred
MOVED = msgspec.msgpack.encode({"version": 1, "code": "operator_dead_letter"})
ENCODERS = {"Activity": ACTIVITY.encode, "Portfolio": PORTFOLIOS.encode, "Position": POSITIONS.encode}


def record(offset: int, value: bytes | None, key: bytes | None = b"P1", **other: Any) -> Any:
    """A record as a stock consumer gives it."""
    return SimpleNamespace(
        **({"offset": offset, "timestamp": NOON + offset, "key": key, "value": value, "headers": ()} | other)
    )


def cash(event_id: str, amount: str = "101.25") -> bytes:
    return (
        f'{{"event_id":"{event_id}","type":"cash","portfolio_id":"P1","occurred_at":"2026-11-23T04:30:00Z"'
        f',"amount":"{amount}","currency":"USD"}}'
    ).encode()


SOURCE = (
    record(0, cash("e-0")),
    record(1, cash("e-1")),
    record(2, b"not json"),
    record(4, cash("e-1")),  # 3 was a transaction's marker
    record(5, cash("e-5")),
    record(6, cash("e-0", "7"), headers=(("trace", b"x"),)),
)


def replayed(*moved: int) -> SourceReplay:
    """Three accepted events, one duplicate, two rejected, in the only partition; an operator may have moved some."""
    replay = SourceReplay(0, 1, "in", 10_000)
    replay.moved |= set(moved)
    replay.feed(SOURCE)
    return replay


def written(expected: dict[int, Effect]) -> list[Effect]:
    """What a correct system would have written: each effect once, in order, with offsets of its own topic."""
    return [msgspec.structs.replace(effect, offset=10 + at) for at, effect in enumerate(expected.values())]


def changed(effect: Effect, **change: Any) -> Effect:
    return msgspec.structs.replace(effect, **change)


def changelog_of(replay: SourceReplay) -> list[Any]:
    """The records that a correct system would have written."""
    return [record(20 + at, encode(value), key) for at, (key, value) in enumerate(replay.values.items())]


def encode(value: Any) -> bytes:
    if isinstance(value, AuditedSeen):
        return seen_row(value.sequence, value.offset, value.fingerprint)
    return ENCODERS[type(value).__name__](table_value(value))  # type: ignore[operator]


def decision_key(source: int) -> bytes:
    return DECISION_KEY + source.to_bytes(8, "big")


def kinds(anomalies: Iterable[HistoryAnomaly]) -> set[str]:
    """And none of them tells a secret."""
    named = list(anomalies)
    shown = "".join(map(str, named))
    assert not [secret for secret in SECRETS if secret in shown]
    return {anomaly.kind for anomaly in named}

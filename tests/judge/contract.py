"""Replays one source partition by the contract: each record gives an output, a dead letter, or nothing.

What a record gives depends only on the records before it in the partition, and on what an operator has moved to the
dead letters.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from aiokafka.partitioner import murmur2

from tests.judge import events
from tests.judge.arithmetic import OracleAccount, text

OPERATOR = "operator_dead_letter"


class Output(NamedTuple):
    """A record of processed-events."""

    #: the source record's offset
    source: int
    event_id: str
    key: bytes
    value: bytes
    timestamp: int


class Letter(NamedTuple):
    """A record of the dead letters."""

    source: int
    code: str
    key: bytes | None
    value: bytes | None
    timestamp: int


class Seen(NamedTuple):
    """An accepted event of a portfolio."""

    sequence: int
    offset: int
    digest: bytes


class Holder:
    """What the replay knows of one portfolio."""

    def __init__(self) -> None:
        self.account = OracleAccount()
        self.types: Counter[str] = Counter()
        self.times: list[datetime] = []
        #: the newest accepted events by id, oldest first
        self.seen: dict[str, Seen] = {}


class ContractReplay:
    def __init__(self, partition: int, partitions: int, window: int) -> None:
        """`window` is how many accepted events of a portfolio count for the search of duplicates."""
        self.partition = partition
        self.holders: dict[str, Holder] = {}
        #: source offsets of the records that an operator moved to the dead letters
        self.skipped: set[int] = set()
        self.duplicates = 0
        self._partitions = partitions
        self._window = window

    def add(self, record: Any) -> Output | Letter | None:
        """What the partition's next record gives; None for a duplicate."""
        answer = self._answer(record)
        if isinstance(answer, str):
            return Letter(record.offset, answer, record.key, record.value, record.timestamp)
        return answer

    def _answer(self, record: Any) -> Output | str | None:
        if record.offset in self.skipped:
            return OPERATOR
        event = events.read(record.value)
        if isinstance(event, str):
            return event
        if record.key != event["portfolio_id"].encode():
            return "key_mismatch"
        if partition_of(record.key, self._partitions) != self.partition:
            return "wrong_partition"
        holder = self.holders.setdefault(event["portfolio_id"], Holder())
        digest = hashlib.sha256(record.value).digest()
        if (seen := holder.seen.get(event["event_id"])) is not None:
            if seen.digest != digest:
                return "event_id_conflict"
            self.duplicates += 1
            return None
        moment = events.moment_of(event["occurred_at"])
        assert moment is not None
        shown = holder.account.apply(event, record.timestamp)
        if isinstance(shown, str):
            return shown
        sequence = holder.account.sequence
        holder.types[event["type"]] += 1
        holder.times = [min([*holder.times, moment]), max([*holder.times, moment])]
        holder.seen[event["event_id"]] = Seen(sequence, record.offset, digest)
        if len(holder.seen) > self._window:
            del holder.seen[next(iter(holder.seen))]
        value = {name: event[name] for name in ("event_id", "type", "portfolio_id")}
        value |= {"sequence": sequence, "occurred_at": shown_time(moment)} | shown
        value |= {"source": {"partition": self.partition, "offset": record.offset}}
        encoded = json.dumps(value, separators=(",", ":")).encode()
        return Output(record.offset, event["event_id"], record.key, encoded, record.timestamp)

    def tables(self) -> dict[tuple[str, ...], Mapping[str, Any]]:
        """All values by table and key. A value that has left its window is no part of a table."""
        found: dict[tuple[str, ...], Mapping[str, Any]] = {}
        for portfolio, holder in self.holders.items():
            if not holder.seen:
                continue
            account = holder.account
            found["portfolios", portfolio] = {
                "sequence": account.sequence,
                "events": dict(holder.types),
                **{name: {c: text(a) for c, a in getattr(account, name).items()} for name in BOOKS},
                "earliest": shown_time(holder.times[0]),
                "latest": shown_time(holder.times[1]),
            }
            for symbol, holding in account.holdings.items():
                shown = holding.shown(symbol)
                found["positions", portfolio, shown.pop("symbol")] = shown
            for start, minute in account.minutes.table().items():
                found["activity", portfolio, start] = minute
            for event_id, seen in holder.seen.items():
                found["seen_events", portfolio, event_id] = {"sequence": seen.sequence, "offset": seen.offset}
        return found


BOOKS = ("cash", "fees", "dividends")


def partition_of(key: bytes, partitions: int) -> int:
    """Kafka's own partitioner."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


def shown_time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"

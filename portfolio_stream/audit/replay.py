"""The auditor's own fold: one partition's source records into what must have been written.

A plain loop over plain dicts. It shares the domain and the wire format with the agents, and nothing else: no views, no
slices, no engine.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from portfolio_stream.audit.history import SEPARATOR, Effect, Entry
from portfolio_stream.domain.activity import NOTHING, Activity, add, latest_in_time, open_window, window_of
from portfolio_stream.domain.events import Adjustment, Event, Split, Trade
from portfolio_stream.domain.fold import Outcome, fold
from portfolio_stream.domain.money import arithmetic
from portfolio_stream.domain.portfolios import Portfolio, with_windows
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.rejection import EVENT_ID_CONFLICT, KEY_MISMATCH, WRONG_PARTITION, Rejected
from portfolio_stream.partitioning import partition_of
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.outputs import dead_letter, encode_processed
from portfolio_stream.records.values import (
    SeenEvent,
    decode_activity,
    decode_portfolio,
    decode_position,
    decode_seen_event,
    fingerprint,
)

DECODERS: Mapping[bytes, Callable[[bytes], Any]] = {
    b"activity": decode_activity,
    b"portfolios": decode_portfolio,
    b"positions": decode_position,
    b"seen_events": decode_seen_event,
}


class Replay:
    """One partition, from its first record on. `feed` it in offset order; the attributes are what must exist then."""

    def __init__(self, partition: int, partitions: int, input_topic: str, deduplication_window: int) -> None:
        self.partition = partition
        self.outputs: dict[int, Effect] = {}
        self.dead_letters: dict[int, Effect] = {}
        self.counts: Counter[str] = Counter()
        self._partitions = partitions
        self._input_topic = input_topic
        self._window = deduplication_window
        self._portfolios: dict[bytes, Portfolio] = {}
        self._positions: dict[bytes, Position] = {}
        self._activity: dict[bytes, Activity] = {}
        self._seen: dict[bytes, SeenEvent] = {}

    @arithmetic()  # entered once for all, not by each fold: 1.5 of 19 us
    def feed(self, records: Iterable[Any]) -> None:
        """Records of a stock consumer."""
        for record in records:
            self.counts["records"] += 1
            event = decode_event(record.value)
            outcome = event if isinstance(event, Rejected) else self._outcome(record, event)
            if isinstance(outcome, Rejected):
                self.counts["rejected"] += 1
                self._dead_letter(record, outcome, None if isinstance(event, Rejected) else event.event_id)
            elif outcome is None:
                self.counts["duplicates"] += 1
            elif not isinstance(event, Rejected):
                self.counts["accepted"] += 1
                self._output(record, event, outcome)

    def _outcome(self, record: Any, event: Event) -> Outcome | Rejected | None:
        """None for a duplicate."""
        key = event.portfolio_id.encode()
        if record.key != key:
            return KEY_MISMATCH
        if partition_of(key, self._partitions) != self.partition:
            return WRONG_PARTITION
        portfolio = self._portfolios.get(key)
        seen = self._seen.get(_key(key, event.event_id))
        if seen is not None and portfolio is not None and self._is_in_window(seen, portfolio):
            return None if seen.fingerprint == fingerprint(record.value) else EVENT_ID_CONFLICT
        has_position = isinstance(event, Trade | Split | Adjustment)
        position = self._positions.get(_key(key, event.symbol)) if has_position else None  # type: ignore[union-attr]
        outcome = fold(event, portfolio, position)
        return outcome if isinstance(outcome, Rejected) else self._with_activity(record, event, outcome)

    def _with_activity(self, record: Any, event: Event, outcome: Outcome) -> Outcome | Rejected:
        """The last check of all, so activity is changed at once."""
        key, start = record.key, window_of(event.occurred_at)
        if event.occurred_at > latest_in_time(record.timestamp):
            self.counts["early"] += 1
            return outcome
        opening = open_window(outcome.portfolio.windows, start)
        if opening is None:
            self.counts["late"] += 1
            return outcome
        after = add(self._activity.get(_key(key, start), NOTHING), outcome.currency, outcome.notional)
        if isinstance(after, Rejected):
            return after
        self._activity[_key(key, start)] = after
        for leaving in opening.leaving:
            del self._activity[_key(key, leaving)]
        return msgspec.structs.replace(outcome, portfolio=with_windows(outcome.portfolio, opening.windows))

    def _output(self, record: Any, event: Event, outcome: Outcome) -> None:
        key, portfolio, position, currency = record.key, outcome.portfolio, outcome.position, outcome.currency
        balance = None if currency is None else portfolio.cash[currency]
        value = encode_processed(event, portfolio.sequence, position, currency, balance, self.partition, record.offset)
        self._portfolios[key] = portfolio
        self._seen[_key(key, event.event_id)] = SeenEvent(portfolio.sequence, record.offset, fingerprint(record.value))
        if position is not None:
            self._positions[_key(key, event.symbol)] = position  # type: ignore[union-attr]
        self.outputs[record.offset] = Effect(
            source=record.offset,
            source_partition=self.partition,
            event_id=event.event_id,
            sequence=portfolio.sequence,
            timestamp=record.timestamp,
            key=key,
            value=value,
        )

    def _dead_letter(self, record: Any, rejected: Rejected, event_id: str | None) -> None:
        letter = dead_letter(
            record.key, record.value, record.headers, rejected, self._input_topic, self.partition, record.offset
        )
        self.dead_letters[record.offset] = Effect(
            source=record.offset,
            source_partition=self.partition,
            event_id=event_id,
            timestamp=record.timestamp,
            key=letter.key,
            value=letter.value,
            headers=tuple(letter.headers),
        )

    def _is_in_window(self, seen: SeenEvent, portfolio: Portfolio) -> bool:
        return seen.sequence > portfolio.sequence - self._window

    def tables(self) -> dict[bytes, Any]:
        """Every table's values by changelog key, without what is out of its window."""
        values: dict[bytes, Any] = {_key(b"portfolios", key): value for key, value in self._portfolios.items()}
        values |= {_key(b"activity", key): value for key, value in self._activity.items()}
        values |= {_key(b"positions", key): value for key, value in self._positions.items()}
        values |= {
            _key(b"seen_events", key): seen
            for key, seen in self._seen.items()
            if self._is_in_window(seen, self._portfolios[key.partition(SEPARATOR)[0]])
        }
        return values

    def read_changelog(self, entries: Mapping[bytes, Entry]) -> dict[bytes, tuple[int, Any]]:
        """The changelog's values decoded, without what is out of its table's window."""
        found: dict[bytes, tuple[int, Any]] = {}
        for changelog_key, entry in entries.items():
            name, _, key = changelog_key.partition(SEPARATOR)
            value = _decode(name, entry.value)
            if isinstance(value, SeenEvent):
                portfolio = self._portfolios.get(key.partition(SEPARATOR)[0])
                if portfolio is not None and not self._is_in_window(value, portfolio):
                    continue
            found[changelog_key] = (entry.offset, value)
        return found


def _decode(table: bytes, value: bytes) -> Any:
    """None if there is no such table, or the bytes are not its value."""
    decode = DECODERS.get(table)
    try:
        return None if decode is None else decode(value)
    except msgspec.MsgspecError:
        return None


def _key(first: bytes, second: str | bytes) -> bytes:
    return first + SEPARATOR + (second.encode() if isinstance(second, str) else second)

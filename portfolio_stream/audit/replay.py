"""The auditor's own fold: computes from a partition's source records all records that must have been written.

The replay is a plain loop over plain dicts. It shares only the domain and the wire format of events with the agents: no
views, no slices, no engine, no tables.
"""

from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from portfolio_stream.audit.history import Effect
from portfolio_stream.audit.reader import cannot_read
from portfolio_stream.audit.records import Decided
from portfolio_stream.audit.start import Start
from portfolio_stream.audit.tables import ACTIVITY, PORTFOLIOS, POSITIONS, SEEN_EVENTS, SEPARATOR, AuditedSeen
from portfolio_stream.domain.activity import NOTHING, add, latest_in_time, leaving, open_window, window_of
from portfolio_stream.domain.deduplication import fingerprint, is_in_window, older_fingerprint
from portfolio_stream.domain.events import Adjustment, Event, Split, Trade
from portfolio_stream.domain.fold import FoldOutcome, fold
from portfolio_stream.domain.money import arithmetic
from portfolio_stream.domain.portfolios import Portfolio, with_windows
from portfolio_stream.domain.rejection import (
    EVENT_ID_CONFLICT,
    KEY_MISMATCH,
    OPERATOR_DEAD_LETTER,
    WRONG_PARTITION,
    Rejected,
)
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.kafka.record_batches import UnreadableBatch, corrupt_batch, next_offset
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.outputs import dead_letter, encode_processed


class SourceReplay:
    """Replays a partition from its first record on, or from a savepoint on (`begin`).

    After `feed`, it holds all that must exist at that position.
    """

    def __init__(self, partition: int, partitions: int, input_topic: str, deduplication_window: int) -> None:
        self.partition = partition
        #: next source offset
        self.position = 0
        #: by source offset; the comparison removes them
        self.outputs: dict[int, Effect] = {}
        self.dead_letters: dict[int, Effect] = {}
        self.counts: Counter[str] = Counter()
        #: the values of all tables, by changelog key
        self.values: dict[bytes, Any] = {}
        #: the former values of all keys that were written since the last comparison; None if there was no value
        self.before: dict[bytes, Any] = {}
        #: offsets of the source records that an operator moved to the dead letters; `met` has those that were replayed
        self.moved: set[int] = set()
        self.met: set[int] = set()
        #: the decisions of `moved` that are about whole batches
        self.moved_batches: dict[int, Decided] = {}
        self._partitions = partitions
        self._input_topic = input_topic
        self._window = deduplication_window
        #: keys of seen_events by portfolio, oldest first
        self._accepted: dict[bytes, deque[bytes]] = {}

    def begin(self, start: Start) -> None:
        """Begin with the state of a savepoint. The next comparison is of every key: none was compared before."""
        self.position = start.offset
        self.values = start.values
        self.before = dict.fromkeys(start.values)
        self.met |= {source for source in start.moved if source < start.offset}
        self._accepted = self._accepted_of(start.values)

    def _accepted_of(self, values: dict[bytes, Any]) -> dict[bytes, deque[bytes]]:
        """Returns the keys of seen_events by portfolio, oldest first. Removes the values that have left the window."""
        found: dict[bytes, list[tuple[int, bytes]]] = {}
        for key, value in values.items():
            if isinstance(value, AuditedSeen):
                found.setdefault(key.split(SEPARATOR, 2)[1], []).append((value.sequence, key))
        accepted = {}
        for portfolio, rows in found.items():
            rows.sort()
            accepted[portfolio] = deque(key for _, key in rows if self.is_current(key, values[key]))
            for _, key in rows[: len(rows) - len(accepted[portfolio])]:
                del values[key]
                del self.before[key]
            found[portfolio] = []
        return accepted

    @arithmetic()  # entered once for all records: entering it in each fold would cost 1.5 of 19 us
    def feed(self, records: Iterable[Any]) -> None:
        """Replay records of a side reader, in offset order. A record that an operator moved is not even decoded.

        Raises CannotVerifyYet for a batch that cannot be read and was not moved, and for one that was moved as
        unreadable and can be read.
        """
        for record in records:
            if record.offset < self.position:  # it belongs to the batch that was just moved
                continue
            self.counts["records"] += 1
            if record.offset in self.moved:
                self._move(record)
            elif isinstance(record, UnreadableBatch):
                raise cannot_read(record)
            else:
                self._fold(record)
                self.position = record.offset + 1

    def _move(self, record: Any) -> None:
        decided = self.moved_batches.get(record.offset)
        if decided is not None and decided.reason == "corrupt":  # our replica may have good bytes of the batch
            record = corrupt_batch(self._input_topic, self.partition, record.offset, decided.last_offset or 0)
        if isinstance(record, UnreadableBatch) != (decided is not None):
            raise cannot_read(record)
        self.met.add(record.offset)
        self._reject(record, OPERATOR_DEAD_LETTER, None)
        self.counts["records"] += next_offset(record) - record.offset - 1
        self.position = next_offset(record)

    def _fold(self, record: Any) -> None:
        event = decode_event(record.value)
        if isinstance(event, Rejected):
            self._reject(record, event, None)
            return
        outcome = self._outcome(record, event)
        if outcome is None:
            self.counts["duplicates"] += 1
        elif isinstance(outcome, Rejected):
            self._reject(record, outcome, event.event_id)
        else:
            self._accept(record, event, outcome)

    def _outcome(self, record: Any, event: Event) -> FoldOutcome | Rejected | None:
        """Returns the outcome of an event, or None for a duplicate."""
        key = event.portfolio_id.encode()
        if record.key != key:
            return KEY_MISMATCH
        if partition_of(key, self._partitions) != self.partition:
            return WRONG_PARTITION
        values = self.values
        portfolio = values.get(PORTFOLIOS + key)
        seen = values.get(_seen_key(key, event))
        if seen is not None:
            return None if seen.is_of(record.value) else EVENT_ID_CONFLICT
        has_position = isinstance(event, Trade | Split | Adjustment)
        outcome = fold(event, portfolio, values.get(_position_key(key, event)) if has_position else None)
        return outcome if isinstance(outcome, Rejected) else self._with_activity(record, event, outcome)

    def _with_activity(self, record: Any, event: Event, outcome: FoldOutcome) -> FoldOutcome | Rejected:
        """Count the event in its activity window. This check is the last one, so it may change the table at once."""
        prefix, start = ACTIVITY + record.key + SEPARATOR, window_of(event.occurred_at)
        if event.occurred_at > latest_in_time(record.timestamp):
            self.counts["early"] += 1
            return outcome
        before = outcome.portfolio.windows
        windows = open_window(before, start)
        if windows is None:
            self.counts["late"] += 1
            return outcome
        key = prefix + start.encode()
        after = add(self.values.get(key, NOTHING), outcome.currency, outcome.notional)
        if isinstance(after, Rejected):
            return after
        self._put(key, after)
        for gone in leaving(before, windows):
            self._delete(prefix + gone.encode())
        return msgspec.structs.replace(outcome, portfolio=with_windows(outcome.portfolio, windows))

    def _accept(self, record: Any, event: Event, outcome: FoldOutcome) -> None:
        key, portfolio, position, currency = record.key, outcome.portfolio, outcome.position, outcome.currency
        balance = None if currency is None else portfolio.cash[currency]
        value = encode_processed(event, portfolio.sequence, position, currency, balance, self.partition, record.offset)
        self.outputs[record.offset] = Effect(
            source=record.offset,
            source_partition=self.partition,
            event_id=event.event_id,
            sequence=portfolio.sequence,
            timestamp=record.timestamp,
            key=key,
            value=value,
        )
        self.counts["accepted"] += 1
        self._put(PORTFOLIOS + key, portfolio)
        if position is not None:
            self._put(_position_key(key, event), position)
        seen_key = _seen_key(key, event)
        prints = fingerprint(record.value), older_fingerprint(record.value)
        self._put(seen_key, AuditedSeen(portfolio.sequence, record.offset, *prints))
        self._forget(key, seen_key)

    def _put(self, key: bytes, value: Any) -> None:
        if key not in self.before:
            self.before[key] = self.values.get(key)
        self.values[key] = value

    def _delete(self, key: bytes) -> None:
        value = self.values.pop(key)
        self.before.setdefault(key, value)

    def _forget(self, portfolio_key: bytes, accepted: bytes) -> None:
        """Remember an accepted event. If the window is full, the oldest event leaves it."""
        keys = self._accepted.setdefault(portfolio_key, deque())
        keys.append(accepted)
        if len(keys) > self._window:
            self._delete(keys.popleft())

    def _reject(self, record: Any, rejected: Rejected, event_id: str | None) -> None:
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
        self.counts["rejected"] += 1

    def is_current(self, key: bytes, value: Any) -> bool:
        """Whether the value is in its table's window. Outside, it is no part of the table, even if it still exists."""
        if not isinstance(value, AuditedSeen):
            return True
        portfolio: Portfolio | None = self.values.get(PORTFOLIOS + key.split(SEPARATOR, 2)[1])
        return portfolio is None or is_in_window(value.sequence, portfolio.sequence, self._window)


def _position_key(key: bytes, event: Event) -> bytes:
    return POSITIONS + key + SEPARATOR + event.symbol.encode()  # type: ignore[union-attr]  # has a symbol


def _seen_key(key: bytes, event: Event) -> bytes:
    return SEEN_EVENTS + key + SEPARATOR + event.event_id.encode()


class KeyIndex:
    """Which keys the replay has between two others, at any moment of a pass.

    Make it between two passes, when the replay knows of no change. It is good until the end of the next pass.
    """

    def __init__(self, replay: SourceReplay) -> None:
        self._replay = replay
        self._keys = sorted(replay.values)

    def between(self, lower: bytes, upper: bytes) -> Iterator[bytes]:
        """Returns the keys from `lower` on that come before `upper`, in no order."""
        replay = self._replay
        for key in self._keys[bisect_left(self._keys, lower) : bisect_left(self._keys, upper)]:
            if key not in replay.before:
                yield key
        for key in replay.before:
            if lower <= key < upper and key in replay.values:
                yield key

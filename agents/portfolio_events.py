"""The agent of portfolio-events: it decodes, checks and folds records.

1. Each record has exactly one of three effects. An accepted event gives an output and table writes. A rejected event
   gives a dead letter. A duplicate is only counted.
2. The effects depend on the records and their order alone: the fold has no clock and no randomness.
"""

from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field
from operator import attrgetter

from agents.seen_ring import open_chunk, unlist
from portfolio_stream.domain.activity import NOTHING, add, latest_in_time, leaving, open_window, window_of
from portfolio_stream.domain.deduplication import SeenEvent, fingerprint, is_in_window
from portfolio_stream.domain.events import Adjustment, Split, Trade
from portfolio_stream.domain.fold import fold
from portfolio_stream.domain.money import arithmetic
from portfolio_stream.domain.portfolios import with_windows
from portfolio_stream.domain.rejection import (
    EVENT_ID_CONFLICT,
    KEY_MISMATCH,
    OPERATOR_DEAD_LETTER,
    WRONG_PARTITION,
    OperatorCode,
    Rejected,
    RejectionCode,
)
from portfolio_stream.exactly_once.ports import Append, CountedSlice, FoldSlice, Record
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.outputs import dead_letter, encode_processed
from portfolio_stream.settings import Settings
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_chunks import CHUNK, SEEN_CHUNKS, slots
from tables.seen_events import SEEN_EVENTS
from tables.table import SEPARATOR


@dataclass(slots=True)
class Counts:
    """How many records of a slice had each effect."""

    accepted: int = 0
    duplicates: int = 0
    rejected: Counter[RejectionCode | OperatorCode] = field(default_factory=Counter)
    #: accepted events that are not in the table activity: late and early ones (see domain/activity.py)
    late: int = 0
    early: int = 0

    def tell(self, slice: CountedSlice) -> None:
        """Give the counts to the engine, which adds them to the metrics when the slice's transaction has committed."""
        slice.count(accepted=self.accepted, duplicate=self.duplicates)
        slice.count(**{"activity_skipped:late": self.late, "activity_skipped:early": self.early})
        if self.rejected:
            slice.count(**{f"rejected:{code}": times for code, times in self.rejected.items()})


def make_agent(settings: Settings) -> Callable[[AsyncIterable[CountedSlice]], Awaitable[None]]:
    """Returns the Faust agent of the input topic."""

    async def agent(slices: AsyncIterable[CountedSlice]) -> None:
        async for slice in slices:
            counts = fold_slice(
                slice,
                input_topic=settings.input_topic,
                output_topic=settings.output_topic,
                dlq_topic=settings.dlq_topic,
                deduplication_window=settings.deduplication_window,
            )
            counts.tell(slice)

    return agent


def make_mover(settings: Settings) -> Callable[[CountedSlice], None]:
    """Returns the function that moves a slice's records to the dead letters, as an operator decided."""

    def move(slice: CountedSlice) -> None:
        set_aside(slice, input_topic=settings.input_topic, dlq_topic=settings.dlq_topic).tell(slice)

    return move


@arithmetic()
def fold_slice(
    slice: FoldSlice, *, input_topic: str, output_topic: str, dlq_topic: str, deduplication_window: int
) -> Counts:
    """Fold a slice's records, in offset order.

    The body is long because it runs for every event: a call for each step would add 1 us to the 10 us of an event
    (benchmarks/fold.py).
    """
    counts = Counts()
    accepted = late = early = 0
    partition, partition_count = slice.partition, slice.partition_count
    append_output, append_dead_letter = slice.appender(output_topic), slice.appender(dlq_topic)
    positions, portfolios, seen_events = slice.view(POSITIONS), slice.view(PORTFOLIOS), slice.view(SEEN_EVENTS)
    dirty_positions, dirty_portfolios, dirty_seen = positions.dirty, portfolios.dirty, seen_events.dirty
    activity = slice.view(ACTIVITY)
    dirty_activity = activity.dirty
    chunks = slice.view(SEEN_CHUNKS)
    dirty_chunks, ring = chunks.dirty, slots(deduplication_window)
    # an occurred_at up to `in_time` is not early for any record of the slice: most events need no more than this check
    in_time = latest_in_time(min(map(attrgetter("timestamp"), slice.records), default=0))

    for record in slice.records:
        value, key = record.value or b"", record.key
        event = decode_event(value)
        if type(event) is Rejected:
            _reject(record, event, input_topic, partition, append_dead_letter, counts)
            continue
        if key is None or key != event.portfolio_id.encode():
            _reject(record, KEY_MISMATCH, input_topic, partition, append_dead_letter, counts)
            continue
        if partition_of(key, partition_count) != partition:
            _reject(record, WRONG_PARTITION, input_topic, partition, append_dead_letter, counts)
            continue

        portfolio = portfolios[key]
        prefix = key + SEPARATOR
        seen_key = prefix + event.event_id.encode()
        print_ = fingerprint(value)
        seen = seen_events[seen_key]
        if seen is not None and portfolio is not None and is_in_window(seen, portfolio.sequence, deduplication_window):
            if seen.fingerprint == print_:
                counts.duplicates += 1
            else:
                _reject(record, EVENT_ID_CONFLICT, input_topic, partition, append_dead_letter, counts)
            continue

        if type(event) is Trade or type(event) is Split or type(event) is Adjustment:
            position_key = prefix + event.symbol.encode()
            outcome = fold(event, portfolio, positions[position_key])
        else:
            outcome = fold(event, portfolio, None)
        if type(outcome) is Rejected:
            _reject(record, outcome, input_topic, partition, append_dead_letter, counts)
            continue

        after, position, currency = outcome.portfolio, outcome.position, outcome.currency
        occurred_at = event.occurred_at
        if occurred_at > in_time and occurred_at > latest_in_time(record.timestamp):
            early += 1
        else:
            before, start = after.windows, window_of(occurred_at)
            windows = before if start == before.newest else open_window(before, start)
            if windows is None:
                late += 1
            else:
                window_key = prefix + start.encode()
                known = activity[window_key] if windows is before else None
                window = add(known or NOTHING, currency, outcome.notional)
                if type(window) is Rejected:
                    _reject(record, window, input_topic, partition, append_dead_letter, counts)
                    continue
                activity[window_key] = dirty_activity[window_key] = window
                if windows is not before:
                    after = with_windows(after, windows)
                    for gone in leaving(before, windows):
                        activity.put(prefix + gone.encode(), None)

        sequence = after.sequence
        balance = None if currency is None else after.cash[currency]
        output = encode_processed(event, sequence, position, currency, balance, partition, record.offset)
        append_output(record.timestamp, key, output, ())
        portfolios[key] = dirty_portfolios[key] = after
        if seen is not None:
            unlist(chunks, prefix, event.event_id, seen, ring)
        seen_events[seen_key] = dirty_seen[seen_key] = SeenEvent(sequence, record.offset, print_)
        last = sequence - 1  # the portfolio's accepted event before this one: its chunk takes this event, unless full
        chunk_key = prefix + b"%d" % (last // CHUNK % ring)
        chunk = chunks[chunk_key]
        if last % CHUNK and chunk is not None and chunk.last == last:
            chunk.last = sequence
            chunk.event_ids.append(event.event_id)
        else:
            chunk = open_chunk(chunks, seen_events, prefix, event.event_id, sequence, ring, deduplication_window)
            chunks[chunk_key] = chunk
        dirty_chunks[chunk_key] = chunk
        if position is not None:
            positions[position_key] = dirty_positions[position_key] = position
        accepted += 1
    counts.accepted, counts.late, counts.early = accepted, late, early
    return counts


def set_aside(slice: FoldSlice, *, input_topic: str, dlq_topic: str) -> Counts:
    """Append a slice's records to the dead letters, as an operator decided. No table changes."""
    counts = Counts()
    append = slice.appender(dlq_topic)
    for record in slice.records:
        _reject(record, OPERATOR_DEAD_LETTER, input_topic, slice.partition, append, counts)
    return counts


def _reject(
    record: Record, rejected: Rejected, input_topic: str, partition: int, append: Append, counts: Counts
) -> None:
    letter = dead_letter(record.key, record.value, record.headers, rejected, input_topic, partition, record.offset)
    append(record.timestamp, *letter)
    counts.rejected[rejected.code] += 1

"""The agent of portfolio-events: it folds slices of records by `portfolio_stream.compiled`, and counts their effects.

1. Each record has exactly one of three effects. An accepted event gives an output and table writes. A rejected event
   gives a dead letter. A duplicate is only counted.
2. The effects depend on the records and their order alone: the fold has no clock and no randomness.
"""

from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable
from dataclasses import dataclass, field

from portfolio_stream.compiled.fold import SliceFold
from portfolio_stream.domain.rejection import OPERATOR_DEAD_LETTER, OperatorCode, Rejected, RejectionCode
from portfolio_stream.exactly_once.ports import Append, CountedSlice, FoldSlice, Record
from portfolio_stream.records.outputs import dead_letter
from portfolio_stream.settings import Settings
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_chunks import SEEN_CHUNKS
from tables.seen_events import SEEN_EVENTS


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


def fold_slice(
    slice: FoldSlice, *, input_topic: str, output_topic: str, dlq_topic: str, deduplication_window: int
) -> Counts:
    """Fold a slice's records, in offset order."""
    counts = Counts()
    append_dead_letter = slice.appender(dlq_topic)

    def reject(record: Record, why: Rejected) -> None:
        _reject(record, why, input_topic, slice.partition, append_dead_letter, counts)

    fold = SliceFold(
        slice.partition,
        slice.partition_count,
        deduplication_window,
        slice.appender(output_topic),
        reject,
        portfolios=slice.view(PORTFOLIOS),
        positions=slice.view(POSITIONS),
        activity=slice.view(ACTIVITY),
        seen_events=slice.view(SEEN_EVENTS),
        seen_chunks=slice.view(SEEN_CHUNKS),
    )
    fold.run(slice.records)
    counts.accepted, counts.duplicates = fold.accepted, fold.duplicates
    counts.late, counts.early = fold.late, fold.early
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

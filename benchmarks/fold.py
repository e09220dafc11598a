"""Measure the fold, in microseconds an event: `python -m benchmarks.fold`.

It runs in memory, without a broker and without a store: decode, fold, encode, and the views' dict.
"""

import gc
from collections.abc import Callable
from statistics import median
from time import perf_counter

from agents.portfolio_events import fold_slice
from portfolio_stream.domain.deduplication import SeenEvent, fingerprint
from portfolio_stream.domain.events import Trade
from portfolio_stream.domain.fold import FoldOutcome, fold
from portfolio_stream.domain.money import arithmetic
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.load.events import Mixture, generate
from portfolio_stream.records.classifier import classify
from portfolio_stream.records.events import decode_event
from portfolio_stream.records.outputs import encode_processed
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS

EVENTS = 50_000
SLICE = 500
ROUNDS = 5
MIXTURE = Mixture(seed=1, start_time=1_795_408_200_000, partitions=1)


def main() -> None:
    gc.disable()
    started = perf_counter()
    records = [
        MemoryRecord(offset, generated.timestamp, generated.key, generated.value)
        for offset, generated in enumerate(generate(MIXTURE, EVENTS))
    ]
    show("generate", perf_counter() - started)
    show("fold_slice, all in", measure(lambda: fold_all(records)))

    values = [record.value for record in records]
    show("  decode", measure(lambda: [decode_event(value) for value in values]))
    events = [event for event in map(decode_event, values) if type(event) is not Rejected]
    trades = [record.value for record in records if isinstance(decode_event(record.value), Trade)]
    show("  decode a trade", measure(lambda: [decode_event(value) for value in trades]), len(trades))
    show("  classify (slow path)", measure(lambda: [classify(value) for value in values]))
    show("  fingerprint", measure(lambda: [fingerprint(value or b"") for value in values]))

    outcomes: list[FoldOutcome] = []

    @arithmetic()
    def fold_events() -> None:
        outcomes.clear()
        portfolios: dict[str, Portfolio] = {}
        positions: dict[tuple[str, str], Position] = {}
        for event in events:
            key = (event.portfolio_id, getattr(event, "symbol", ""))
            outcome = fold(event, portfolios.get(event.portfolio_id), positions.get(key))
            assert type(outcome) is FoldOutcome
            portfolios[event.portfolio_id] = outcome.portfolio
            if outcome.position is not None:
                positions[key] = outcome.position
            outcomes.append(outcome)

    show("  fold", measure(fold_events))
    pairs = list(zip(events, outcomes, strict=True))
    show(
        "  encode output",
        measure(
            lambda: [
                encode_processed(
                    e, o.portfolio.sequence, o.position, o.currency, o.portfolio.cash.get(o.currency or ""), 0, 1
                )
                for e, o in pairs
            ]
        ),
    )
    positions = [outcome.position for outcome in outcomes if outcome.position is not None]
    show("at commit: encode a position", measure(lambda: [POSITIONS.encode(p) for p in positions]), len(positions))
    show("at commit: encode a portfolio", measure(lambda: [PORTFOLIOS.encode(o.portfolio) for o in outcomes]))
    seen = SeenEvent(1234, 56789, bytes(16))
    show("at commit: encode a seen event", measure(lambda: [SEEN_EVENTS.encode(seen) for _ in outcomes]))


def fold_all(records: list[MemoryRecord]) -> None:
    partition = MemoryPartition()
    for start in range(0, len(records), SLICE):
        fold_slice(
            partition.slice(records[start : start + SLICE]),
            input_topic="portfolio-events",
            output_topic="processed-events",
            dlq_topic="portfolio-events-dlq",
            deduplication_window=10_000,
        )


def measure(work: Callable[[], object]) -> float:
    """Returns the median seconds of a few rounds, after a first one to warm up."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)


def show(what: str, seconds: float, events: int = EVENTS) -> None:
    print(f"{what:32} {seconds / events * 1e6:6.2f} us an event {events / seconds:10,.0f}/s")


if __name__ == "__main__":
    main()

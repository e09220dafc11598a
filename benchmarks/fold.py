"""Measure the fold, in microseconds an event, compiled and interpreted: `python -m benchmarks.fold`.

It runs in memory, without a broker and without a store: decode, fold and encode, and the views' dicts. The events are
those of `benchmarks.throughput`: 10,000 portfolios, 50 symbols, 8 partitions.
"""

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter

from agents.portfolio_events import fold_slice
from benchmarks.throughput import PORTFOLIOS
from portfolio_stream import compiled
from portfolio_stream.compiled.events import DecodedEvent, decode
from portfolio_stream.compiled.seen import fingerprint
from portfolio_stream.exactly_once.memory import MemoryPartition, MemoryRecord
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.load.events import Mixture, generate
from portfolio_stream.records.classifier import classify

EVENTS = 100_000
SLICE = 500
COMMIT = 25_000  # events a transaction on a backlog
ROUNDS = 3
PARTITIONS = 8
MIXTURE = Mixture(seed=1, start_time=1_795_408_200_000, portfolios=PORTFOLIOS, partitions=PARTITIONS)


def measure_here() -> None:
    gc.disable()
    records: list[list[MemoryRecord]] = [[] for _ in range(PARTITIONS)]
    for generated in generate(MIXTURE, EVENTS):
        mine = records[partition_of(generated.key or b"", PARTITIONS)]
        mine.append(MemoryRecord(len(mine), generated.timestamp, generated.key, generated.value))
    values = [record.value for mine in records for record in mine]
    assert all(type(decode(value)) is DecodedEvent for value in values)
    print(f"{'compiled' if compiled.BUILD.is_used else 'interpreted'}:")
    show("  decode", measure(lambda: [decode(value) for value in values]))
    show("  (strict reader)", measure(lambda: [classify(value) for value in values]))
    show("  (fingerprint)", measure(lambda: [fingerprint(value or b"") for value in values]))
    rounds = [fold_all(records) for _ in range(ROUNDS)]
    show("  decode, fold, output", median(fold for fold, _ in rounds))
    show("  encode at the commit", median(encode for _, encode in rounds))
    show("  all", median(map(sum, rounds)))


def fold_all(records: list[list[MemoryRecord]]) -> tuple[float, float]:
    """Returns the seconds of the folds, and of encoding what they wrote."""
    partitions = [MemoryPartition(number, PARTITIONS) for number in range(PARTITIONS)]
    fold = encode = 0.0
    folded = 0
    for start in range(0, max(map(len, records)), SLICE):
        for partition, mine in zip(partitions, records, strict=True):
            piece = partition.slice(mine[start : start + SLICE])
            started = perf_counter()
            fold_slice(piece, input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=10_000)
            fold += perf_counter() - started
            folded += len(piece.records)
        if folded >= COMMIT or start + SLICE >= max(map(len, records)):
            folded = 0
            started = perf_counter()
            for partition in partitions:
                partition.take_dirty()
            encode += perf_counter() - started
    return fold, encode


def measure(work: Callable[[], object]) -> float:
    """Returns the median seconds of a few rounds, after a first one to warm up."""
    work()
    seconds = []
    for _ in range(ROUNDS):
        started = perf_counter()
        work()
        seconds.append(perf_counter() - started)
    return median(seconds)


def show(what: str, seconds: float) -> None:
    print(f"{what:24} {seconds / EVENTS * 1e6:6.2f} us an event {EVENTS / seconds:10,.0f}/s", flush=True)


if __name__ == "__main__":
    if compiled.VARIABLE in os.environ:
        measure_here()
    else:
        for choice in ("on", "off"):
            environment = {**os.environ, compiled.VARIABLE: choice}
            subprocess.run([sys.executable, "-m", "benchmarks.fold"], env=environment, check=True)

"""Measure the fold's time when every portfolio has more events than its deduplication window.

    python -m benchmarks.aged_fold [--portfolios 20] [--events 500000] [--transaction 25000]

One partition of a worker without a broker: views over RocksDB; each transaction's writes are encoded and stored. By
default there are 20 portfolios with 25,000 events each, and the window has 10,000 events. `--portfolios 10000` stands
for a young system. `--transaction 250` stands for a commit every 50 ms at 5,000 events a second.
"""

import argparse
import asyncio
import gc
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from time import perf_counter, thread_time
from typing import Any, TypeVar, cast

from agents.portfolio_events import fold_slice
from portfolio_stream.exactly_once.memory import MemoryRecord
from portfolio_stream.exactly_once.ports import Append, Record, TableDefinition, View
from portfolio_stream.exactly_once.recent import PARTITION_BYTES, StoreRows, Written
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.exactly_once.transaction import Batches
from portfolio_stream.exactly_once.views import Views
from portfolio_stream.kafka.header_names import Headers
from portfolio_stream.load.events import Mixture, generate

V = TypeVar("V")

SLICE = 500
MEASURED_SHARE = 0.5  # of the events: in the second half every portfolio has reached its window


@dataclass(slots=True)
class Spent:
    """The costs since the measured part began."""

    events: int = 0
    fold_seconds: float = 0.0
    longest_slice_seconds: float = 0.0
    encode_seconds: float = 0.0
    longest_encode_seconds: float = 0.0
    changelog_bytes: int = 0


class AgedPartition:
    """Partition 0 of a worker's store. The fold also gets this object as its slice."""

    partition, partition_count = 0, 1

    def __init__(self, store: Store) -> None:
        self.records: Sequence[Record] = ()
        self._store = store
        self._tables: dict[str, TableDefinition[Any]] = {}
        self._views = Views(store, self._tables, store.memory.views)
        self._transaction = 1

    def view(self, table: TableDefinition[V], /) -> View[V]:
        self._tables.setdefault(table.name, table)
        return cast("View[V]", self._views.view(0, table))

    def appender(self, _topic: str, /) -> Append:
        def append(_timestamp: int, _key: bytes | None, _value: bytes | None, _headers: Headers) -> None:
            pass

        return append

    async def run(self, records: Sequence[MemoryRecord], spent: Spent) -> None:
        """Fold the records as one transaction."""
        for start in range(0, len(records), SLICE):
            self.records = records[start : start + SLICE]
            began, worked = perf_counter(), thread_time()
            fold_slice(self, input_topic="in", output_topic="out", dlq_topic="dlq", deduplication_window=10_000)
            spent.fold_seconds += thread_time() - worked
            spent.longest_slice_seconds = max(spent.longest_slice_seconds, perf_counter() - began)
        began, worked = perf_counter(), thread_time()
        rows: StoreRows = {}
        changelog = Batches()
        self._views.age(self._transaction, self._transaction - 1)
        for view, values in self._views.take_dirty(0):
            changelog.encode(0, values.items(), view.table, view.prefix, rows)
        spent.encode_seconds += thread_time() - worked
        spent.longest_encode_seconds = max(spent.longest_encode_seconds, perf_counter() - began)
        spent.changelog_bytes += sum(len(key) - PARTITION_BYTES + len(value or b"") for key, value in rows.items())
        spent.events += len(records)
        await self._store.commit({0: Written(rows, changelog.size)}, {})
        self._transaction += 1


async def measure(portfolios: int, events: int, transaction: int) -> None:
    mixture = Mixture(seed=1, start_time=1_795_408_200_000, partitions=1, portfolios=portfolios)
    records = (
        MemoryRecord(offset, made.timestamp, made.key, made.value)
        for offset, made in enumerate(generate(mixture, events))
    )
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "store")
        partition, spent = AgedPartition(store), Spent()
        while piece := list(islice(records, transaction)):
            if piece[0].offset <= events * MEASURED_SHARE:
                spent = Spent()
            await partition.run(piece, spent)
        store.close()
    print(f"{spent.events:,} events of {portfolios:,} portfolios, {transaction:,} a transaction")
    fold, encode = (1e6 * seconds / spent.events for seconds in (spent.fold_seconds, spent.encode_seconds))
    print(f"fold {fold:.2f} us an event, encode {encode:.2f} (CPU)")
    slice_ms, encode_ms = 1e3 * spent.longest_slice_seconds, 1e3 * spent.longest_encode_seconds
    print(f"longest slice {slice_ms:.1f} ms, longest encoding of a transaction {encode_ms:.1f} ms")
    print(f"changelog {spent.changelog_bytes / spent.events:.0f} bytes an event, keys and values")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--portfolios", type=int, default=20)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--transaction", type=int, default=25_000)
    arguments = parser.parse_args()
    gc.disable()
    asyncio.run(measure(arguments.portfolios, arguments.events, arguments.transaction))

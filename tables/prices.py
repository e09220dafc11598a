"""prices: symbol -> Price. A global table: every worker has all of it, in memory, as the topic tells it.

It is outside the group and the fold: nothing in it has an effect on what is written. Its size is the number of symbols.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from portfolio_stream.domain.prices import Price
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.exactly_once.ports import Record
from portfolio_stream.kafka.record_batches import UnreadableBatch

NAME = "prices"
UNREADABLE = "unreadable"


class Deletion(msgspec.Struct, frozen=True):
    symbol: str


ReadRecord = Callable[[bytes | None, bytes | None], Price | Deletion | Rejected]


class Prices:
    """`read_record` says what a record's key and value mean."""

    def __init__(self, read_record: ReadRecord) -> None:
        self._read_record = read_record
        self.by_symbol: dict[str, Price] = {}
        #: of the last record that is in it
        self.offset: int | None = None
        #: records: price, deletion, or the code of an invalid one; unreadable: whole batches; they only grow
        self.counts: Counter[str] = Counter()
        #: it has been read up to the topic's end at the start
        self.is_ready = False
        #: committed records not read yet; None: unknown
        self.lag: int | None = None

    def apply(self, records: Sequence[Record]) -> None:
        """In the topic's order: the last one counts, whatever its as_of."""
        for record in records:
            read = self._read_record(record.key, record.value)
            if isinstance(read, Price):
                self.by_symbol[read.symbol] = read
                self.counts["price"] += 1
            elif isinstance(read, Deletion):
                self.by_symbol.pop(read.symbol, None)
                self.counts["deletion"] += 1
            else:
                self.counts[read.code] += 1
            self.offset = record.offset

    def pass_over(self, batch: UnreadableBatch) -> None:
        """Nobody knows what it says: what was known before it counts on."""
        self.counts[UNREADABLE] += 1
        self.offset = batch.last_offset

    def clear(self) -> None:
        """Another topic of the same name is read from its start."""
        self.by_symbol.clear()
        self.offset, self.is_ready = None, False

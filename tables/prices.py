"""prices: symbol -> Price. A global table: every worker holds the whole table in memory, as market-prices has it.

The table is outside the group and the fold: no price has an effect on what a worker writes. The table's size is the
number of symbols.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from portfolio_stream.domain.money import plain
from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.domain.valuation import Price
from portfolio_stream.exactly_once.ports import Record
from portfolio_stream.kafka.record_batches import UnreadableBatch

NAME = "prices"
KEY = ("symbol",)
UNREADABLE = "unreadable"


class PriceDeletion(msgspec.Struct, frozen=True):
    """A symbol has no price any more."""

    symbol: str


def show_price(price: Price) -> dict[str, object]:
    """A price as people see it: the contract's field names, ready for JSON."""
    return {"price": plain(price.price), "currency": price.currency, "as_of": price.as_of}


ReadRecord = Callable[[bytes | None, bytes | None], Price | PriceDeletion | Rejected]


class Prices:
    """All prices. `read_record` says what a record's key and value mean."""

    def __init__(self, read_record: ReadRecord) -> None:
        self._read_record = read_record
        self.by_symbol: dict[str, Price] = {}
        #: offset of the last record that the table includes
        self.offset: int | None = None
        #: records by kind: price, deletion, or the code of an invalid record; whole batches: unreadable
        self.counts: Counter[str] = Counter()
        #: the table has reached the end that the topic had when the worker started
        self.is_ready = False
        #: committed records that the worker has not read yet; None: unknown
        self.lag: int | None = None

    def apply(self, records: Sequence[Record]) -> None:
        """Take records in the topic's order: a symbol's last record counts, whatever its as_of."""
        for record in records:
            read = self._read_record(record.key, record.value)
            if isinstance(read, Price):
                self.by_symbol[read.symbol] = read
                self.counts["price"] += 1
            elif isinstance(read, PriceDeletion):
                self.by_symbol.pop(read.symbol, None)
                self.counts["deletion"] += 1
            else:
                self.counts[read.code] += 1
            self.offset = record.offset

    def pass_over(self, batch: UnreadableBatch) -> None:
        """Skip a batch that nobody can read: the prices that were known before stay."""
        self.counts[UNREADABLE] += 1
        self.offset = batch.last_offset

    def clear(self) -> None:
        """Forget everything: another topic of the same name is read from its start."""
        self.by_symbol.clear()
        self.offset, self.is_ready = None, False

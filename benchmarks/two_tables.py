"""The two-table fold for the comparison with other stream processors: positions at average cost, and cash.

It writes one output for each trade. The fold is pure. Input bytes, table values and output bytes are the same for all
engines.
"""

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

import msgspec

from portfolio_stream.load.events import Generated, Mixture, generate

PARTITIONS = 8
START_TIME = 1_795_408_200_000  # milliseconds since 1970; fixed, so that a backlog has the same bytes in every run
MIXTURE = Mixture(seed=1, start_time=START_TIME, portfolios=10_000, symbols=50, partitions=PARTITIONS)
ZERO = Decimal(0)
QUANTUM = Decimal("0.00000001")


class TradeRecord(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    portfolio_id: str
    side: str
    symbol: str
    quantity: Decimal
    price: Decimal


class PositionRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    #: negative for a short position
    quantity: Decimal = ZERO
    average_cost: Decimal = ZERO
    realised_pnl: Decimal = ZERO


class CashRecord(msgspec.Struct, frozen=True, gc=False, array_like=True):
    #: number of trades so far
    sequence: int = 0
    balance: Decimal = ZERO


class Processed(msgspec.Struct, frozen=True, gc=False):
    event_id: str
    portfolio_id: str
    sequence: int
    symbol: str
    position: PositionRecord
    balance: Decimal
    #: partition and offset of the trade's record
    source: tuple[int, int]


FLAT, NO_CASH = PositionRecord(), CashRecord()
decode_trade = msgspec.json.Decoder(TradeRecord).decode
decode_position = msgspec.msgpack.Decoder(PositionRecord).decode
decode_cash = msgspec.msgpack.Decoder(CashRecord).decode
encode_value = msgspec.msgpack.Encoder().encode
_encode_processed = msgspec.json.Encoder().encode


def backlog(trades: int) -> Iterator[Generated]:
    """Yield the first trades of the generator's mixture, as many as `trades`."""
    return islice(filter(is_trade, generate(MIXTURE)), trades)


def is_trade(record: Generated) -> bool:
    return b'"type":"trade"' in (record.value or b"")


def position_key(trade: TradeRecord) -> bytes:
    return f"{trade.portfolio_id}/{trade.symbol}".encode()


def fold(
    trade: TradeRecord, position: PositionRecord | None, cash: CashRecord | None
) -> tuple[PositionRecord, CashRecord]:
    """Returns the state after a trade. None stands for a key that the table lacks."""
    before, held = cash or NO_CASH, position or FLAT
    if trade.side == "buy":
        return _trade(held, trade.quantity, trade.price), _book(before, -trade.quantity * trade.price)
    return _trade(held, -trade.quantity, trade.price), _book(before, trade.quantity * trade.price)


def _book(before: CashRecord, amount: Decimal) -> CashRecord:
    return CashRecord(before.sequence + 1, before.balance + amount)


def _trade(before: PositionRecord, change: Decimal, price: Decimal) -> PositionRecord:
    held, cost, realised = before.quantity, before.average_cost, before.realised_pnl
    quantity = held + change
    if not held or (held > 0) is (change > 0):  # the trade opens a position or adds to it
        return PositionRecord(quantity, ((held * cost + change * price) / quantity).quantize(QUANTUM), realised)
    is_through = abs(change) > abs(held)
    closed = held if is_through else -change
    realised += (closed * (price - cost)).quantize(QUANTUM)
    return PositionRecord(quantity, (price if is_through else cost) if quantity else ZERO, realised)


def processed(trade: TradeRecord, position: PositionRecord, cash: CashRecord, partition: int, offset: int) -> bytes:
    return _encode_processed(
        Processed(
            trade.event_id,
            trade.portfolio_id,
            cash.sequence,
            trade.symbol,
            position,
            cash.balance,
            (partition, offset),
        )
    )

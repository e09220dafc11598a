"""The two-table fold on our engine, by slices: `faust -A benchmarks.two_tables_ours worker`.

The environment gives the name, which is the prefix of its topics, and the commit interval (0: the default).
"""

import os
from collections.abc import AsyncIterable

from benchmarks.two_tables import (
    CashRecord,
    PositionRecord,
    decode_cash,
    decode_position,
    decode_trade,
    encode_value,
    fold,
    position_key,
    processed,
)
from portfolio_stream.exactly_once.ports import FoldSlice, TableDefinition
from portfolio_stream.faust_host.app import exactly_once_app

NAME = os.environ.get("TWO_TABLES_NAME", "ours")
INTERVAL_MS = int(os.environ.get("TWO_TABLES_INTERVAL_MS", "0"))
SOURCE, OUTPUT = f"{NAME}-trades", f"{NAME}-processed"
POSITIONS: TableDefinition[PositionRecord] = TableDefinition(
    name="positions", encode=encode_value, decode=decode_position
)
CASH: TableDefinition[CashRecord] = TableDefinition(name="cash", encode=encode_value, decode=decode_cash)

app = exactly_once_app(
    NAME,
    source=SOURCE,
    outputs=[OUTPUT],
    tables=[POSITIONS, CASH],
    fold="1",
    commit_interval_seconds=INTERVAL_MS / 1000 or None,
    bootstrap_servers=os.environ.get("PORTFOLIO_BOOTSTRAP_SERVERS", "127.0.0.1:9092"),
)


@app.agent(app.topic(SOURCE), name="fold")
async def fold_trades(slices: AsyncIterable[FoldSlice]) -> None:
    async for piece in slices:
        fold_slice(piece)


def fold_slice(piece: FoldSlice) -> None:
    positions, cash, append = piece.view(POSITIONS), piece.view(CASH), piece.appender(OUTPUT)
    dirty_positions, dirty_cash = positions.dirty, cash.dirty
    for record in piece.records:
        trade = decode_trade(record.value or b"")
        held_at, booked_at = position_key(trade), trade.portfolio_id.encode()
        position, balance = fold(trade, positions[held_at], cash[booked_at])
        positions[held_at] = dirty_positions[held_at] = position
        cash[booked_at] = dirty_cash[booked_at] = balance
        output = processed(trade, position, balance, piece.partition, record.offset)
        append(record.timestamp, record.key, output, ())

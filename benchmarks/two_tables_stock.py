"""The two-table fold as Faust's documentation writes it: `faust -A benchmarks.two_tables_stock worker`.

Stock faust-streaming with its defaults. The environment gives the processing guarantee, and a prefix for application
and topics, so that several variants can be measured on one broker. Records and table values are bytes, so Faust's
serializers cost no time.
"""

import os
from collections.abc import MutableMapping
from typing import Any

import faust

from benchmarks.two_tables import (
    decode_cash,
    decode_position,
    decode_trade,
    encode_value,
    fold,
    position_key,
    processed,
)

GUARANTEE = os.environ.get("STOCK_GUARANTEE", "exactly_once")
NAME = os.environ.get("STOCK_NAME", "stock")

app = faust.App(
    NAME,
    broker=f"kafka://{os.environ.get('PORTFOLIO_BOOTSTRAP_SERVERS', '127.0.0.1:9092')}",
    store="rocksdb://?driver=rocksdict",
    processing_guarantee=GUARANTEE,
    topic_partitions=8,
    topic_replication_factor=1,
    web_enabled=False,
)
RAW = {"key_serializer": "raw", "value_serializer": "raw"}
trades = app.topic(f"{NAME}-trades", **RAW)
outputs = app.topic(f"{NAME}-processed", **RAW)
positions = app.Table("positions", key_type=bytes, value_type=bytes)
cash = app.Table("cash", key_type=bytes, value_type=bytes)


@app.agent(trades, name="fold")
async def fold_trades(stream: Any) -> None:
    async for event in stream.events():
        message = event.message
        output = fold_trade(event.value, message.partition, message.offset, positions, cash)
        await outputs.send(key=event.key, value=output, timestamp=message.timestamp)


StockTable = MutableMapping[bytes, bytes]


def fold_trade(value: bytes, partition: int, offset: int, positions: StockTable, cash: StockTable) -> bytes:
    trade = decode_trade(value)
    held_at, booked_at = position_key(trade), trade.portfolio_id.encode()
    held, booked = positions.get(held_at), cash.get(booked_at)
    position, balance = fold(
        trade,
        None if held is None else decode_position(held),
        None if booked is None else decode_cash(booked),
    )
    positions[held_at], cash[booked_at] = encode_value(position), encode_value(balance)
    return processed(trade, position, balance, partition, offset)

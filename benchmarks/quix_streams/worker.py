"""The two-table fold on Quix Streams: positions at average cost, and cash; one output for each trade.

    python -m benchmarks.quix_streams.worker BOOTSTRAP_SERVERS GROUP SOURCE OUTPUT STATE_FOLDER COMMIT_INTERVAL_MS

Exactly once, with Quix's RocksDB state and its changelog topic; everything else as Quix Streams ships. An interval of 0
means its default. Quix keeps a state for each message key, which is the portfolio; the symbol is the key within it.
Records and states are bytes, so Quix's serializers cost no time.
"""

import sys
from typing import Any

from quixstreams import Application, message_context

from benchmarks.two_tables import (
    decode_cash,
    decode_position,
    decode_trade,
    encode_value,
    fold,
    processed,
)

CASH = "cash"  # no symbol has lower-case letters


def fold_trade(value: bytes, state: Any) -> bytes:
    trade, place = decode_trade(value), message_context()
    held, booked = state.get_bytes(trade.symbol), state.get_bytes(CASH)
    position, cash = fold(
        trade,
        None if held is None else decode_position(held),
        None if booked is None else decode_cash(booked),
    )
    state.set_bytes(trade.symbol, encode_value(position))
    state.set_bytes(CASH, encode_value(cash))
    return processed(trade, position, cash, place.partition, place.offset)


def main(servers: str, group: str, source: str, output: str, folder: str, interval_ms: str) -> None:
    interval = {"commit_interval": int(interval_ms) / 1000} if int(interval_ms) else {}
    app = Application(
        broker_address=servers,
        consumer_group=group,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        state_dir=folder,
        loglevel="WARNING",
        **interval,
    )
    raw = {"key_deserializer": "bytes", "value_deserializer": "bytes"}
    trades = app.topic(source, **raw)
    outputs = app.topic(output, key_serializer="bytes", value_serializer="bytes")
    app.dataframe(trades).apply(fold_trade, stateful=True).to_topic(outputs)
    app.run()


if __name__ == "__main__":
    main(*sys.argv[1:])

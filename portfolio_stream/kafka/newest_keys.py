"""Counts the keys of the newest committed records of one partition. Belongs to no group, and commits nothing."""

import time
from collections import Counter

from aiokafka import TopicPartition

from portfolio_stream.kafka.batch_consumer import Piece, Reading, batch_consumer
from portfolio_stream.kafka.client import client_options, connected
from portfolio_stream.settings import Settings

PIECE_RECORDS = 1_000
READ_SECONDS = 10.0  # Kafka sends 20,000 events in less than a second; what came by then is the sample


async def newest_keys(settings: Settings, partition: int, count: int) -> Counter[bytes | None]:
    """Returns how many records each key has among the last `count` offsets of a partition of the input topic.

    Raises BrokerUnreachable and KafkaRefused.
    """
    found: Counter[bytes | None] = Counter()
    place = TopicPartition(settings.input_topic, partition)
    consumer = batch_consumer(
        Reading(PIECE_RECORDS), **client_options(settings), isolation_level="read_committed", auto_offset_reset="latest"
    )
    async with connected(settings, consumer):
        consumer.assign([place])
        start = (await consumer.beginning_offsets([place]))[place]
        end = (await consumer.end_offsets([place]))[place]
        consumer.seek(place, max(start, end - count))
        deadline = time.monotonic() + READ_SECONDS
        while await consumer.position(place) < end and time.monotonic() < deadline:
            for pieces in (await consumer.getmany(place, timeout_ms=1_000, max_records=1)).values():
                for piece in pieces:
                    if isinstance(piece, Piece):
                        found.update(record.key for record in piece.records if record.offset < end)
    return found

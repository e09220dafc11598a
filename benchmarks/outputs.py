"""The committed outputs in Kafka: up to which offset they go, and their records."""

import time
from collections.abc import Iterator

from confluent_kafka import OFFSET_BEGINNING, IsolationLevel, KafkaError, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._listoffsets import OffsetSpec

from benchmarks.reader import committed_consumer
from benchmarks.system import System
from benchmarks.two_tables import PARTITIONS

READ_SECONDS = 60.0  # for all records of a topic


class Stuck(Exception):
    """The worker ended, or writes no output."""


def ends(admin: AdminClient, topic: str) -> dict[int, int]:
    """Returns the last stable offset of each partition."""
    latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
    asked = {TopicPartition(topic, partition): latest for partition in range(PARTITIONS)}
    found = admin.list_offsets(asked, isolation_level=IsolationLevel.READ_COMMITTED)
    return {place.partition: future.result().offset for place, future in found.items()}


def committed(made: System, topic: str) -> Iterator[tuple[int, int, bytes]]:
    """Yield partition, offset and value of every committed record. Nobody may write to the topic any more."""
    consumer = committed_consumer(made.cluster.bootstrap_servers, {"enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    open_partitions, until = set(range(PARTITIONS)), time.monotonic() + READ_SECONDS
    while open_partitions:
        if time.monotonic() > until:
            raise Stuck(f"the committed records of {topic} cannot be read")
        for message in consumer.consume(10_000, 0.2):
            partition, offset, error = message.partition(), message.offset(), message.error()
            assert partition is not None and offset is not None
            if error is None:
                yield partition, offset, message.value() or b""
            elif error.code() == KafkaError._PARTITION_EOF:
                open_partitions.discard(partition)
    consumer.close()

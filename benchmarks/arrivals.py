"""Follow the outputs as a read_committed reader sees them: when an output of each partition came, and of which event.

The reader is a thread with librdkafka, so the thread that drives a drill does not delay it.
"""

import time
from bisect import bisect_left
from collections.abc import Mapping
from itertools import pairwise
from threading import Event, Thread
from types import TracebackType
from typing import NamedTuple, Self

from confluent_kafka import OFFSET_END, Consumer, TopicPartition

OPTIONS = {
    "group.id": "arrivals",  # librdkafka wants a name; the reader joins no group
    "isolation.level": "read_committed",
    "enable.auto.commit": False,
    "fetch.wait.max.ms": 50,
    "log_level": 3,
}
POLL_SECONDS = 0.02
END_SECONDS = 10.0


class Arrival(NamedTuple):
    """The last output of a partition in one poll."""

    #: monotonic seconds
    at: float
    source_offset: int


class Arrivals:
    """A context manager: the outputs that come while the block runs."""

    def __init__(self, servers: str, topic: str, partitions: int) -> None:
        self._servers = servers
        self._places = [TopicPartition(topic, partition, OFFSET_END) for partition in range(partitions)]
        self._is_over = Event()
        self._thread = Thread(target=self._read, name="arrivals", daemon=True)
        self._seen: dict[int, list[Arrival]] = {partition: [] for partition in range(partitions)}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over.set()
        self._thread.join(END_SECONDS)

    def first(self, partition: int, offset: int) -> float | None:
        """Returns when the first output of a source record at `offset` or later came, in monotonic seconds."""
        seen = self._seen[partition]
        found = bisect_left(seen, offset, key=lambda arrival: arrival.source_offset)
        return seen[found].at if found < len(seen) else None

    def have_passed(self, offsets: Mapping[int, int]) -> bool:
        """Every partition has an output of a source record at its offset or later."""
        return all(self.first(partition, offset) is not None for partition, offset in offsets.items())

    def longest_gap(self, partition: int, since: float, until: float) -> float:
        """Returns the longest time without an output between two moments."""
        moments = [since, *(arrival.at for arrival in self._seen[partition] if since < arrival.at < until), until]
        return max(later - earlier for earlier, later in pairwise(moments))

    def _read(self) -> None:
        consumer = Consumer({"bootstrap.servers": self._servers, **OPTIONS})
        consumer.assign(self._places)
        while not self._is_over.is_set():
            newest: dict[int, int] = {}
            for message in consumer.consume(10_000, POLL_SECONDS):
                value, partition = message.value(), message.partition()
                if message.error() is None and value is not None and partition is not None:
                    newest[partition] = source_offset(value)
            at = time.monotonic()
            for partition, offset in newest.items():
                self._seen[partition].append(Arrival(at, offset))
        consumer.close()


def source_offset(output: bytes) -> int:
    """Returns the source offset, which is the last field of an output."""
    return int(output[:-2].rpartition(b":")[2])


def source_ends(servers: str, topic: str, partitions: int) -> dict[int, int]:
    """Returns the next offset of each partition of a topic."""
    consumer = Consumer({"bootstrap.servers": servers, **OPTIONS})
    try:
        return {
            partition: consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=END_SECONDS)[1]
            for partition in range(partitions)
        }
    finally:
        consumer.close()

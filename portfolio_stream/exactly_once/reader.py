"""Fetches whole record batches: nothing is paid per record before the fold.

aiokafka's consumer is kept for its fetch sessions, metadata and positions. Every partition is assigned once and then
paused, sought and resumed by ownership: assign() would make all positions new. Progress is the fetch position, which
steps over transaction markers, aborted and compacted records.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import aiokafka.consumer.fetcher as fetcher
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka import errors as kafka_errors

from portfolio_stream.aiokafka_stop import stop_consumer
from portfolio_stream.exactly_once.header_names import read_leniently
from portfolio_stream.rebootstrap import recovering

Records = list[Any]


class FetchLimits(NamedTuple):
    #: a fetch waits for so many bytes, or for `max_wait_ms`
    min_bytes: int
    max_wait_ms: int
    partition_bytes: int


class _Woken(kafka_errors.KafkaError):  # type: ignore[misc]
    """Ends a fetch that waits."""


class CorruptBatch(kafka_errors.CorruptRecordException):  # type: ignore[misc]
    """A record batch whose CRC does not match its bytes, or whose codec fails."""

    def __init__(self, target: TopicPartition, offset: int, reason: str) -> None:
        place = f"the record batch at offset {offset} of {target.topic}-{target.partition}"
        super().__init__(f"{place} cannot be read: {reason}")
        self.partition, self.offset = target.partition, offset


class _WholeBatches(fetcher.PartitionRecords):  # type: ignore[misc]
    """Yields lists of aiokafka's C records, one list a record batch.

    A corrupt batch is yielded as the error, and ends the fetch: raised in here it would take along what aiokafka has
    drained of other partitions, whose positions have moved already.
    """

    def _unpack_records(self) -> Iterator[Records | CorruptBatch]:
        records = self._records
        while records.has_next():
            batch = records.next_batch()
            if self._check_crcs and not batch.validate_crc():
                yield CorruptBatch(self._tp, batch.base_offset, "its CRC is wrong")
                return
            if self._isolation_level == fetcher.READ_COMMITTED and batch.producer_id is not None:
                self._consume_aborted_up_to(batch.base_offset)
                if batch.is_control_batch and self._contains_abort_marker(batch):
                    self._aborted_producers.discard(batch.producer_id)
                if batch.is_transactional and batch.producer_id in self._aborted_producers:
                    self.next_fetch_offset = batch.next_offset
                    continue
            if batch.is_control_batch:
                self.next_fetch_offset = batch.next_offset
                continue
            try:
                try:
                    found = [record for record in batch if record.offset >= self.next_fetch_offset]
                except UnicodeDecodeError:
                    read = read_leniently(records, batch.base_offset)
                    found = [record for record in read if record.offset >= self.next_fetch_offset]
            except Exception as error:  # noqa: BLE001  each codec has errors of its own
                yield CorruptBatch(self._tp, batch.base_offset, type(error).__name__)
                return
            self.next_fetch_offset = batch.next_offset
            if found:
                yield found


_ordinary = fetcher.PartitionRecords


def _for_consumer(tp: Any, records: Any, aborted: Any, offset: Any, key_deserializer: Any, *rest: Any) -> Any:
    """Whole batches for our readers alone: every other consumer of this process stays as it is."""
    kind = _WholeBatches if key_deserializer is _WholeBatches else _ordinary
    return kind(tp, records, aborted, offset, None if kind is _WholeBatches else key_deserializer, *rest)


fetcher.PartitionRecords = _for_consumer


class BatchReader:
    """All partitions of one topic at read_committed, each paused until it is resumed."""

    def __init__(self, topic: str, partitions: int, client_options: Mapping[str, Any], limits: FetchLimits) -> None:
        self._topic = topic
        self._targets = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._corrupt: dict[int, CorruptBatch] = {}
        self._consumer = recovering(
            AIOKafkaConsumer(
                enable_auto_commit=False,
                isolation_level="read_committed",
                auto_offset_reset="none",
                key_deserializer=_WholeBatches,
                fetch_min_bytes=limits.min_bytes,
                fetch_max_wait_ms=limits.max_wait_ms,
                max_partition_fetch_bytes=limits.partition_bytes,
                **client_options,
            )
        )

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._targets)
        for target in self._targets:
            self._consumer.seek(target, 0)
            self._consumer.pause(target)

    async def stop(self) -> None:
        await stop_consumer(self._consumer)

    async def fetch(self, timeout_ms: int) -> Mapping[int, list[Records]]:
        """Record batches by partition; an empty mapping when `timeout_ms` went by, or it was woken.

        Raises CorruptBatch, once what was fetched beside it has been returned.
        """
        if self._corrupt:
            raise self._corrupt.popitem()[1]
        try:
            found = await self._consumer.getmany(timeout_ms=timeout_ms)
        except _Woken:
            return {}
        for target, batches in found.items():
            if isinstance(batches[-1], CorruptBatch):
                self._corrupt[target.partition] = batches.pop()
        return {target.partition: batches for target, batches in found.items() if batches}

    def wake(self) -> None:
        """A fetch that waits returns at once."""
        self._consumer._subscription.abort_waiters(_Woken())

    def resume(self, partition: int, offset: int) -> None:
        self._corrupt.pop(partition, None)
        self._consumer.seek(self._targets[partition], offset)
        self._consumer.resume(self._targets[partition])

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._corrupt.pop(partition, None)
            self._consumer.pause(self._targets[partition])

    async def position(self, partition: int) -> int:
        return await self._consumer.position(self._targets[partition])  # type: ignore[no-any-return]

    def last_stable_offset(self, partition: int) -> int | None:
        return self._consumer.last_stable_offset(self._targets[partition])  # type: ignore[no-any-return]

    def has_buffered(self, partition: int) -> bool:
        """Records of this partition are fetched but not handed out."""
        return self._targets[partition] in self._consumer._fetcher._records

"""The engine's reader of the source topic. It fetches whole record batches and does no work for a single record.

The reader uses aiokafka's consumer for fetch requests, metadata and positions. It assigns all partitions once, and
pauses, seeks and resumes them as the worker gains and loses them: a second assign() would reset all positions. Progress
is the fetch position: it steps over transaction markers, aborted records and compacted records.

After a fetch that brought the end of the log, the reader rests for one commit interval (`pace`). So the next fetch
brings the records of one interval, for one transaction.

One fetch gives at most `FetchLimits.fetch_bytes` and one piece more. The other buffered batches stay compressed.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from aiokafka import TopicPartition
from aiokafka import errors as kafka_errors

from portfolio_stream.kafka.aiokafka_stop import stop_consumer
from portfolio_stream.kafka.batch_consumer import Piece, Reading, batch_consumer
from portfolio_stream.kafka.rebootstrap import recovering
from portfolio_stream.kafka.record_batches import UnreadableBatch

Records = list[Any]

FETCH_BYTES = 8 << 20  # records in memory; an operator, a revocation or a stop waits until all are handed out
PIECE_RECORDS = 4_000  # eight slices


class FetchLimits(NamedTuple):
    #: a fetch waits until it has `min_bytes`, at most `max_wait_ms`
    min_bytes: int
    max_wait_ms: int
    partition_bytes: int
    #: a fetch gives at most so many bytes, and one piece more
    fetch_bytes: int = FETCH_BYTES


class _Woken(kafka_errors.KafkaError):  # type: ignore[misc]
    """Ends a waiting fetch."""


class BatchUnreadable(kafka_errors.KafkaError):  # type: ignore[misc]
    """A record batch cannot be read, now or later."""

    def __init__(self, batch: UnreadableBatch) -> None:
        super().__init__(str(batch))
        self.batch = batch
        self.partition, self.offset = batch.partition, batch.offset


class BatchReader:
    """Reads committed records of all partitions of one topic. Each partition is paused until `resume`."""

    def __init__(self, topic: str, partitions: int, client_options: Mapping[str, Any], limits: FetchLimits) -> None:
        self._topic = topic
        self._targets = [TopicPartition(topic, partition) for partition in range(partitions)]
        self._unreadable: dict[int, UnreadableBatch] = {}
        #: an error that came after records of the same fetch; the next fetch raises it
        self._error: kafka_errors.KafkaError | None = None
        self._rest = _Rest()
        self._fetch_bytes = limits.fetch_bytes
        self._reading = Reading(PIECE_RECORDS, for_side_reader=False)
        consumer = batch_consumer(
            self._reading,
            **client_options,
            isolation_level="read_committed",
            auto_offset_reset="none",
            fetch_min_bytes=limits.min_bytes,
            fetch_max_wait_ms=limits.max_wait_ms,
            max_partition_fetch_bytes=limits.partition_bytes,
        )
        self._consumer = recovering(consumer)

    async def start(self) -> None:
        await self._consumer.start()
        self._rest.apply_to(self._consumer._fetcher, self._has_more_to_fetch)
        self._consumer.assign(self._targets)
        for target in self._targets:
            self._consumer.seek(target, 0)
            self._consumer.pause(target)

    async def stop(self) -> None:
        await stop_consumer(self._consumer)

    async def fetch(self, timeout_ms: int) -> Mapping[int, list[Records]]:
        """Returns records by partition; nothing after `timeout_ms`, or after `wake`.

        Raises BatchUnreadable or OffsetOutOfRangeError, but only after it has returned the records that came before.
        """
        if self._unreadable:
            raise BatchUnreadable(self._unreadable.popitem()[1])
        error, self._error = self._error, None
        if error is not None:
            raise error
        found: dict[int, list[Records]] = {}
        size = 0
        while size < self._fetch_bytes:
            try:
                fetched = await self._consumer.getmany(timeout_ms=0 if found else timeout_ms, max_records=1)
            except _Woken:
                break
            except kafka_errors.KafkaError as error:
                if not found:
                    raise
                self._error = error
                break
            for target, (piece,) in fetched.items():
                if isinstance(piece, Piece):
                    found.setdefault(target.partition, []).append(piece.records)
                    size += piece.cost
                else:
                    self._unreadable[target.partition] = piece
            if not fetched or self._unreadable:
                break
        return found

    def pace(self, seconds: float) -> None:
        """From now on, rest for so many seconds after each fetch that brought the last records or markers of the log.

        The next fetch then brings all records that were written during the rest. A `resume` ends the rest. During a
        backlog there is no rest: each fetch brings only a part of the backlog, and rests would make reading slower.
        """
        self._rest.seconds = seconds

    def wake(self) -> None:
        """Make a waiting fetch return at once."""
        self._consumer._subscription.abort_waiters(_Woken())

    def resume(self, partition: int, offset: int) -> None:
        self._unreadable.pop(partition, None)
        self._error = None  # the error may be of this partition; one of another partition comes again
        self._consumer.seek(self._targets[partition], offset)
        self._consumer.resume(self._targets[partition])
        self._rest.end()

    def pause(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            self._unreadable.pop(partition, None)
            self._consumer.pause(self._targets[partition])

    async def position(self, partition: int) -> int:
        return await self._consumer.position(self._targets[partition])  # type: ignore[no-any-return]

    def last_stable_offset(self, partition: int) -> int | None:
        return self._consumer.last_stable_offset(self._targets[partition])  # type: ignore[no-any-return]

    def take_decode_seconds(self) -> float:
        """Returns the seconds since the last call in which bytes became records."""
        spent = self._reading.spent
        seconds, spent.seconds = spent.seconds, 0.0
        return seconds

    def has_buffered(self, partition: int) -> bool:
        """Whether records of this partition are fetched but not handed out."""
        return self._targets[partition] in self._consumer._fetcher._records

    def is_behind(self, partitions: Iterable[int]) -> bool:
        """Whether Kafka had more committed records of these partitions at their last fetch than were handed out."""
        buffered = self._consumer._fetcher._records
        return any(target in buffered or self._lacks(target) for target in map(self._targets.__getitem__, partitions))

    def _has_more_to_fetch(self) -> bool:
        """Whether a fetch would bring records that Kafka had at the last fetch."""
        buffered = self._consumer._fetcher._records
        return any(target not in buffered and self._lacks(target) for target in self._targets)

    def _lacks(self, target: TopicPartition) -> bool:
        """Whether the position is before the committed end that the last fetch told. A paused one lacks nothing."""
        state = self._consumer._subscription.subscription.assignment.state_value(target)
        if state.paused or not state.has_valid_position or state.lso is None:
            return False
        return bool(state.position < state.lso)


class _Rest:
    """Keeps aiokafka's fetcher from sending a fetch for some seconds after a fetch that brought something.

    There is no rest while a partition has more committed records in Kafka than its last fetch brought.

    The fetcher's routine asks which requests it can send. It asks when a request has ended, when records were consumed,
    and after the time-out that came with the last answer. During a rest the answer is: no request, and the time-out is
    the remaining rest.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        #: monotonic seconds
        self._until = 0.0
        self._fetcher: Any = None

    def end(self) -> None:
        self._until = 0.0
        if self._fetcher is not None:
            self._fetcher._notify(self._fetcher._wait_consume_future)

    def apply_to(self, fetcher: Any, is_behind: Callable[[], bool]) -> None:
        send, actions = fetcher._proc_fetch_request, fetcher._get_actions_per_node

        async def resting_send(*arguments: Any) -> bool:
            brought: bool = await send(*arguments)
            if brought:
                self._until = time.monotonic() + self.seconds
            return brought

        def resting_actions(assignment: Any) -> Any:
            rest = self._until - time.monotonic()
            return ([], {}, rest, False, []) if rest > 0 and not is_behind() else actions(assignment)

        fetcher._proc_fetch_request, fetcher._get_actions_per_node = resting_send, resting_actions
        self._fetcher = fetcher

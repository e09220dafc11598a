"""Reads the committed outputs that stand in one topic, for the partitions that repeat.

1. A partition's records come in order from the offset that `aim` names. The reader prefetches the next ones meanwhile.
2. One fetch may bring records of every partition. They wait in memory, a bounded number of bytes for each partition.
3. Only the main loop fetches. A recovery aims beside it: records of an older aim never count.
"""

import asyncio
import time
from collections.abc import Set
from typing import Any

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import OutputUnreadable
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.kafka.connections import Reader
from portfolio_stream.kafka.reader import BatchUnreadable, FetchLimits
from portfolio_stream.kafka.record_batches import cost

#: a fetch waits for nothing: everything to be read was written long ago
OUTPUT_FETCH = FetchLimits(min_bytes=1, max_wait_ms=100, partition_bytes=1 << 20, fetch_bytes=1 << 20)
WAITING_BYTES = 4 << 20  # of one partition's records in memory; then its reading pauses until they are compared
FETCH_SECONDS = 1.0  # the longest wait of one fetch


class _Aim:
    """One unbroken reading of a partition. `next` is the offset from which on nothing was taken yet."""

    __slots__ = ("at", "is_paused", "next", "problem", "read_to", "records", "size")

    def __init__(self, offset: int) -> None:
        self.next = self.read_to = offset
        self.records: list[Any] = []
        #: how many of the records are taken
        self.at = 0
        self.size = 0
        self.is_paused = False
        #: why no record follows
        self.problem: Exception | None = None


class StandingOutputs:
    def __init__(self, topic: str, reader: Reader) -> None:
        """`reader` is started."""
        self._topic = topic
        self._reader = reader
        self._aims: dict[int, _Aim] = {}

    async def stop(self) -> None:
        await self._reader.stop()

    def aim(self, partition: int, offset: int, *, anew: bool = False) -> None:
        """Read the partition from `offset` on. Nothing changes if the reading has come just there, unless `anew`."""
        known = self._aims.get(partition)
        if anew or known is None or known.problem is not None or known.next != offset:
            self._aims[partition] = _Aim(offset)
            self._reader.resume(partition, offset)

    def keep(self, partitions: Set[int]) -> None:
        """Read nothing more of all other partitions."""
        for partition in self._aims.keys() - partitions:
            del self._aims[partition]
            self._reader.pause((partition,))

    async def has_more(self, partition: int, until: int, deadline: float) -> bool:
        """Wait until a committed record below `until` is here (True), or none is left (False).

        Raises OutputUnreadable, Doubt, and a KafkaError; a Doubt at the monotonic second `deadline`, too.
        """
        aim = self._aims[partition]
        while aim.at == len(aim.records):
            if aim.problem is not None:
                raise aim.problem
            if aim.is_paused:
                aim.is_paused = False
                self._reader.resume(partition, aim.read_to)
            if await self._reader.position(partition) >= until:
                return False
            if (left := deadline - time.monotonic()) <= 0:
                raise Doubt(None, f"the outputs of {self._topic}-{partition} from {aim.next} on could not be read")
            await self._fetch(min(left, FETCH_SECONDS))
        return bool(aim.records[aim.at].offset < until)

    def take(self, partition: int, until: int, most: int) -> list[Any]:
        """At most `most` of the records that are here, all below `until`."""
        aim = self._aims[partition]
        taken = aim.records[aim.at : aim.at + most]
        while taken and taken[-1].offset >= until:
            taken.pop()
        if taken:
            aim.at += len(taken)
            aim.next = taken[-1].offset + 1
        if aim.at == len(aim.records):
            aim.records, aim.at, aim.size = [], 0, 0
        return taken

    async def _fetch(self, seconds: float) -> None:
        before = dict(self._aims)
        try:
            fetched = await self._reader.fetch(int(seconds * 1000))
        except BatchUnreadable as error:
            self._fails(error.partition, OutputUnreadable(self._topic, error.partition, error.offset, str(error.batch)))
            return
        except kafka_errors.OffsetOutOfRangeError as error:
            for target, offset in error.args[0].items():
                reason = f"{self._topic}-{target.partition} has no offset {offset}"
                self._fails(target.partition, Doubt(None, reason))
            return
        except kafka_errors.TopicAuthorizationFailedError:
            reason = "this worker is not allowed to read the topic"
            for partition, refused in self._aims.items():
                self._fails(partition, OutputUnreadable(self._topic, partition, refused.next, reason))
            return
        for partition, batches in fetched.items():
            aim = self._aims.get(partition)
            if aim is None:
                continue
            if aim is not before.get(partition):  # a recovery has aimed anew meanwhile
                self._reader.resume(partition, aim.next)
                continue
            for batch in batches:
                aim.records += batch
                aim.size += cost(batch)
                aim.read_to = batch[-1].offset + 1
            if aim.size > WAITING_BYTES:
                aim.is_paused = True
                self._reader.pause((partition,))
        if not fetched:
            await asyncio.sleep(0)  # a fetch that was woken may return at once

    def _fails(self, partition: int, problem: Exception) -> None:
        """No record follows until the partition is aimed anew."""
        self._reader.pause((partition,))
        if partition in self._aims:
            self._aims[partition].problem = problem

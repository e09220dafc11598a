"""Reads changelogs whole: a partition's state, the operators' decisions, and what a new changelog holds.

A changelog is read at read_committed up to an end that was asked for before. At that time nobody writes to it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import KafkaRefused, cause_of
from portfolio_stream.exactly_once.store import SKIP_KEY
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.kafka.connections import Reader
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.reader import BatchUnreadable, Records
from portfolio_stream.savepoints.state_hash import StateHash

FETCH_WAIT_MS = 50
STUCK_SECONDS = 30.0  # without any progress: a cluster takes 2 to 9 s to see that a broker is dead
PAUSE_SECONDS = 0.2
CORRUPT_TRIES = 3  # the bytes of a batch may be damaged only on their way

#: called with the number of records that were read so far
CountRead = Callable[[int], None]


def ignored(_: int) -> None:
    """For a caller who wants no progress."""


@dataclass(slots=True)
class ChangelogContent:
    """What a partition of a changelog holds. In a new changelog each key stands once."""

    state: StateHash = field(default_factory=StateHash)
    #: META and the operators' decisions
    own: dict[bytes, bytes] = field(default_factory=dict)

    def add(self, key: bytes, value: bytes) -> None:
        if key[:1] == b"\x00":
            self.own[key] = value
        else:
            self.state.add(key, value)


async def state_of(
    observation: Observation, topic: str, partition: int, count: CountRead = ignored
) -> dict[bytes, bytes]:
    """The newest value of each key, with META. Raises KafkaRefused.

    The whole state of one partition is in memory.
    """
    found: dict[bytes, bytes] = {}
    async with AsyncExitStack() as opened:
        reader = await observation.reader(topic, opened)
        bounds = (await observation.ended_bounds(topic))[partition]
        async for _, batches in _scan(reader, {partition: (bounds.start, bounds.stable)}, topic, count):
            for batch in batches:
                for record in batch:
                    if record.value is None:
                        found.pop(record.key, None)
                    elif record.key:  # no worker writes a record without a key
                        found[record.key] = record.value
    return found


async def decisions_of(
    observation: Observation, topic: str, since: Mapping[int, int], count: CountRead = ignored
) -> dict[int, dict[bytes, bytes]]:
    """The operators' decisions about source records from the offset `since` on, by partition. Raises KafkaRefused.

    Batches that cannot be read are passed over.
    """
    found: dict[int, dict[bytes, bytes]] = {partition: {} for partition in since}
    if not since:
        return found
    async with AsyncExitStack() as opened:
        reader = await observation.reader(topic, opened)
        bounds = await observation.ended_bounds(topic)
        spans = {partition: (bounds[partition].start, bounds[partition].stable) for partition in since}
        async for partition, batches in _scan(reader, spans, topic, count, passes_over=True):
            for batch in batches:
                for record in batch:
                    if is_decision(record.key or b"", since[partition]):
                        found[partition][record.key] = record.value
    return {partition: {k: v for k, v in rows.items() if v is not None} for partition, rows in found.items()}


def is_decision(key: bytes, since: int) -> bool:
    """Whether this is the key of an operator's decision about a source record from the offset `since` on."""
    return key.startswith(SKIP_KEY) and int.from_bytes(key[len(SKIP_KEY) :], "big") >= since


async def contents_of(observation: Observation, topic: str, count: CountRead = ignored) -> dict[int, ChangelogContent]:
    """What a new changelog holds, by partition. Raises KafkaRefused."""
    found = {partition: ChangelogContent() for partition in observation.partitions}
    async with AsyncExitStack() as opened:
        reader = await observation.reader(topic, opened)
        bounds = await observation.ended_bounds(topic)
        spans = {partition: (0, known.stable) for partition, known in bounds.items()}
        async for partition, batches in _scan(reader, spans, topic, count):
            add = found[partition].add
            for batch in batches:
                for record in batch:
                    add(record.key, record.value)
    return found


async def _scan(
    reader: Reader,
    spans: Mapping[int, tuple[int, int]],
    topic: str,
    count: CountRead,
    *,
    passes_over: bool = False,
) -> AsyncIterator[tuple[int, list[Records]]]:
    """Yields the records of each partition from the span's start to its end, in the order of their offsets."""
    left = {partition: end for partition, (start, end) in spans.items() if start < end}
    positions = {partition: spans[partition][0] for partition in left}
    for partition, start in positions.items():
        reader.resume(partition, start)
    tries: Counter[str] = Counter()
    total, moved, problem = 0, time.monotonic(), "its leader does not answer"
    while left:
        fetched: Mapping[int, list[Records]] = {}
        try:
            fetched = await reader.fetch(FETCH_WAIT_MS)
        except BatchUnreadable as damaged:
            problem = str(damaged)
            tries[problem] += 1
            if passes_over and tries[problem] == CORRUPT_TRIES:
                reader.resume(damaged.partition, damaged.batch.last_offset + 1)
        except (*LOST, kafka_errors.KafkaError) as error:
            problem = cause_of(error)
            await asyncio.sleep(PAUSE_SECONDS)
        for partition, batches in fetched.items():
            if partition in left:
                total += sum(map(len, batches))
                yield partition, batches
        for partition, end in list(left.items()):
            position = await reader.position(partition)
            if position != positions[partition]:
                positions[partition], moved = position, time.monotonic()
            if position >= end:
                del left[partition]
                reader.pause((partition,))
        count(total)
        if time.monotonic() - moved > STUCK_SECONDS:
            raise KafkaRefused(f"{topic}-{min(left)} cannot be read behind offset {positions[min(left)]}: {problem}")
        await asyncio.sleep(0)

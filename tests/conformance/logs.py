"""Logs: the offsets of markers, and the records and the position of the engine's reader at read_committed."""

import asyncio
from collections.abc import Awaitable

from aiokafka import errors as kafka_errors

from portfolio_stream.kafka.connections import Client, Reader
from tests.conformance.clients import (
    PATIENCE_SECONDS,
    Producer,
    connected,
    drained,
    ends,
    reading,
    stable_ends,
    written,
)
from tests.conformance.kafka import Kafka
from tests.conformance.scenario import Observed, shows
from tests.integration.workers import until

IDLE_FETCHES, IDLE_MILLISECONDS = 3, 200
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "200",
    "min.cleanable.dirty.ratio": "0.0",
    "delete.retention.ms": "0",
}


async def _producer(kafka: Kafka, client: Client, topic: str) -> Producer:
    producer = Producer(kafka, client, topic)
    await producer.start()
    return producer


@shows(
    [
        ((0, 0, 0), 0),
        ((0, 3, 3), [(0, "a"), (1, "b")], 3),
        ((0, 6, 6), [], 6),
        ((0, 12, 12), [(6, "c"), (8, "d"), (10, "e")], 12),
        [(0, "a"), (1, "b"), (6, "c"), (8, "d"), (10, "e")],
    ]
)
async def a_reader_steps_over_markers_and_aborted_batches(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client, reading(kafka, topic) as reader:
        one, other = await _producer(kafka, client, topic), await _producer(kafka, client, topic)
        seen: list[Observed] = []

        async def see() -> None:
            found = await stable_ends(client, topic)
            records = await drained(reader, found.last_stable)
            seen.append((tuple(found), records, await reader.position(0)))

        reader.resume(0, 0)
        seen.append((tuple(await ends(client, topic)), await reader.position(0)))
        await one.produce("a", "b")
        await one.commit()
        await see()  # the log ends with a marker
        await one.produce("hidden", "hidden")
        await one.abort()
        await see()  # only aborted records
        await one.produce("c")
        await other.produce("hidden")
        await one.produce("d", sequence=1)
        await other.abort()
        await written(client, topic, 10)
        await one.produce("e", sequence=2)
        await one.commit()
        await see()  # one of two parallel transactions is aborted
        reader.resume(0, 0)
        seen.append(await drained(reader, (await ends(client, topic)).high))
        return seen


@shows([(0, 2, 5), [(0, "a")], [{}, {}, {}], 2, 2, False, [(2, "open"), (3, "behind")], 6])
async def a_reader_waits_at_the_last_stable_offset(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client, reading(kafka, topic) as reader:
        one, other = await _producer(kafka, client, topic), await _producer(kafka, client, topic)
        await one.produce("a")
        await one.commit()
        await one.produce("open")
        await other.produce("behind")
        await other.commit()
        await written(client, topic, 5)
        reader.resume(0, 0)
        seen = [tuple(await ends(client, topic)), await drained(reader, 2)]
        idle = [await reader.fetch(IDLE_MILLISECONDS) for _ in range(IDLE_FETCHES)]
        seen += [idle, await reader.position(0), reader.last_stable_offset(0), reader.has_buffered(0)]
        await one.commit()
        seen += [await drained(reader, (await stable_ends(client, topic)).high), await reader.position(0)]
        return seen


@shows(
    [
        (0, 0, [(0, "a"), (1, "b"), (2, "c"), (3, "d")]),
        (1, 1, [(1, "b"), (2, "c"), (3, "d")]),
        (4, 4, []),
        (3, 3, [(3, "d")]),
        (0, 0, [(0, "a"), (1, "b"), (2, "c"), (3, "d")]),
        ("over what was buffered", False, [(2, "c"), (3, "d")]),
    ]
)
async def a_reader_is_sought(kafka: Kafka) -> Observed:
    """A reader seeks into a batch, backwards, and while it has records that it has not handed out."""
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client, reading(kafka, topic) as reader:
        one = await _producer(kafka, client, topic)
        await one.produce("a", "b", "c")
        await one.produce("d", sequence=3)
        await one.commit()
        high = (await stable_ends(client, topic)).high
        seen = []
        for offset in (0, 1, 4, 3, 0):
            reader.resume(0, offset)
            seen.append((offset, await reader.position(0), await drained(reader, high)))
        reader.resume(0, 0)
        await _buffered(reader)
        reader.resume(0, 2)
        seen.append(("over what was buffered", reader.has_buffered(0), await drained(reader, high)))
        return seen


async def _buffered(reader: Reader) -> None:
    await until(lambda: reader.has_buffered(0), PATIENCE_SECONDS, "something is buffered")


@shows([[2, 2], [(0, "b")], 0, [{}, {}, {}], False, [(0, "a")], 2])
async def a_reader_is_paused(kafka: Kafka) -> Observed:
    """A reader hands out nothing of a paused partition, and forgets fetched records: it goes on where it stood."""
    topic = await kafka.create_topic(2)
    async with connected(kafka, topic) as client, reading(kafka, topic, 2) as reader:
        one = await _producer(kafka, client, topic)
        await one.produce("a")
        await one.produce("b", partition=1)
        await one.commit()
        highs = [(await stable_ends(client, topic, partition)).high for partition in (0, 1)]
        reader.resume(0, 0)
        await _buffered(reader)
        reader.pause([0])
        reader.resume(1, 0)
        seen = [highs, await drained(reader, highs[1], 1), await reader.position(0)]
        seen += [[await reader.fetch(IDLE_MILLISECONDS) for _ in range(IDLE_FETCHES)], reader.has_buffered(0)]
        reader.resume(0, await reader.position(0))
        seen += [await drained(reader, highs[0]), await reader.position(0)]
        return seen


@shows([{}, {}, True])
async def a_reader_is_woken(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with reading(kafka, topic) as reader:
        loop = asyncio.get_running_loop()
        reader.resume(0, 0)
        seen = [await reader.fetch(0)]
        began = loop.time()
        loop.call_later(0.3, reader.wake)
        seen += [await reader.fetch(20_000), loop.time() - began < 10.0]
        return seen


async def _forever(reader: Reader) -> None:
    while True:
        await reader.fetch(IDLE_MILLISECONDS)


@shows(
    [
        ("out of range", 5),
        [(1, "b"), (2, "c")],
        [(0, "a"), (1, "b"), (2, "c")],
        ("out of range", 5),
        (2, 4, 4),
        ("out of range", 0),
        [(2, "c")],
        [],
    ]
)
async def an_offset_that_is_not_in_the_log(kafka: Kafka) -> Observed:
    topic = await kafka.create_topic(1)
    async with connected(kafka, topic) as client, reading(kafka, topic) as reader:
        one = await _producer(kafka, client, topic)
        await one.produce("a", "b", "c")
        await one.commit()
        high = (await stable_ends(client, topic)).high
        seen: list[Observed] = []

        async def see_now(work: Awaitable[Observed]) -> None:
            try:
                seen.append(await work)
            except kafka_errors.OffsetOutOfRangeError as error:
                seen.append(("out of range", *error.args[0].values()))

        async def see(offset: int) -> None:
            reader.resume(0, offset)
            await see_now(drained(reader, high))

        async def see_beyond(offset: int) -> None:
            reader.resume(0, offset)
            await see_now(_forever(reader))

        await see_beyond(high + 1)
        await see(1)
        reader.resume(0, high + 1)
        await _buffered(reader)
        await see(0)  # the error belonged to the position before
        reader.resume(0, high + 1)
        await _buffered(reader)
        reader.pause([0])
        await see_now(reader.fetch(IDLE_MILLISECONDS))
        await kafka.trim(topic, 2)
        seen.append(tuple(await ends(client, topic)))
        await see(0)
        await see(2)
        await see(high)
        return seen


@shows(((0, 12, 12), [(2, "3"), (4, "5"), (8, "6"), (10, "7")], 12), slow=True)
async def compaction_leaves_gaps(kafka: Kafka) -> Observed:
    """Compaction of a changelog keeps the last value of each key at its offset, and removes aborted records."""
    topic = await kafka.create_topic(1, COMPACTED)
    async with connected(kafka, topic) as client:
        one = await _producer(kafka, client, topic)
        for index, (key, value) in enumerate((("a", "1"), ("b", "2"), ("a", "3"), ("c", "4"), ("b", "5"))):
            await one.produce(value, key=key, sequence=index)
        await one.commit()
        await one.produce("hidden", key="a")
        await one.abort()
        await one.produce("6", key="c")
        await one.commit()
        await asyncio.sleep(0.5)  # the next record opens a new segment
        await one.produce("7", key="d")
        await one.commit()
        high = (await stable_ends(client, topic)).high
        while True:
            await kafka.compact(topic)
            async with reading(kafka, topic) as reader:
                reader.resume(0, 0)
                records = await drained(reader, high)
                if len(records) <= 4:
                    return tuple(await ends(client, topic)), records, await reader.position(0)
            await asyncio.sleep(0.5)

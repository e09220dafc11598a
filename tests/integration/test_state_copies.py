"""A running engine's state is copied on a real broker: tables, offsets and ends of outputs are those of one moment."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from pathlib import Path
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.exactly_once.database import RocksCopy
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.operations import CopyState, StateCopy
from portfolio_stream.exactly_once.store import copied_rows
from tests.integration.local_engine import running

pytestmark = pytest.mark.kafka
PARTITIONS = 2
KEYS = 50


@asynccontextmanager
async def load(servers: str, topic: str) -> AsyncIterator[None]:
    """Send records, a few at a time, until the end of the block."""

    async def send() -> None:
        async with AIOKafkaProducer(bootstrap_servers=servers) as producer:
            for number in count():
                await producer.send(topic, b"", key=b"%d" % (number % KEYS), partition=number % PARTITIONS)
                if number % 20 == 0:
                    await asyncio.sleep(0.005)

    sending = asyncio.create_task(send())
    yield
    sending.cancel()
    await asyncio.wait((sending,))


async def committed(servers: str, topic: str, partition: int, end: int) -> list[bytes]:
    """The keys of the committed records before `end`."""
    place, found = TopicPartition(topic, partition), list[bytes]()
    async with AIOKafkaConsumer(
        bootstrap_servers=servers, isolation_level="read_committed", auto_offset_reset="earliest"
    ) as consumer:
        consumer.assign([place])
        while await consumer.position(place) < end:
            for records in (await consumer.getmany(timeout_ms=100)).values():
                found += [record.key for record in records if record.offset < end]
    return found


async def check(servers: str, engine: Engine, copy: StateCopy) -> None:
    """The rows are the counts of the source records before the offset. Their outputs stand before the end."""
    assert set(range(PARTITIONS)) == copy.parts.keys()
    topics = engine.configuration.topics
    database = RocksCopy(copy.folder)
    for partition, copied in copy.parts.items():
        keys = await committed(servers, topics[0], partition, copied.offset)
        rows = {key.removeprefix(b"counts\x00"): int(value) for key, value in copied_rows(database.cursor(), partition)}
        assert Counter(keys) == rows
        assert keys == await committed(servers, topics[2], partition, copied.outputs[topics[2]])
        assert 0 == copied.outputs[topics[3]]
        assert 0 < copied.changelog_offset
    database.close()


async def test_copies_of_a_loaded_engine_are_exact(kafka: Cluster, tmp_path: Path) -> None:
    """Also of the last one, which pauses the partitions: nothing is folded after it."""
    servers, name = kafka.bootstrap_servers, f"copies-{uuid4().hex[:8]}"
    every = frozenset(range(PARTITIONS))
    async with running(servers, name, PARTITIONS, tmp_path) as engine:
        async with load(servers, f"{name}-in"):
            copies = []
            for number in range(5):
                before = engine.statistics.events
                while engine.statistics.events < before + 500:  # noqa: ASYNC110  the engine tells no test of it
                    await asyncio.sleep(0.01)
                folder = tmp_path / "local" / "copies" / str(number)
                copies.append(await engine.ask(CopyState(every, folder, pauses=number == 4)))
        for copy in copies:
            await check(servers, engine, copy)
        assert engine.started is not None
        assert {p: copied.offset for p, copied in copies[-1].parts.items()} == {
            p: engine.started.partitions[p].committed for p in every
        }

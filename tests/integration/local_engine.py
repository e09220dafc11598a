"""The engine in the test's own process, on a real broker: a fold that counts the records of each key."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aiokafka.admin import NewTopic

from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.identity import claim, release
from portfolio_stream.exactly_once.ports import TableDefinition
from portfolio_stream.exactly_once.slices import Slice
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.connections import KafkaConnections
from tests.integration.topics import KEPT, create_readable

COUNTS: TableDefinition[int] = TableDefinition(name="counts", encode=lambda value: b"%d" % value, decode=int)


def configuration_of(name: str) -> Configuration:
    return Configuration(
        group=name,
        source_topic=f"{name}-in",
        changelog_topic=f"{name}-log",
        output_topics=(f"{name}-out", f"{name}-dlq"),
        fold="counts",
    )


@asynccontextmanager
async def running(servers: str, name: str, partitions: int, folder: Path) -> AsyncIterator[Engine]:
    """An engine that serves all partitions of new topics. Each record gives one output."""
    configuration = configuration_of(name)
    for topic in configuration.topics:
        await create_readable(servers, NewTopic(topic, partitions, 1, topic_configs=KEPT))
    identity = claim(folder, "local")
    kafka = KafkaConnections(options={"bootstrap_servers": servers}, client_id="local@127.0.0.1:1")
    engine = Engine(configuration, kafka, identity, Store(identity.folder / "store"), [COUNTS])

    async def fold(piece: Slice) -> None:
        if not piece.is_current:
            return engine.discarded(piece)
        counts, append = piece.view(COUNTS), piece.appender(f"{name}-out")
        for record in piece.records:
            key = record.key or b""
            counts.put(key, (counts[key] or 0) + 1)
            append(record.timestamp, key, b"", ())
        return engine.acknowledged(piece)

    await engine.start()
    task = asyncio.create_task(engine.run(fold))
    try:
        async with asyncio.timeout(30):
            while len(engine.served) < partitions:  # noqa: ASYNC110  the engine tells no test of it
                await asyncio.sleep(0.01)
        yield engine
    finally:
        await engine.stop(task)
        await asyncio.wait((task,))
        await engine.close()
        release(identity)

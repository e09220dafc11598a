"""`python -m tests.archive` makes the archive of Java classes with which the tests' brokers start in half the time.

The archive holds the classes that a broker loaded in one run, ready for use (JEP 483, 514). Java itself checks that
the archive is whole and fits the Java and the jars, and starts without a wrong one. Without an archive, the tests take
longer.
"""

import asyncio
import sys
import tempfile
from pathlib import Path

from aiokafka import AIOKafkaProducer

from portfolio_stream.broker import cluster as broker
from portfolio_stream.kafka.admin import admin_client, create_all
from portfolio_stream.kafka.tools import java
from portfolio_stream.settings import Settings
from tests.ports import free_port

ARCHIVE = Path(sys.prefix) / "kafka.aot"  # beside the Java that it fits
WRITING_SECONDS = 120.0  # a broker writes the archive when it stops; that takes 4 s on an idle machine


def use() -> None:
    """Let the brokers that this process starts use the archive, if it exists."""
    if ARCHIVE.exists():
        add_flags(f"-XX:AOTCache={ARCHIVE}", "-XX:+VerifySharedSpaces", "-Xlog:aot*=off")


def add_flags(*flags: str) -> None:
    java.FLAGS = {**java.FLAGS, "small": (*java.FLAGS["small"], *flags)}


def make() -> None:
    """Run a broker, and a transaction on it, with the classes recorded. The archive gets its name when complete."""
    new = ARCHIVE.with_suffix(".new")
    with tempfile.TemporaryDirectory() as folder, broker.Cluster(Path(folder) / "broker", free_port()) as cluster:
        cluster.stop()
        broker.STOP_SECONDS = WRITING_SECONDS
        add_flags(f"-XX:AOTCacheOutput={new}", "-Xlog:aot*=off")
        cluster.start()
        asyncio.run(_work(Settings(bootstrap_servers=cluster.bootstrap_servers, replication_factor=1)))
    new.replace(ARCHIVE)


async def _work(settings: Settings) -> None:
    async with admin_client(settings) as admin:
        await create_all(admin, settings)
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers, transactional_id="archive")
    async with producer, producer.transaction():
        await producer.send_and_wait(settings.input_topic, b"{}")


if __name__ == "__main__":
    make()

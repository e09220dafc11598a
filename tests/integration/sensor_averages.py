"""The app of docs/another-domain.md, as it stands there, on a stage: tests run what readers copy."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.workers import Stage, Worker

PAGE = Path(__file__).parents[2] / "docs" / "another-domain.md"
GROUP, READINGS, AVERAGES = "sensor-averages", "readings", "averages"
PARTITIONS = 3


def code() -> str:
    """The page's one Python block."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


async def open_stage(stage: Stage) -> None:
    """The module in a folder of its own, and the source topic; the rest the app makes."""
    folder = stage.folder / "app"
    folder.mkdir()
    (folder / "sensor_averages.py").write_text(code())
    await make(stage, NewTopic(READINGS, PARTITIONS, 1))


def worker(stage: Stage, name: str) -> Worker:
    environment = {
        "KAFKA": stage.settings.bootstrap_servers,
        "FAUST_DATADIR": str(stage.folder / "data" / name),
        "PYTHONPATH": str(stage.folder / "app"),
    }
    return stage.worker(name, app="sensor_averages", **environment)


async def make(stage: Stage, *topics: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.settings.bootstrap_servers)
    await admin.start()
    try:
        answer = await admin.create_topics(list(topics))
    finally:
        await admin.close()
    assert [0] * len(topics) == [error[1] for error in answer.topic_errors]


async def send(stage: Stage, readings: Mapping[int, Iterable[tuple[bytes, bytes]]]) -> None:
    """Sensors and readings to their partitions, those of each in this order."""
    async with AIOKafkaProducer(
        bootstrap_servers=stage.settings.bootstrap_servers, enable_idempotence=True
    ) as producer:
        for partition, records in readings.items():
            for sensor, reading in records:
                await producer.send(READINGS, reading, sensor, partition=partition)


def averages(readings: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """What must stand in a partition of the output behind these source records."""
    seen: dict[bytes, list[int]] = defaultdict(list)
    expected = []
    for record in readings:
        seen[record.key].append(int(record.value))
        expected.append((record.key, b"%d" % (sum(seen[record.key]) // len(seen[record.key]))))
    return expected

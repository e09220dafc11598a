"""Runs the app of docs/another-domain.md on a stage: the tests run exactly the code that readers copy."""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from tests.integration.workers import Worker, WorkersStage

PAGE = Path(__file__).parents[2] / "docs" / "another-domain.md"
GROUP, READINGS, AVERAGES = "sensor-averages", "readings", "averages"
PARTITIONS = 3


def code() -> str:
    """Returns the only Python block of the page."""
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    assert isinstance(block, str)
    return block


async def open_stage(stage: WorkersStage) -> None:
    """Write the app's module, and create the source topic. The app creates its other topics."""
    folder = stage.folder / "app"
    folder.mkdir()
    (folder / "sensor_averages.py").write_text(code())
    await make(stage, NewTopic(READINGS, PARTITIONS, 1))


def worker(stage: WorkersStage, name: str) -> Worker:
    environment = {
        "KAFKA": stage.settings.bootstrap_servers,
        "FAUST_DATADIR": str(stage.folder / "data" / name),
        "PYTHONPATH": str(stage.folder / "app"),
    }
    return stage.worker(name, app="sensor_averages", **environment)


async def make(stage: WorkersStage, *topics: NewTopic) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.settings.bootstrap_servers)
    await admin.start()
    try:
        answer = await admin.create_topics(list(topics))
    finally:
        await admin.close()
    assert [0] * len(topics) == [error[1] for error in answer.topic_errors]


async def send(stage: WorkersStage, readings: Mapping[int, Iterable[tuple[bytes, bytes]]]) -> None:
    """Send (sensor, reading) records to partitions, in the given order."""
    async with AIOKafkaProducer(
        bootstrap_servers=stage.settings.bootstrap_servers, enable_idempotence=True
    ) as producer:
        for partition, records in readings.items():
            for sensor, reading in records:
                await producer.send(READINGS, reading, sensor, partition=partition)


def averages(readings: Iterable[Any]) -> list[tuple[bytes, bytes]]:
    """Returns the outputs that a partition's source records must give."""
    seen: dict[bytes, list[int]] = defaultdict(list)
    expected = []
    for record in readings:
        seen[record.key].append(int(record.value))
        expected.append((record.key, b"%d" % (sum(seen[record.key]) // len(seen[record.key]))))
    return expected

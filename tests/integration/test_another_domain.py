"""The app that the docs show is exactly-once while workers are killed."""

from dataclasses import replace
from random import Random
from signal import SIGTERM

import psutil
from aiokafka.admin import AIOKafkaAdminClient

from tests.integration import sensor_averages
from tests.integration.histories import read
from tests.integration.sensor_averages import AVERAGES, GROUP, PARTITIONS, READINGS
from tests.integration.workers import Worker, WorkersStage, until
from tests.judge.histories import anomalies

STEPS, READINGS_A_STEP = 6, 1_500


def test_it_is_as_short_as_it_says() -> None:
    """The app has at most thirty lines, which readers can see at a glance."""
    assert 30 >= sum(1 for line in sensor_averages.code().splitlines() if line.strip())


async def send_step(stage: WorkersStage, random: Random) -> None:
    places = range(PARTITIONS)
    readings: dict[int, list[tuple[bytes, bytes]]] = {partition: [] for partition in places}
    for _ in range(READINGS_A_STEP):
        partition = random.choice(places)
        sensor = b"s%d-%d" % (partition, random.randrange(30))
        readings[partition].append((sensor, b"%d" % random.randrange(-500, 1_000)))
    await sensor_averages.send(stage, readings)


async def wait_for_all(stage: WorkersStage, worker: Worker) -> None:
    """Return when the group has committed every reading."""
    admin = AIOKafkaAdminClient(bootstrap_servers=stage.settings.bootstrap_servers)
    await admin.start()

    async def is_done() -> bool:
        offsets = await admin.list_consumer_group_offsets(GROUP)
        return sum(meta.offset for meta in offsets.values()) == STEPS * READINGS_A_STEP

    try:
        await until(is_done, 20, "every reading is committed", worker)
    finally:
        await admin.close()


def listening(worker: Worker) -> list[object]:
    assert worker.process is not None
    connections = psutil.Process(worker.process.pid).net_connections()
    return [each.laddr for each in connections if each.status == psutil.CONN_LISTEN]


async def test_the_docs_app_is_exactly_once(stage: WorkersStage) -> None:
    """A worker is killed twice and another joins under load: each reading gives one right average, in order."""
    await sensor_averages.open_stage(stage)
    first, second = (sensor_averages.worker(stage, name) for name in ("w1", "w2"))
    first.start()
    await stage.serving(first)
    random = Random(3)
    for step in range(STEPS):
        await send_step(stage, random)
        if step == 2:
            second.start()
        if step in (1, 4):
            first.kill()
            first.start()
    await stage.serving(first)
    await wait_for_all(stage, first)

    settings = replace(stage.settings, partitions=PARTITIONS)
    sources, outputs = await read(settings, READINGS), await read(settings, AVERAGES)
    for partition in range(PARTITIONS):
        expected = list(enumerate(sensor_averages.averages(sources[partition])))
        found = list(enumerate((record.key, record.value) for record in outputs[partition]))
        assert len(expected) > STEPS * READINGS_A_STEP / PARTITIONS / 2
        assert [] == anomalies("average", expected, found)[:20]
    await stage.serving(second)
    assert [] == listening(second), "Faust's own web server lets everyone in"
    for worker in (first, second):
        worker.signal(SIGTERM)
    assert [0, 0] == [await worker.ended(5) for worker in (first, second)]

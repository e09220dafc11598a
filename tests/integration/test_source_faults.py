"""Faults of topics under a running worker: a refused record, a source that is replaced or gets more partitions."""

from signal import SIGTERM
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from portfolio_stream.kafka.admin import admin_client, create_all
from tests.integration.histories import Load
from tests.integration.workers import WorkersStage, group_offsets, until

REFUSED = 5  # the partition that gets a record which its dead-letter topic cannot hold
BEFORE = 40  # records before it in that partition
OVER_DEFAULT_LIMIT = b"x" * 2_000_000  # 2 KB compressed in the source, 2 MB as a dead letter


async def ends(stage: WorkersStage, topic: str) -> dict[int, int]:
    places = [TopicPartition(topic, partition) for partition in range(stage.settings.partitions)]
    async with AIOKafkaConsumer(bootstrap_servers=stage.settings.bootstrap_servers) as consumer:
        return {place.partition: end for place, end in (await consumer.end_offsets(places)).items()}


async def test_a_refused_record_stops_its_partition_alone(stage: WorkersStage) -> None:
    """The dead-letter topic refuses one record: its partition halts at that offset.

    The records before it are committed, and the other partitions lose no event.
    """
    (worker,) = await stage.started("w1")
    small = {"cleanup.policy": "delete", "retention.ms": "-1", "max.message.bytes": "1048588"}
    async with admin_client(stage.settings) as admin:  # a worker would not start over such a topic
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, stage.settings.dlq_topic, small)])
    async with AIOKafkaProducer(
        bootstrap_servers=stage.settings.bootstrap_servers, compression_type="gzip", max_request_size=4 << 20
    ) as producer:
        for value in (*[b"no event"] * BEFORE, OVER_DEFAULT_LIMIT):
            await producer.send(stage.settings.input_topic, value, partition=REFUSED)
    load = Load.of(stage.settings, 8_000, 0)
    load.start()
    await load.done()
    source = await ends(stage, stage.settings.input_topic)
    healthy = {partition: end for partition, end in source.items() if partition != REFUSED}

    async def others_are_done() -> bool:
        async with admin_client(stage.settings) as admin:
            committed = {place[1]: offset for place, offset in (await group_offsets(admin)).items()}
        return healthy == {partition: committed.get(partition) for partition in healthy}

    await until(others_are_done, 20, f"the other partitions are done\n{worker.text[-3000:]}")
    await until(lambda: bool(worker.events("partition stopped")), 20, "the partition stops", worker)
    stopped = [(event["partition"], event["offset"]) for event in worker.events("partition stopped")]
    assert {(REFUSED, BEFORE)} == set(stopped)

    async def before_is_committed() -> bool:
        async with admin_client(stage.settings) as admin:
            return (await group_offsets(admin))[stage.settings.input_topic, REFUSED] == BEFORE

    await until(before_is_committed, 10, "what stands before the record is committed")
    assert "message_too_large" in worker.text and stage.settings.dlq_topic in worker.text
    worker.signal(SIGTERM)
    assert 0 == await worker.ended(5)


async def test_a_replaced_source_ends_the_worker(stage: WorkersStage) -> None:
    """A source topic that was deleted and created again has other records at its offsets.

    The worker reads none of them and ends; a restart says why.
    """
    load = Load.of(stage.settings, 2_000, 0)
    load.start()
    await load.done()
    (worker,) = await stage.started("w1")
    async with admin_client(stage.settings) as admin:
        await admin.delete_topics([stage.settings.input_topic])
        await until(lambda: _gone(admin, stage.settings.input_topic), 10, "the topic is deleted")
        await create_all(admin, stage.settings)
    assert 1 == await worker.ended(20), worker.text[-3000:]
    assert "was deleted and made again" in worker.text and "Traceback" not in worker.text


async def _gone(admin: Any, topic: str) -> bool:
    return topic not in await admin.list_topics()


async def test_a_grown_source_ends_the_worker(stage: WorkersStage) -> None:
    """With more partitions, keys belong to other partitions. The worker ends and names the topic.

    If it went on, good events would become dead letters.
    """
    (worker,) = await stage.started("w1")
    grown = stage.settings.partitions + 1
    async with admin_client(stage.settings) as admin:
        await admin.create_partitions({stage.settings.input_topic: NewPartitions(grown)})
    assert 1 == await worker.ended(20), worker.text[-3000:]
    assert f"Topic {stage.settings.input_topic} has partition count" in worker.text
    assert "Traceback" not in worker.text

"""A job that begins is refused on a real broker where another job's outputs stand."""

from uuid import uuid4

import msgspec
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic

from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.control.job_control import JobControl, control_topic
from portfolio_stream.control.values import ControlChange, Generation, generation_key
from portfolio_stream.errors import OutputsStand
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.jobs.first_start import require_no_outputs
from portfolio_stream.kafka.connections import KafkaConnections
from tests.integration.topics import KEPT, create_readable


async def test_a_job_does_not_begin_without_state_where_outputs_stand(kafka: Cluster) -> None:
    """It may begin while nothing stands, if the group has its offsets, and once it has begun."""
    name = f"first-{uuid4().hex[:8]}"
    source, output, changelog = (f"{name}-{role}" for role in ("in", "out", "changelog"))
    for topic, partitions in {source: 2, output: 2, changelog: 2, control_topic(name): 1}.items():
        await create_readable(kafka.bootstrap_servers, NewTopic(topic, partitions, 1, topic_configs=KEPT))
    connections = KafkaConnections(options={"bootstrap_servers": kafka.bootstrap_servers}, client_id="test")
    control = JobControl(connections, group=name, source_topic=source)
    conf = Configuration(
        group=name, source_topic=source, changelog_topic=changelog, output_topics=(output,), fold="f", older_folds=()
    )
    first = Generation(
        number=1,
        changelog_topic=changelog,
        source_topic_id=None,
        partitions=2,
        first_offsets={},
        fold="f",
        origin="first start",
    )
    await control.open()
    try:
        await require_no_outputs(control, connections, conf)
        async with AIOKafkaProducer(bootstrap_servers=kafka.bootstrap_servers) as producer:
            await producer.send_and_wait(output, b"an output", partition=1)
        with pytest.raises(OutputsStand, match=f"{output}-1 has outputs already"):
            await require_no_outputs(control, connections, conf)
        records: dict[str, msgspec.Struct | None] = {generation_key(1): first}
        await control.change(lambda _: ControlChange(records=records, offsets={1: 7}, generation=1))
        await require_no_outputs(control, connections, conf)
        await control.begin_job(first)
        await require_no_outputs(control, connections, conf)
    finally:
        await control.stop()

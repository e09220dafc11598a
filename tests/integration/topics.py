"""Topics that a test makes for itself."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

#: records have stamps of long ago: retention, which comes by half a minute after a broker's start, would take them
KEPT = {"retention.ms": "-1"}


async def create_readable(servers: str, topic: NewTopic) -> None:
    """Return when each partition's leader answers: the controller says that a topic is made before brokers know it."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        answer = await admin.create_topics([topic])
    finally:
        await admin.close()
    assert [0] == [error[1] for error in answer.topic_errors]
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        await consumer.end_offsets([TopicPartition(topic.name, partition) for partition in range(topic.num_partitions)])

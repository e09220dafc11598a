"""Topics that a test creates for itself."""

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

#: the records' timestamps are old: half a minute after a broker's start, retention would delete the records
KEPT = {"retention.ms": "-1"}


async def create_readable(servers: str, topic: NewTopic) -> None:
    """Create the topic, and return when each partition's leader answers.

    The controller answers earlier: when the topic exists, but brokers do not know it yet.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        answer = await admin.create_topics([topic])
    finally:
        await admin.close()
    assert [0] == [error[1] for error in answer.topic_errors]
    async with AIOKafkaConsumer(bootstrap_servers=servers) as consumer:
        await consumer.end_offsets([TopicPartition(topic.name, partition) for partition in range(topic.num_partitions)])

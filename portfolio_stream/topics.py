"""The topics of the contract: names, partition counts, configurations."""

from collections.abc import Mapping

from portfolio_stream.kafka_topics import ANY_TIMESTAMP, WEEK_MS, Topic
from portfolio_stream.settings import Settings

#: Kafka takes 1 MB otherwise: less than a portfolio with very many currencies has, or a dead letter of many headers
LARGE = {"max.message.bytes": str(4 << 20)}
PRICES_PARTITIONS = 1  # a global table: each worker reads all of it


def all_topics(settings: Settings) -> tuple[Topic, ...]:
    """Every topic of the contract, the input first."""
    durable = {"min.insync.replicas": "2"} if settings.replication_factor >= 3 else {}
    kept = {"cleanup.policy": "delete", "retention.ms": "-1"} | durable
    compacted = {"cleanup.policy": "compact"} | durable

    def topic(name: str, configuration: Mapping[str, str], **options: object) -> Topic:
        values = {"partitions": settings.partitions, "replication_factor": settings.replication_factor} | options
        return Topic(name=name, configuration=configuration, **values)  # type: ignore[arg-type]

    return (
        topic(settings.input_topic, kept, made_by_worker=False),
        topic(settings.output_topic, kept | ANY_TIMESTAMP | LARGE),
        topic(settings.dlq_topic, kept | ANY_TIMESTAMP | LARGE),
        topic(settings.changelog_topic, compacted | ANY_TIMESTAMP | LARGE | {"delete.retention.ms": WEEK_MS}),
        topic(settings.prices_topic, compacted, partitions=PRICES_PARTITIONS),
    )

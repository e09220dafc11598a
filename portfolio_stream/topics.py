"""The topics of the contract: names, partition counts, configurations."""

from collections.abc import Mapping
from dataclasses import dataclass

from portfolio_stream.settings import Settings

FOREVER = "9223372036854775807"  # Long.MAX: a source record's odd clock must not block its partition for ever
ANY_TIMESTAMP = {"message.timestamp.before.max.ms": FOREVER, "message.timestamp.after.max.ms": FOREVER}
WEEK_MS = str(7 * 24 * 3600 * 1000)  # tombstones outlive any reasonable absence of a store
PRICES_PARTITIONS = 1  # a global table: each worker reads all of it


@dataclass(frozen=True, kw_only=True, slots=True)
class Topic:
    name: str
    partitions: int
    replication_factor: int
    configuration: Mapping[str, str]
    #: a worker makes it if it is missing
    made_by_worker: bool = True

    @property
    def cleanup_policy(self) -> str:
        return self.configuration["cleanup.policy"]


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
        topic(settings.output_topic, kept | ANY_TIMESTAMP),
        topic(settings.dlq_topic, kept | ANY_TIMESTAMP | {"max.message.bytes": str(4 << 20)}),
        topic(settings.changelog_topic, compacted | ANY_TIMESTAMP | {"delete.retention.ms": WEEK_MS}),
        topic(settings.prices_topic, compacted, partitions=PRICES_PARTITIONS),
    )

"""The topics of the contract: names, partition counts, configurations."""

from collections.abc import Mapping

from portfolio_stream.kafka.topics import ANY_TIMESTAMP, WEEK_MS, Role, Topic
from portfolio_stream.settings import Settings

#: a portfolio with very many currencies, or a dead letter with many headers, is larger than Kafka's default of 1 MB
LARGE = {"max.message.bytes": str(4 << 20)}
CONTROL_PARTITIONS = 1  # all decisions about the job stand in one order
ONE_PARTITION = 1  # each worker reads the whole topic into a global table
#: compaction never touches the newest segment. A day of 8 partitions' checkpoints is 20 MB, and compaction keeps less
#: than a tenth of that. Every worker that starts and every command reads the whole control topic
SHORT_SEGMENTS = {"segment.bytes": str(1 << 20)}

PROBE_MS = str(10 * 60 * 1000)  # ten times longer than the watcher waits for a record


def all_topics(settings: Settings) -> tuple[Topic, ...]:
    """Returns every topic of the contract, the input first."""
    durable = {"min.insync.replicas": "2"} if settings.replication_factor >= 3 else {}
    kept = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"} | durable
    compacted = {"cleanup.policy": "compact"} | durable
    state = compacted | ANY_TIMESTAMP | LARGE | {"delete.retention.ms": WEEK_MS}

    def topic(name: str, role: Role, configuration: Mapping[str, str], **options: object) -> Topic:
        values = {"partitions": settings.partitions, "replication_factor": settings.replication_factor} | options
        return Topic(name=name, role=role, configuration=configuration, **values)  # type: ignore[arg-type]

    return (
        topic(settings.input_topic, "source", kept, made_by_worker=False),
        topic(settings.output_topic, "output", kept | ANY_TIMESTAMP | LARGE),
        topic(settings.dlq_topic, "output", kept | ANY_TIMESTAMP | LARGE),
        topic(settings.changelog_topic, "changelog", state),
        topic(settings.prices_topic, "prices", compacted, partitions=ONE_PARTITION),
        topic(settings.control_topic, "control", compacted | SHORT_SEGMENTS, partitions=CONTROL_PARTITIONS),
        topic(settings.checkpoints_topic, "checkpoints", compacted | SHORT_SEGMENTS, partitions=ONE_PARTITION),
    )


def probe_topic(settings: Settings, partitions: int) -> Topic:
    """The topic of the watcher's round trips. It belongs to no contract: no worker and no state needs it."""
    durable = {"min.insync.replicas": "2"} if settings.replication_factor >= 3 else {}
    return Topic(
        name=settings.probe_topic,
        role="probe",
        partitions=partitions,
        replication_factor=settings.replication_factor,
        configuration={"cleanup.policy": "delete", "retention.ms": PROBE_MS} | SHORT_SEGMENTS | durable,
        made_by_worker=False,
    )

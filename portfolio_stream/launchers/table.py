"""Every launcher: its name and what runs it.

- One row for each command. `has_sh` means that Kafka, Flink or Hadoop ship the command as NAME.sh too: then both names
  must work.
- To add a command, add a row. kinds.py has the kinds; a command in Python is `PythonEntry("package.module:function")`.
- A launcher must not hide a program of the host that can do more than the launcher. Such a launcher is a Script that
  hands everything but its own case to the real program (`real_program` in scripts/prelude.sh).
"""

from collections.abc import Sequence
from typing import NamedTuple

from portfolio_stream.launchers.kinds import KafkaClass, Kind, OwnProgram

#: `--broker-list` went with Kafka 4
BROKER_LIST = {"--broker-list": "--bootstrap-server"}


class Launcher(NamedTuple):
    name: str
    runs: Kind
    has_sh: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, f"{self.name}.sh") if self.has_sh else (self.name,)


KAFKA: Sequence[Launcher] = (
    Launcher("kafka-topics", KafkaClass("org.apache.kafka.tools.TopicCommand"), has_sh=True),
    Launcher(
        "kafka-consumer-groups",
        KafkaClass("org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"),
        has_sh=True,
    ),
    Launcher("kafka-console-producer", KafkaClass("org.apache.kafka.tools.ConsoleProducer", BROKER_LIST), has_sh=True),
    Launcher("kafka-console-consumer", KafkaClass("org.apache.kafka.tools.consumer.ConsoleConsumer"), has_sh=True),
    Launcher("kafka-configs", KafkaClass("kafka.admin.ConfigCommand"), has_sh=True),
    Launcher("kafka-delete-records", KafkaClass("org.apache.kafka.tools.DeleteRecordsCommand"), has_sh=True),
    Launcher("kafka-broker-api-versions", KafkaClass("org.apache.kafka.tools.BrokerApiVersionsCommand"), has_sh=True),
    Launcher("kafka-get-offsets", KafkaClass("org.apache.kafka.tools.GetOffsetShell", BROKER_LIST), has_sh=True),
    Launcher("kafka-jmx", KafkaClass("org.apache.kafka.tools.JmxTool"), has_sh=True),
    Launcher("kafka-transactions", KafkaClass("org.apache.kafka.tools.TransactionsCommand"), has_sh=True),
    Launcher("kafka-log-dirs", KafkaClass("org.apache.kafka.tools.LogDirsCommand"), has_sh=True),
    Launcher(
        "kafka-reassign-partitions",
        KafkaClass("org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        has_sh=True,
    ),
    Launcher("kafka-metadata-quorum", KafkaClass("org.apache.kafka.tools.MetadataQuorumCommand"), has_sh=True),
    Launcher("kafka-storage", KafkaClass("kafka.tools.StorageTool"), has_sh=True),
)
OWN: Sequence[Launcher] = (Launcher("portfolio-stream", OwnProgram("portfolio-stream")),)

LAUNCHERS: Sequence[Launcher] = (*KAFKA, *OWN)

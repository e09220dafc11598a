"""Every launcher: its name and what runs it.

- One row for each command. `has_sh` means that Kafka, Flink or Hadoop ship the command as NAME.sh too: then both names
  must work.
- To add a command, add a row. kinds.py has the kinds; a command in Python is `PythonEntry("package.module:function")`.
- A launcher must not hide a program of the host that can do more than the launcher. Such a launcher is a Script that
  hands everything but its own case to the real program (`real_program` in scripts/prelude.sh).
"""

from collections.abc import Sequence
from typing import NamedTuple

from portfolio_stream.launchers.kinds import (
    KafkaClass,
    Kind,
    NothingToDo,
    OwnProgram,
    PythonEntry,
    Refusal,
    RunClass,
    Script,
)

#: `--broker-list` went with Kafka 4
BROKER_LIST = {"--broker-list": "--bootstrap-server"}
#: names of classes before Kafka 4, which kafka-run-class still takes
MOVED = {
    "kafka.admin.AclCommand": "org.apache.kafka.tools.AclCommand",
    "kafka.admin.BrokerApiVersionsCommand": "org.apache.kafka.tools.BrokerApiVersionsCommand",
    "kafka.admin.ConsumerGroupCommand": "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
    "kafka.admin.DeleteRecordsCommand": "org.apache.kafka.tools.DeleteRecordsCommand",
    "kafka.admin.LeaderElectionCommand": "org.apache.kafka.tools.LeaderElectionCommand",
    "kafka.admin.LogDirsCommand": "org.apache.kafka.tools.LogDirsCommand",
    "kafka.admin.ReassignPartitionsCommand": "org.apache.kafka.tools.reassign.ReassignPartitionsCommand",
    "kafka.admin.TopicCommand": "org.apache.kafka.tools.TopicCommand",
    "kafka.tools.ClusterTool": "org.apache.kafka.tools.ClusterTool",
    "kafka.tools.ConsoleConsumer": "org.apache.kafka.tools.consumer.ConsoleConsumer",
    "kafka.tools.ConsoleProducer": "org.apache.kafka.tools.ConsoleProducer",
    "kafka.tools.ConsumerPerformance": "org.apache.kafka.tools.ConsumerPerformance",
    "kafka.tools.DumpLogSegments": "org.apache.kafka.tools.DumpLogSegments",
    "kafka.tools.EndToEndLatency": "org.apache.kafka.tools.EndToEndLatency",
    "kafka.tools.GetOffsetShell": "org.apache.kafka.tools.GetOffsetShell",
    "kafka.tools.JmxTool": "org.apache.kafka.tools.JmxTool",
    "kafka.tools.StreamsResetter": "org.apache.kafka.tools.StreamsResetter",
}
MIRROR_MAKER_1 = Refusal(
    "Kafka 4 removed MirrorMaker 1.",
    "Use MirrorMaker 2 of an installed Apache Kafka 4: name both clusters and `topics = portfolio-.*` in a file "
    "mm2.properties, then: connect-mirror-maker.sh mm2.properties",
)
MIRROR_MAKER_2 = Refusal(
    "MirrorMaker 2 does not run here yet: its jars are not among the locked jars.",
    "Put the bin folder of an installed Apache Kafka 4 on PATH, and type the same command again.",
)


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
    Launcher(
        "kafka-console-producer",
        KafkaClass("org.apache.kafka.tools.ConsoleProducer", BROKER_LIST, heap="512m"),
        has_sh=True,
    ),
    Launcher(
        "kafka-console-consumer",
        KafkaClass("org.apache.kafka.tools.consumer.ConsoleConsumer", heap="512m"),
        has_sh=True,
    ),
    Launcher("kafka-configs", KafkaClass("kafka.admin.ConfigCommand"), has_sh=True),
    Launcher("kafka-delete-records", KafkaClass("org.apache.kafka.tools.DeleteRecordsCommand"), has_sh=True),
    Launcher("kafka-broker-api-versions", KafkaClass("org.apache.kafka.tools.BrokerApiVersionsCommand"), has_sh=True),
    Launcher("kafka-get-offsets", KafkaClass("org.apache.kafka.tools.GetOffsetShell", BROKER_LIST), has_sh=True),
    Launcher("kafka-jmx", Script("jmx.sh"), has_sh=True),
    Launcher("kafka-transactions", KafkaClass("org.apache.kafka.tools.TransactionsCommand"), has_sh=True),
    Launcher("kafka-log-dirs", KafkaClass("org.apache.kafka.tools.LogDirsCommand"), has_sh=True),
    Launcher(
        "kafka-reassign-partitions",
        KafkaClass("org.apache.kafka.tools.reassign.ReassignPartitionsCommand"),
        has_sh=True,
    ),
    Launcher("kafka-metadata-quorum", KafkaClass("org.apache.kafka.tools.MetadataQuorumCommand"), has_sh=True),
    Launcher("kafka-storage", KafkaClass("kafka.tools.StorageTool"), has_sh=True),
    Launcher("kafka-run-class", RunClass(MOVED, {"kafka.tools.MirrorMaker": MIRROR_MAKER_1}, BROKER_LIST), has_sh=True),
    Launcher("kafka-server-start", Script("server-start.sh"), has_sh=True),
    Launcher("kafka-server-stop", Script("server-stop.sh"), has_sh=True),
    Launcher("kafka-mirror-maker", MIRROR_MAKER_1, has_sh=True),
    Launcher("connect-mirror-maker", MIRROR_MAKER_2, has_sh=True),
)
ZOOKEEPER: Sequence[Launcher] = (
    Launcher(
        "zookeeper-server-start",
        NothingToDo("Kafka 4 has no ZooKeeper, so there is nothing to start: the brokers hold the metadata quorum."),
        has_sh=True,
    ),
    Launcher(
        "zookeeper-server-stop", NothingToDo("Kafka 4 has no ZooKeeper, so there is nothing to stop."), has_sh=True
    ),
    Launcher("nc", Script("nc.sh")),
)
JAVA: Sequence[Launcher] = tuple(Launcher(name, Script("java-tool.sh")) for name in ("jstat", "jps", "jcmd"))
STORES: Sequence[Launcher] = (
    Launcher("hdfs", Script("hdfs.sh")),
    Launcher("aws", Script("aws.sh")),
)
FLINK: Sequence[Launcher] = (
    Launcher("start-cluster", PythonEntry("portfolio_stream.commands.cluster:start_cluster"), has_sh=True),
    Launcher("stop-cluster", PythonEntry("portfolio_stream.commands.cluster:stop_cluster"), has_sh=True),
    Launcher("flink", PythonEntry("portfolio_stream.commands.flink:main")),
)
SYSTEM: Sequence[Launcher] = (Launcher("systemctl", Script("systemctl.sh")),)
OWN: Sequence[Launcher] = (Launcher("portfolio-stream", OwnProgram("portfolio-stream")),)

LAUNCHERS: Sequence[Launcher] = (*KAFKA, *ZOOKEEPER, *JAVA, *STORES, *FLINK, *SYSTEM, *OWN)

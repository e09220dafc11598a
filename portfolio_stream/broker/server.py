"""The server settings of the embedded broker: literal tables, with a reason beside each setting that needs one.

Every listener is on the loopback address. Brokers and controllers speak PLAINTEXT. A `BrokerListener` adds another
protocol.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from portfolio_stream.broker.layout import ClusterRecord
from portfolio_stream.kafka.tools.java import JvmProfile

MEBIBYTE = 1 << 20


class BrokerListener(NamedTuple):
    """A second address of each broker. A client that connects to it gets only such addresses in the metadata."""

    #: SSL, SASL_PLAINTEXT or SASL_SSL
    protocol: str
    #: node 0's port; node i listens on port + i
    port: int
    #: Kafka's settings of this listener, e.g. ssl.keystore.location
    settings: Mapping[str, str]

    def properties(self) -> dict[str, object]:
        return {f"listener.name.{self.protocol.lower()}.{name}": value for name, value in self.settings.items()}


FIXED: Mapping[str, object] = {
    "controller.listener.names": "CONTROLLER",
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,"
    "SASL_SSL:SASL_SSL",
    # topics have a contract: a misspelt name must not create a topic
    "auto.create.topics.enable": "false",
    # a small machine: each partition of an internal topic costs files and start time
    "offsets.topic.num.partitions": 4,
    "transaction.state.log.num.partitions": 4,
    "share.coordinator.state.topic.num.partitions": 1,
    "log.segment.bytes": 64 * MEBIBYTE,
    "log.index.size.max.bytes": 1 * MEBIBYTE,
    # a dead worker's partitions move within 3 s; a new group starts at once
    "group.consumer.session.timeout.ms": 3_000,
    "group.consumer.min.session.timeout.ms": 3_000,
    "group.consumer.heartbeat.interval.ms": 500,
    "group.consumer.min.heartbeat.interval.ms": 100,
    "group.min.session.timeout.ms": 1_000,
    "group.initial.rebalance.delay.ms": 0,
    # offsets outlive any pause of the workers: a group without its offsets would process its input twice
    "offsets.retention.minutes": 10 * 365 * 24 * 60,
    # a dead producer's transaction is aborted within a second of its time-out (10 s by default)
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": 1_000,
    # compact every 5 s, so that users see it happen; the buffers must fit into a small heap
    "log.cleaner.backoff.ms": 5_000,
    "log.cleaner.io.buffer.size": MEBIBYTE // 2,
}
THREADS_AND_BUFFERS: Mapping[JvmProfile, Mapping[str, object]] = {
    "small": {
        "num.network.threads": 2,
        "num.io.threads": 2,
        "background.threads": 2,
        "log.cleaner.dedupe.buffer.size": 8 * MEBIBYTE,
    },
    "benchmark": {"log.cleaner.dedupe.buffer.size": 64 * MEBIBYTE},
}


def server_properties(
    node: int,
    record: ClusterRecord,
    log_dir: Path,
    profile: JvmProfile,
    is_broker: bool = True,
    listener: BrokerListener | None = None,
    operators: Mapping[str, str] | None = None,
) -> str:
    """Returns the text of one node's properties file. If `is_broker` is false, the node is only a controller.

    `operators` has the operator's settings (`own_settings`).
    """
    controller = f"CONTROLLER://127.0.0.1:{record.controller_ports[node]}"
    client = f"PLAINTEXT://127.0.0.1:{record.port + node}"
    if listener is not None:
        client += f",{listener.protocol}://127.0.0.1:{listener.port + node}"
    voters = ",".join(f"{other}@127.0.0.1:{port}" for other, port in enumerate(record.controller_ports))
    roles: Mapping[str, object] = (
        {
            "process.roles": "broker,controller",
            "listeners": f"{client},{controller}",
            "advertised.listeners": client,
        }
        if is_broker
        else {"process.roles": "controller", "listeners": controller}
    )
    own = {"node.id": node, "controller.quorum.voters": voters, "log.dirs": escape(str(log_dir))}
    of_size = {**replication(record.brokers), **fencing(record.brokers)}
    more = {} if listener is None else listener.properties()
    theirs = {name: escape(value) for name, value in (operators or {}).items()}
    table = {**FIXED, **of_size, **THREADS_AND_BUFFERS[profile], **theirs, **roles, **own, **more}
    return "".join(f"{name}={value}\n" for name, value in table.items())


def replication(brokers: int) -> Mapping[str, object]:
    """One broker holds the only copy. Of three brokers one may die, and acks=all still means two copies."""
    factor, in_sync = (3, 2) if brokers >= 3 else (1, 1)
    return {
        "default.replication.factor": factor,
        "min.insync.replicas": in_sync,
        "offsets.topic.replication.factor": factor,
        "transaction.state.log.replication.factor": factor,
        "transaction.state.log.min.isr": in_sync,
        "share.coordinator.state.topic.replication.factor": factor,
        "share.coordinator.state.topic.min.isr": in_sync,
    }


def fencing(brokers: int) -> Mapping[str, object]:
    """Returns the settings for how soon a silent broker loses its partitions and a silent controller is replaced."""
    if brokers == 1:  # no broker could take over; to fence this one after a pause would only restart its coordinators
        return {"broker.session.timeout.ms": 60_000}
    return {
        "broker.session.timeout.ms": 2_000,
        "broker.heartbeat.interval.ms": 250,
        "controller.quorum.fetch.timeout.ms": 1_000,
        "controller.quorum.election.timeout.ms": 500,
        "controller.quorum.election.backoff.max.ms": 300,
    }


def escape(value: str) -> str:
    """Escape a value so that Java's Properties reads exactly this text, also backslashes, line ends and non-ASCII."""
    plain = value.replace("\\", "\\\\")
    if plain.startswith(" "):  # Java skips blanks before a value
        plain = f"\\{plain}"
    return "".join(c if c.isascii() and c.isprintable() else "".join(f"\\u{u:04x}" for u in _utf16(c)) for c in plain)


def _utf16(character: str) -> tuple[int, ...]:
    units = character.encode("utf-16-be")
    return tuple(int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2))

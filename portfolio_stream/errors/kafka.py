"""Errors of Kafka: the cluster cannot be reached, is the wrong one, or has the wrong topics."""

from portfolio_stream.errors.base import PortfolioStreamError


class BrokerUnreachable(PortfolioStreamError):
    """No broker answers at the bootstrap addresses."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(
            f"No Kafka broker answers at {bootstrap_servers}.",
            "Start Kafka (`portfolio-stream broker start`), or correct --bootstrap-servers "
            "(PORTFOLIO_BOOTSTRAP_SERVERS).",
        )
        self.bootstrap_servers = bootstrap_servers


class ProtocolMismatch(BrokerUnreachable):
    """The listener closes the connection: it wants TLS or a login that we do not use, or we use one that it lacks."""

    def __init__(self, address: str, protocol: str) -> None:
        PortfolioStreamError.__init__(
            self,
            f"The program that listens at {address} closes connections of security protocol {protocol} without an "
            "answer.",
            "Set PORTFOLIO_KAFKA_SECURITY_PROTOCOL to the protocol of the brokers' listener at this port. If the "
            "protocol is correct already, the broker is starting or stopping: try again in a few seconds.",
        )
        self.bootstrap_servers = address
        self.protocol = protocol


class OtherCluster(PortfolioStreamError):
    """An address of this process now leads to another Kafka cluster. The process neither reads nor writes there."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(
            f"A Kafka broker belongs to another cluster now: its cluster id is {found}, ours is {known}.",
            "Make --bootstrap-servers (PORTFOLIO_BOOTSTRAP_SERVERS), or its DNS name, lead to the former cluster again."
            " To use the new cluster, stop this process: its state belongs to the former cluster.",
        )
        self.found = found
        self.known = known


class LoginRefused(PortfolioStreamError):
    """Kafka does not know the user, the password or the mechanism. Trying again does not help."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Kafka at {address} refused the login: {reason.rstrip('.')}.",
            "Correct PORTFOLIO_KAFKA_SASL_USERNAME, PORTFOLIO_KAFKA_SASL_PASSWORD and PORTFOLIO_KAFKA_SASL_MECHANISM.",
        )
        self.address = address


class TlsFailed(PortfolioStreamError):
    """We do not trust the broker's certificate, or the broker does not trust ours."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Kafka at {address} cannot be reached over TLS: {reason.rstrip('.')}.",
            "Check that PORTFOLIO_KAFKA_SSL_CAFILE has the CA of the brokers' certificates, and that the certificates "
            "name this address. If the brokers ask for a client's certificate, check PORTFOLIO_KAFKA_SSL_CERTFILE.",
        )
        self.address = address


class BrokerTooOld(PortfolioStreamError):
    """The cluster lacks a feature that exactly-once needs (KIP-890, KIP-848)."""

    def __init__(self, feature: str, level: int, needed: int) -> None:
        super().__init__(
            f"The Kafka cluster has {feature} {level}, but {needed} or higher is needed.",
            f"Use Kafka 4.0 or newer and run `kafka-features upgrade --feature {feature}={needed}`.",
        )
        self.feature = feature


class KafkaRefused(PortfolioStreamError):
    """Kafka answered with an error that has no class of its own here."""

    def __init__(self, reason: str, action: str | None = None) -> None:
        """`action` is the advice for a reason that is known."""
        super().__init__(
            f"Kafka refused the request: {reason}.",
            action or "Check the broker's log, and the permissions of this client if the cluster has access control.",
        )


class TopicMissing(PortfolioStreamError):
    """A topic does not exist that only an operator creates."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"Topic {topic} does not exist.",
            "Create it with `portfolio-stream topics create`. If that command does not create this topic, correct the "
            "topic's name (`portfolio-stream topics list` lists all topics). For the changelog of generation 2 or "
            "later, use `portfolio-stream job start --from latest`, or `--fresh`.",
        )
        self.topic = topic


class TopicMisconfigured(PortfolioStreamError):
    """The topic's partition count, or one of its settings, breaks the contract."""

    def __init__(
        self,
        topic: str,
        setting: str,
        found: str,
        expected: str,
        because: str | None = None,
        remedy: str | None = None,
    ) -> None:
        """`because` says what fails with the wrong value. `remedy` is the order that corrects it."""
        reason = "" if because is None else f": {because}"
        order = f"correct {setting} of {topic}" if remedy is None else remedy
        super().__init__(
            f"Topic {topic} has {setting} {found}, but must have {expected}{reason}.",
            f"{order[0].upper()}{order[1:]} (`portfolio-stream topics describe` shows all settings), then start the "
            "worker again.",
        )
        self.topic = topic
        self.setting = setting


class TopicReplaced(PortfolioStreamError):
    """A topic was deleted and made again under a running worker. Its offsets now mean other records."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"Topic {topic} was deleted and made again while this worker ran.",
            "Restart the worker. A partition whose state belongs to the old topic stays halted, and says so. To rebuild"
            " everything from the source: stop all workers; delete outputs, dead letters, changelog and the group; "
            "start the workers.",
        )
        self.topic = topic


class PartitionMissing(PortfolioStreamError):
    """The topic does not have a partition of this number."""

    exit_code = 2

    def __init__(self, topic: str, partition: int, partitions: int) -> None:
        super().__init__(
            f"Topic {topic} has no partition {partition}.", f"Give a partition from 0 to {partitions - 1}."
        )
        self.topic = topic
        self.partition = partition


class GroupMissing(PortfolioStreamError):
    """No worker has ever joined the consumer group, or Kafka has forgotten the group."""

    def __init__(self, group: str) -> None:
        super().__init__(
            f"The consumer group {group} does not exist: no worker has joined it.",
            "Start a worker (`faust -A portfolio_stream worker`).",
        )
        self.group = group

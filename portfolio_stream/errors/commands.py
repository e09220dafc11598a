"""Errors of the commands, and of the worker that a command asks."""

import os
import traceback
from collections.abc import Sequence
from pathlib import Path

from portfolio_stream.errors.base import PortfolioStreamError, shortened


class CommandFailed(PortfolioStreamError):
    """A command raised an unexpected error. The exit code is 2, so that nobody takes it for a verdict.

    The message leaves out the text of `error`, which may show the content of a record.
    """

    exit_code = 2

    def __init__(self, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((one for one in reversed(frames) if f"{os.sep}portfolio_stream{os.sep}" in one.filename), None)
        place = "" if ours is None else f" in {Path(ours.filename).name}, line {ours.lineno}"
        super().__init__(
            f"The command failed unexpectedly: {type(error).__name__}{place}.",
            "Run the command again with PYTHONDEVMODE=1, which shows the traceback, and open an issue with it.",
        )


class ConfirmationMissing(PortfolioStreamError):
    """A command would change something, and nobody can say whether it shall: standard input is no terminal."""

    exit_code = 2

    def __init__(self, question: str) -> None:
        super().__init__(
            f"This command asks before it goes on: {question}",
            "Run it again with --yes, or first with --dry-run to see what it would do.",
        )


class WorkersRemain(PortfolioStreamError):
    """The job is stopped, but workers are still members of the group."""

    def __init__(self, members: Sequence[str]) -> None:
        super().__init__(
            f"The job is stopped, but these members have not left the group: {', '.join(members)}.",
            "Look at these workers (`portfolio-stream partitions list`). A worker that is dead leaves when its session "
            "ends; stop any other program that uses the workers' group.",
        )


class WorkingDirectoryGone(PortfolioStreamError):
    """The command's working directory was deleted, or deleted and made again under the same name."""

    exit_code = 2

    def __init__(self) -> None:
        super().__init__(
            "The working directory does not exist any more.",
            "Change to another directory, or, if it was made again, change to it again.",
        )


class OutputNotWritten(PortfolioStreamError):
    """Standard output cannot be written, so nobody can read the command's answer.

    `verify` ends with exit code 2 then: a verdict that nobody can read does not count.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"Standard output cannot be written: {reason}.",
            "Free some space, or send the output elsewhere, and run the command again.",
        )


class BundleNotWritten(PortfolioStreamError):
    """The file of `debug bundle` cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"The bundle {path} cannot be written: {reason}.",
            "Name another file with --output, in a folder where this user may write.",
        )
        self.path = path


class DeadLetterNotReplayable(PortfolioStreamError):
    """The dead letter that the operator named does not exist, or would not be sent with its original bytes."""

    def __init__(self, partition: int, offset: int, reason: str) -> None:
        super().__init__(
            f"The dead letter at offset {offset} of partition {partition} cannot be replayed: {reason}.",
            "Look at it with `portfolio-stream dlq list`, and have its producer send the event again.",
        )
        self.partition = partition
        self.offset = offset


class EventFileUnusable(PortfolioStreamError):
    """The file of events cannot be read, or does not consist of lines of JSON in UTF-8."""

    exit_code = 2

    def __init__(self, path: Path, reason: str, command: str | None = None) -> None:
        """`command` converts the file and sends its events."""
        name = "standard input" if path == Path("-") else path
        super().__init__(
            f"The events of {name} cannot be read: {reason}.",
            "Give a file of JSON events in UTF-8, one event on each line." if command is None else f"Run `{command}`.",
        )
        self.path = path


class ProduceStopped(PortfolioStreamError):
    """The sending stopped early: Kafka went away, Kafka refused a record, or the file of events became unreadable."""

    def __init__(self, acknowledged: int, error: PortfolioStreamError) -> None:
        super().__init__(
            f"The sending stopped after {acknowledged:,} records that Kafka acknowledged: {error.cause}",
            f"{error.action} Then send all events again. The events that were sent already are duplicates without "
            "effect, while they are in the deduplication window.",
        )
        self.acknowledged = acknowledged


class ReplayStopped(PortfolioStreamError):
    """Kafka refused a replayed record, or did not answer. The records before it are in the source topic."""

    def __init__(self, sent: int, selected: int, reason: str) -> None:
        super().__init__(
            f"The replay stopped after {sent:,} of {selected:,} dead letters: {reason}.",
            "Correct the cause and replay again. The events that are sent twice are duplicates without effect, while "
            "they are in the deduplication window.",
        )
        self.sent = sent
        self.selected = selected


class CannotVerify(PortfolioStreamError):
    """`verify` can judge neither for nor against exactly-once: records that it needs are gone or unreadable."""

    exit_code = 2

    def __init__(self, reason: str, action: str) -> None:
        super().__init__(f"Exactly-once cannot be verified: {reason}.", action)
        self.reason = reason


class CannotVerifyYet(CannotVerify):
    """The cause of CannotVerify may pass by itself. `verify --follow` tries again."""


class HistoryMoved(CannotVerify):
    """The history changed while `verify` read it: the job has another generation, or records were deleted.

    `verify` starts over, because what it has read belongs to the earlier history.
    """


class PartitionUnreadable(PortfolioStreamError):
    """A partition has more records, but Kafka gives none of them, so `verify` cannot judge the partition."""

    exit_code = 2

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(
            f"Partition {partition} of {topic} cannot be read past offset {offset}.",
            "Check the broker's log for this partition and run the command again.",
        )
        self.topic = topic
        self.partition = partition
        self.offset = offset


class WorkerUnreachable(PortfolioStreamError):
    """No worker answers at the web address."""

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(
            f"No worker answers at {address}: {reason}.",
            "Start one (`faust -A portfolio_stream worker`), or correct --web-address.",
        )
        self.address = address


class WorkerRefused(PortfolioStreamError):
    """A worker answered a request with an error (RFC 9457)."""

    def __init__(self, status: int, detail: str, action: str | None = None) -> None:
        """`action` is the worker's own advice. Without it, the advice is that of WORKER_ANSWERS."""
        advice = action or WORKER_ANSWERS.get(status, "Read the worker's log.")
        super().__init__(f"The worker answered {status}: {detail}.", advice)
        self.status = status


WORKER_ANSWERS = {
    400: "Correct the arguments.",
    401: "Set PORTFOLIO_WEB_TOKEN to the worker's token.",
    403: "Set PORTFOLIO_WEB_TOKEN to the worker's token.",
    404: "Check the table's name and every part of the key.",
    503: "Try again in a few seconds: the partition is recovering or has no owner yet.",
}


class ProgramMissing(PortfolioStreamError):
    """A launcher needs the host's real program, and the host has none."""

    def __init__(self, program: str, cause: str) -> None:
        super().__init__(cause, f"Install {program} on this host, and type the same command again.")


class ZooKeeperGone(PortfolioStreamError):
    """A four-letter word that only ZooKeeper could answer."""

    def __init__(self, word: str) -> None:
        super().__init__(
            f"Kafka 4 has no ZooKeeper, and nothing here answers {shortened(word)}.",
            "See the brokers and their quorum by: kafka-metadata-quorum --bootstrap-server HOST:PORT describe --status",
        )


class QuorumWithoutLeader(PortfolioStreamError):
    """The brokers' metadata quorum has no leader: most of its voters do not run."""

    def __init__(self) -> None:
        super().__init__(
            "The metadata quorum has no leader.",
            "Start brokers until most of its voters run: systemctl start kafka, or portfolio-stream broker start",
        )

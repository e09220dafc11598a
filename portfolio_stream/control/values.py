"""The values of the control topic: the job, its generations, the operations on it, and the parts of an operation.

The control topic has one partition and is compacted. Its records are JSON, so an operator can read them with
kafka-console-consumer. Only `change.ControlWriter` writes them.

| key | value |
| --- | --- |
| `job` | Job |
| `generation/N` | Generation |
| `operation/ID` | JobOperation |
| `operation/ID/part/P` | Part: what the owner of partition P has done for the operation |
"""

from collections.abc import Awaitable, Callable
from enum import Enum
from typing import Any

import msgspec

from portfolio_stream.control.job_life import JobState
from portfolio_stream.decoding import UNDECODABLE

JOB_KEY = "job"

Confirm = Callable[[], Awaitable[None]]


class Generation(msgspec.Struct, frozen=True, kw_only=True):
    """One life of the job's state: which source it was folded from, by which fold, and which changelog holds it."""

    #: counted from 1; never used twice
    number: int
    changelog_topic: str
    #: id of the source topic, 32 hex digits; None if the first worker of generation 1 did not know it
    source_topic_id: str | None
    partitions: int
    #: the source offset at which each partition of this generation began, by partition
    first_offsets: dict[int, int]
    #: the fold's version and settings
    fold: str
    #: what made this generation: "first start", or the kind of its operation
    origin: str
    #: the generation before this one; None for the first one
    parent: int | None = None
    #: the savepoint that its state came from, if one did
    savepoint: str | None = None
    #: seconds since 1970
    created_at: float = 0.0
    #: where outputs stood when the job left this generation: next offsets by topic, one for each partition
    left_outputs: dict[str, list[int]] = {}
    #: its changelog is deleted: the job cannot go back to it
    is_expired: bool = False


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """What the operator wants of the whole group."""

    state: JobState
    #: grows with each change
    revision: int
    generation: int
    #: the operation that made this state
    operation: str | None = None
    #: seconds since 1970
    since: float = 0.0
    #: how many workers a supervisor keeps on its host; None: as many as its own command line says
    parallelism: int | None = None
    #: PORTFOLIO_ variables that a supervisor gives its workers, over those of its own environment
    settings: dict[str, str] = {}


class OperationState(Enum):
    """How far an operation is."""

    #: nobody has completed it yet
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        return self is not OperationState.RUNNING


class OperationKind(Enum):
    """What an operation does. `carried out by` is in brackets."""

    #: write a savepoint while the job runs (the workers)
    SAVEPOINT = "savepoint"
    #: stop with a savepoint (the workers)
    STOP = "stop"
    #: drop what is not committed and stop (at once, by the change itself); so are PAUSE, RESUME, START and SCALE
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    START = "start"
    #: another number of workers, or other settings: the supervisors follow
    SCALE = "scale"
    #: make the next generation and switch to it (the process that asked)
    RESTORE = "restore"
    FRESH = "fresh"
    RESET = "reset"
    ADOPT = "adopt"
    ROLLBACK = "rollback"

    @property
    def is_switch(self) -> bool:
        """The operation makes another generation."""
        return self in _SWITCHES


_SWITCHES = frozenset(
    (OperationKind.RESTORE, OperationKind.FRESH, OperationKind.RESET, OperationKind.ADOPT, OperationKind.ROLLBACK)
)


class JobOperation(msgspec.Struct, frozen=True, kw_only=True):
    """Something that an operator asked of the job. It is carried out once."""

    id: str
    kind: OperationKind
    state: OperationState
    #: what was asked for, e.g. {"savepoint": id, "drain": true}
    arguments: dict[str, Any] = {}
    #: who asked, e.g. "portfolio-stream job stop at host, process 17"
    by: str = ""
    asked_at: float = 0.0
    ended_at: float | None = None
    #: what came of it: the savepoint, the generation; empty until it is done
    result: dict[str, Any] = {}
    #: why it failed or was cancelled
    reason: str | None = None


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What the owner of a partition has done for an operation."""

    partition: int
    #: the worker's instance id
    worker: str
    #: the next source offset of the copied state
    offset: int
    at: float
    #: why the partition cannot do its part, if it cannot
    problem: str | None = None


class ControlChange(msgspec.Struct, frozen=True, kw_only=True):
    """Records to write, by key. None deletes the key."""

    records: dict[str, msgspec.Struct | None]
    #: the group's next source offsets, by partition, for a switch: committed in the same transaction
    offsets: dict[int, int] = {}
    #: generation that the offsets belong to
    generation: int = 0
    #: called when the offsets are pending in the transaction; what it raises keeps the transaction from being committed
    confirm: Confirm | None = None


def generation_key(number: int) -> str:
    return f"generation/{number}"


def operation_key(operation: str) -> str:
    return f"operation/{operation}"


def part_key(operation: str, partition: int) -> str:
    return f"operation/{operation}/part/{partition}"


def encode(value: msgspec.Struct) -> bytes:
    return msgspec.json.encode(value)


def decode(key: bytes, value: bytes) -> Job | Generation | JobOperation | Part | None:
    """The value of a record; None if its key or value is not one of ours: a stranger may write to the topic."""
    kind = _KINDS.get(_shape(key))
    if kind is None:
        return None
    try:
        found: Job | Generation | JobOperation | Part = msgspec.json.decode(value, type=kind)
    except UNDECODABLE:
        return None
    return None if isinstance(found, JobOperation) and not _is_whole(found) else found


def _is_whole(operation: JobOperation) -> bool:
    """The operation has the arguments that whoever carries it out needs."""
    given = operation.arguments
    knows_before = isinstance(given.get("before"), str) and given["before"] in _STATES
    if operation.kind.is_switch:
        return isinstance(given.get("generation"), int) and knows_before
    if operation.kind is OperationKind.SAVEPOINT:
        return isinstance(given.get("savepoint"), str)
    if operation.kind is OperationKind.STOP and operation.state is OperationState.RUNNING:
        return isinstance(given.get("savepoint"), str) and knows_before
    return True


def _shape(key: bytes) -> tuple[str, int]:
    first, *rest = key.decode(errors="replace").split("/")
    return first, len(rest)


_STATES = frozenset(state.value for state in JobState)
_KINDS: dict[tuple[str, int], Any] = {
    ("job", 0): Job,
    ("generation", 1): Generation,
    ("operation", 1): JobOperation,
    ("operation", 3): Part,
}

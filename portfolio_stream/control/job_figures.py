"""The figures of the whole job, out of the control topic. Each worker has them all.

`look` takes the values after each change of the topic, so a scrape reads a few fields and no record.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState

SavepointOutcome = Literal["completed", "failed", "cancelled"]
OUTCOMES: tuple[SavepointOutcome, ...] = get_args(SavepointOutcome)
_OUTCOME: Mapping[OperationState, SavepointOutcome] = {
    OperationState.DONE: "completed",
    OperationState.FAILED: "failed",
    OperationState.CANCELLED: "cancelled",
}


class CompletedSavepoint(NamedTuple):
    #: UNIX seconds at which it was complete
    at: float
    #: from the request to that moment
    seconds: float
    #: None: the operation does not tell it
    bytes: int | None


class JobFigures:
    def __init__(self) -> None:
        #: None: nobody has begun the job, or its topic was not read yet
        self.state: JobState | None = None
        self.generation: int | None = None
        #: of the generation
        self.partitions: int | None = None
        #: savepoints that ended after the first look, by outcome
        self.savepoints: Counter[SavepointOutcome] = Counter()
        #: the newest savepoint that is complete
        self.completed: CompletedSavepoint | None = None
        #: the savepoints that had ended at the last look; None before the first one
        self._ended: frozenset[str] | None = None

    def look(self, state: ControlState) -> None:
        """Take the values of the control topic."""
        job, generation = state.job, state.current
        self.state = None if job is None else job.state
        self.generation = None if job is None else job.generation
        self.partitions = None if generation is None else generation.partitions
        ended = [one for one in state.operations if _is_savepoint(one) and one.state.is_final]
        if self._ended is not None:
            self.savepoints.update(_OUTCOME[one.state] for one in ended if one.id not in self._ended)
        self._ended = frozenset(one.id for one in ended)
        completed = [_completed(one) for one in ended if one.state is OperationState.DONE]
        self.completed = max(completed, key=lambda one: one.at, default=self.completed)


def _is_savepoint(operation: JobOperation) -> bool:
    """A job may also stop without a savepoint."""
    return operation.kind in (OperationKind.SAVEPOINT, OperationKind.STOP) and "savepoint" in operation.arguments


def _completed(operation: JobOperation) -> CompletedSavepoint:
    at = operation.ended_at or operation.asked_at
    size = operation.result.get("bytes")
    return CompletedSavepoint(at, max(0.0, at - operation.asked_at), size if isinstance(size, int) else None)

"""The figures of the whole job, out of the control topic's values."""

from types import SimpleNamespace
from typing import Any

from portfolio_stream.control.job_figures import CompletedSavepoint, JobFigures
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    Generation,
    Job,
    JobOperation,
    OperationKind,
    OperationState,
    encode,
    generation_key,
    operation_key,
)

GENERATION = Generation(
    number=3, changelog_topic="c", source_topic_id=None, partitions=8, first_offsets={}, fold="f", origin="restore"
)


def operation(
    number: int, state: OperationState, *, kind: OperationKind = OperationKind.SAVEPOINT, **fields: Any
) -> JobOperation:
    arguments = fields.pop("arguments", {"savepoint": f"s{number}", "before": "running"})
    return JobOperation(id=str(number), kind=kind, state=state, arguments=arguments, asked_at=100.0 * number, **fields)


class Topic:
    """The control topic, and the figures that follow it."""

    def __init__(self) -> None:
        self.state = ControlState()
        self.figures = JobFigures()

    def write(self, **records: Any) -> None:
        self.state.apply(
            SimpleNamespace(key=key.encode(), value=None if value is None else encode(value))
            for key, value in records.items()
        )
        self.figures.look(self.state)

    def end(self, *operations: JobOperation) -> None:
        self.write(**{operation_key(one.id): one for one in operations})


def test_nothing_is_told_of_a_job_that_has_not_begun() -> None:
    """A first worker's topic is empty."""
    topic = Topic()
    topic.write()
    figures = topic.figures
    assert (None, None, None, None) == (figures.state, figures.generation, figures.partitions, figures.completed)


def test_the_job_is_told_as_the_topic_has_it() -> None:
    """State, generation and that generation's partitions."""
    topic = Topic()
    topic.write(**{generation_key(3): GENERATION, JOB_KEY: Job(state=JobState.PAUSED, revision=1, generation=3)})
    figures = topic.figures
    assert (JobState.PAUSED, 3, 8) == (figures.state, figures.generation, figures.partitions)


def test_savepoints_count_once_by_their_outcome() -> None:
    """One that ended before this process, or that runs, does not count. A deleted operation takes nothing back."""
    topic = Topic()
    topic.end(operation(1, OperationState.DONE), operation(2, OperationState.RUNNING))
    assert {} == topic.figures.savepoints
    topic.end(operation(2, OperationState.DONE), operation(3, OperationState.FAILED))
    topic.end(operation(4, OperationState.CANCELLED))
    topic.write(**{operation_key("2"): None})
    assert {"completed": 1, "failed": 1, "cancelled": 1} == topic.figures.savepoints


def test_the_newest_complete_savepoint_is_told() -> None:
    """When it was complete, how long it took from the request, and its size. Also one from before this process."""
    topic = Topic()
    topic.end(operation(1, OperationState.DONE, ended_at=103.5, result={"savepoint": "s1", "bytes": 77}))
    assert CompletedSavepoint(103.5, 3.5, 77) == topic.figures.completed
    topic.end(operation(2, OperationState.DONE, ended_at=204.0), operation(3, OperationState.FAILED, ended_at=309.0))
    assert CompletedSavepoint(204.0, 4.0, None) == topic.figures.completed


def test_other_operations_are_no_savepoints() -> None:
    """A stop without a savepoint; a restore, which names the savepoint that it loads."""
    topic = Topic()
    topic.end()
    restored = {"generation": 2, "before": "running", "savepoint": "s1"}
    topic.end(
        operation(1, OperationState.DONE, kind=OperationKind.STOP, arguments={}),
        operation(2, OperationState.DONE, kind=OperationKind.RESTORE, arguments=restored),
    )
    assert ({}, None) == (topic.figures.savepoints, topic.figures.completed)

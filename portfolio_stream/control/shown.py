"""The job, its generations and its operations as JSON, for commands and HTTP."""

from collections.abc import Mapping

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Generation, JobOperation
from portfolio_stream.savepoints.manifest import utc_text

#: what an operator can do now; a job that runs needs nothing
NEXT_STEPS: Mapping[JobState, str] = {
    JobState.PAUSED: "`portfolio-stream job resume` lets it read again.",
    JobState.STOPPING: "It stops when its savepoint is complete. `portfolio-stream job cancel-operation {operation}` "
    "lets it run on instead.",
    JobState.STOPPED: "`portfolio-stream job start` lets it run.",
    JobState.CANCELLED: "`portfolio-stream job start` lets it run.",
    JobState.MIGRATING: "It waits for operation {operation}, which was asked for by {by}. If that process is gone, "
    "`portfolio-stream job start` runs the job with generation {generation} as it was; or ask for the operation again.",
}


def job_json(group: str, state: ControlState) -> dict[str, object]:
    """The job has begun."""
    job, generation = state.job, state.current
    assert job is not None and generation is not None  # noqa: S101  the job has begun
    return {
        "job": group,
        "state": job.state.value,
        "revision": job.revision,
        "since": utc_text(job.since),
        "operation": job.operation,
        "next_step": next_step(state),
        "parallelism": job.parallelism,
        "settings": job.settings,
        "generation": generation_json(generation),
        "operations": [operation_json(operation) for operation in state.operations],
    }


def next_step(state: ControlState) -> str | None:
    """What an operator can do now; None: nothing is to be done."""
    job = state.job
    if job is None or job.state not in NEXT_STEPS:
        return None
    operation = state.operation(job.operation or "")
    by = "nobody knows whom" if operation is None else operation.by
    return NEXT_STEPS[job.state].format(operation=job.operation, by=by, generation=job.generation)


def generation_json(generation: Generation) -> dict[str, object]:
    return {
        "number": generation.number,
        "changelog_topic": generation.changelog_topic,
        "origin": generation.origin,
        "savepoint": generation.savepoint,
        "parent": generation.parent,
        "partitions": generation.partitions,
        "created_at": utc_text(generation.created_at),
        "is_expired": generation.is_expired,
    }


def operation_json(operation: JobOperation) -> dict[str, object]:
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "arguments": operation.arguments,
        "by": operation.by,
        "asked_at": utc_text(operation.asked_at),
        "ended_at": None if operation.ended_at is None else utc_text(operation.ended_at),
        "result": operation.result,
        "reason": operation.reason,
    }

"""The job, its generations and its operations as JSON, for commands and HTTP."""

import time

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Generation, JobOperation


def job_json(group: str, state: ControlState) -> dict[str, object]:
    """The job has begun."""
    job, generation = state.job, state.current
    assert job is not None and generation is not None  # noqa: S101  the job has begun
    return {
        "job": group,
        "state": job.state.value,
        "revision": job.revision,
        "since": utc(job.since),
        "operation": job.operation,
        "generation": generation_json(generation),
        "operations": [operation_json(operation) for operation in state.operations],
    }


def generation_json(generation: Generation) -> dict[str, object]:
    return {
        "number": generation.number,
        "changelog_topic": generation.changelog_topic,
        "origin": generation.origin,
        "savepoint": generation.savepoint,
        "parent": generation.parent,
        "partitions": generation.partitions,
        "created_at": utc(generation.created_at),
        "is_expired": generation.is_expired,
    }


def operation_json(operation: JobOperation) -> dict[str, object]:
    return {
        "id": operation.id,
        "kind": operation.kind.value,
        "state": operation.state.value,
        "arguments": operation.arguments,
        "by": operation.by,
        "asked_at": utc(operation.asked_at),
        "ended_at": None if operation.ended_at is None else utc(operation.ended_at),
        "result": operation.result,
        "reason": operation.reason,
    }


def utc(seconds: float) -> str:
    """A moment, given in seconds since 1970."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

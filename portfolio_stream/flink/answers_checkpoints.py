"""Checkpoints and savepoints, as Flink's REST interface tells them. Pure.

1. A checkpoint's parts are partitions; to Flink's clients a worker acknowledges for its partitions, once in each
   vertex. Bytes and state belong to the commit, which writes them: the other vertices store nothing.
2. `checkpointed_size` is the changelog bytes that the checkpoint made safe, `state_size` the stores' estimate of the
   state, `processed_data` has no meaning here and is 0: no barrier waits for records.
3. A savepoint's number is the millisecond in which somebody asked for it, so it never is a checkpoint's number.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from portfolio_stream.checkpoints.history import Checkpoint
from portfolio_stream.checkpoints.parts import CheckpointPart
from portfolio_stream.control.values import JobOperation, OperationState
from portfolio_stream.flink import ids
from portfolio_stream.flink.figures import FlinkJob, is_done
from portfolio_stream.flink.shapes import NEVER, ms, spread
from portfolio_stream.savepoints.addresses import hdfs_address
from portfolio_stream.settings import KINDS, Settings, read_value, variable

SPREADS = ("checkpointed_size", "state_size", "end_to_end_duration")
#: Flink's figures of barriers and of records in flight: a checkpoint here waits for none
NO_ALIGNMENT = {"alignment_buffered": 0, "processed_data": 0, "persisted_data": 0}
SAVEPOINT_STATUS = {
    OperationState.RUNNING: "IN_PROGRESS",
    OperationState.DONE: "COMPLETED",
    OperationState.FAILED: "FAILED",
    OperationState.CANCELLED: "FAILED",
}
HISTORY = 100


def statistics(job: FlinkJob) -> dict[str, Any]:
    checkpoints = _of(job)
    rows = [checkpoint_row(one) for one in checkpoints]
    saved = [savepoint_row(one) for one in job.figures.savepoints()] if job.is_current else []
    completed = [row for row in rows if row["status"] == "COMPLETED"]
    counted = Counter(row["status"] for row in [*rows, *saved])
    known = {name: [row[name] for row in completed if row.get(name, NEVER) != NEVER] for name in SPREADS}
    restored = restored_from(job)
    newest = sorted([*rows, *saved], key=lambda row: int(row["trigger_timestamp"]), reverse=True)
    return {
        "counts": {
            "restored": int(restored is not None),
            "total": len(rows) + len(saved),
            "in_progress": counted["IN_PROGRESS"],
            "completed": counted["COMPLETED"],
            "failed": counted["FAILED"],
        },
        "summary": {name: spread(values) for name, values in known.items()}
        | {name: spread([0] * len(completed)) for name in NO_ALIGNMENT},
        "latest": {
            "completed": next(iter(completed), None),
            "savepoint": next((row for row in saved if row["status"] == "COMPLETED"), None),
            "failed": next((row for row in newest if row["status"] == "FAILED"), None),
            "restored": restored,
        },
        "history": newest[:HISTORY],
    }


def _of(job: FlinkJob) -> Sequence[Checkpoint]:
    """The checkpoints that are kept of this generation."""
    since = job.generation.created_at * 1000
    until = float("inf") if job.is_current else job.since * 1000
    return [one for one in job.figures.checkpoints or () if since <= one.triggered < until]


def checkpoint_row(one: Checkpoint) -> dict[str, Any]:
    workers = workers_of(one)
    told = len({part.worker for part in one.parts.values() if part.status == "COMPLETED"})
    row: dict[str, Any] = {
        "className": {"COMPLETED": "completed", "FAILED": "failed", "IN_PROGRESS": "in_progress"}[one.status],
        "id": one.id,
        "status": one.status,
        "is_savepoint": False,
        "savepointFormat": None,
        "trigger_timestamp": one.triggered,
        "latest_ack_timestamp": latest_ack(one, list(one.parts.values())),
        "checkpointed_size": one.changelog_bytes,
        "state_size": NEVER if one.state_bytes is None else one.state_bytes,
        "end_to_end_duration": ms(one.seconds),
        **NO_ALIGNMENT,
        "num_subtasks": len(ids.STEPS) * len(workers),
        "num_acknowledged_subtasks": len(ids.STEPS) * told,
        "checkpoint_type": "CHECKPOINT",
        "tasks": {},
    }
    if one.status == "COMPLETED":
        row |= {"external_path": "<checkpoint-not-externally-addressable>", "discarded": False}
    if one.status == "FAILED":
        row |= {"failure_timestamp": failed_at(one), "failure_message": why_failed(one)}
    return row


def why_failed(one: Checkpoint) -> str:
    return "; ".join(
        f"partition {failure.partition}: {failure.reason}"
        + ("" if failure.worker is None else f" (worker {failure.worker})")
        for failure in one.failures
    )


def failed_at(one: Checkpoint) -> int:
    """Milliseconds since 1970: the end of its time-out."""
    return one.triggered + ms(max((part.timeout_seconds for part in one.parts.values()), default=0.0))


def latest_ack(one: Checkpoint, parts: Sequence[CheckpointPart]) -> int:
    """Milliseconds since 1970 of the last part that ended; -1 before the first."""
    return max((one.triggered + ms(part.seconds) for part in parts if part.seconds is not None), default=NEVER)


def workers_of(one: Checkpoint) -> dict[str, list[CheckpointPart]]:
    """Each worker's parts, by name."""
    found: dict[str, list[CheckpointPart]] = defaultdict(list)
    for part in one.parts.values():
        found[part.worker].append(part)
    return dict(sorted(found.items()))


def savepoint_row(operation: JobOperation) -> dict[str, Any]:
    status = SAVEPOINT_STATUS[operation.state]
    asked, ended = ms(operation.asked_at), ms(operation.ended_at)
    size = operation.result.get("bytes", NEVER)
    row: dict[str, Any] = {
        "className": {"COMPLETED": "completed", "FAILED": "failed", "IN_PROGRESS": "in_progress"}[status],
        "id": asked,
        "status": status,
        "is_savepoint": True,
        "savepointFormat": "CANONICAL",
        "trigger_timestamp": asked,
        "latest_ack_timestamp": ended,
        "checkpointed_size": size,
        "state_size": size,
        "end_to_end_duration": NEVER if operation.ended_at is None else ended - asked,
        **NO_ALIGNMENT,
        "num_subtasks": 0,
        "num_acknowledged_subtasks": 0,
        "checkpoint_type": "SAVEPOINT",
        "tasks": {},
    }
    if is_done(operation):
        name = str(operation.result.get("savepoint", operation.arguments.get("savepoint")))
        row |= {"external_path": hdfs_address(name), "discarded": False}
    elif status == "FAILED":
        row |= {"failure_timestamp": ended, "failure_message": operation.reason or operation.state.value}
    return row


def restored_from(job: FlinkJob) -> dict[str, Any] | None:
    """The savepoint that this generation began with; None if it began without one."""
    savepoint, at = job.generation.savepoint, ms(job.generation.created_at)
    if savepoint is None:
        return None
    path = hdfs_address(savepoint)
    return {"id": at, "restore_timestamp": at, "is_savepoint": True, "external_path": path}


# -- one of them


def details(job: FlinkJob, number: int) -> dict[str, Any] | None:
    """None if the last ones have none with this number."""
    one = checkpoint_with(job, number)
    if one is not None:
        tasks = {vertex: vertex_part(one, step) for vertex, step in ids.vertices(job.id).items()}
        return checkpoint_row(one) | {"tasks": tasks}
    saved = [savepoint_row(operation) for operation in job.figures.savepoints()]
    return next((row for row in saved if row["id"] == number), None)


def checkpoint_with(job: FlinkJob, number: int) -> Checkpoint | None:
    return next((one for one in _of(job) if one.id == number), None)


def vertex_part(one: Checkpoint, step: str) -> dict[str, Any]:
    parts, workers = list(one.parts.values()), workers_of(one)
    done = [name for name, own in workers.items() if all(part.status == "COMPLETED" for part in own)]
    return {
        "id": one.id,
        "status": one.status,
        "latest_ack_timestamp": latest_ack(one, parts),
        "checkpointed_size": one.changelog_bytes if step == ids.COMMIT else 0,
        "state_size": _state_size(parts) if step == ids.COMMIT else 0,
        "end_to_end_duration": ms(one.seconds),
        **NO_ALIGNMENT,
        "num_subtasks": len(workers),
        "num_acknowledged_subtasks": len(done),
    }


def subtasks(one: Checkpoint, step: str) -> dict[str, Any]:
    rows = [subtask(one, index, parts, step) for index, parts in enumerate(workers_of(one).values())]
    done = [row for row in rows if row["status"] == "completed"]
    zeros = spread([0] * len(done))

    def of(name: str) -> dict[str, Any]:
        return spread([row[name] for row in done if row[name] != NEVER])

    return vertex_part(one, step) | {
        "summary": {
            "checkpointed_size": of("checkpointed_size"),
            "state_size": of("state_size"),
            "end_to_end_duration": of("end_to_end_duration"),
            "checkpoint_duration": {"sync": zeros, "async": of("end_to_end_duration")},
            "alignment": {name: zeros for name in ("buffered", "processed", "persisted", "duration")},
            "start_delay": zeros,
        },
        "subtasks": rows,
    }


def subtask(one: Checkpoint, index: int, parts: Sequence[CheckpointPart], step: str) -> dict[str, Any]:
    """A worker's row: completed when its last partition is."""
    if not all(part.status == "COMPLETED" for part in parts):
        return {"index": index, "status": "pending_or_failed"}
    seconds = max(part.seconds or 0.0 for part in parts)
    size = sum(part.changelog_bytes for part in parts) if step == ids.COMMIT else 0
    return {
        "className": "completed",
        "index": index,
        "status": "completed",
        "ack_timestamp": one.triggered + ms(seconds),
        "end_to_end_duration": ms(seconds),
        "checkpointed_size": size,
        "state_size": _state_size(parts) if step == ids.COMMIT else 0,
        "checkpoint": {"sync": 0, "async": ms(seconds)},
        "alignment": {"buffered": 0, "processed": 0, "persisted": 0, "duration": 0},
        "start_delay": 0,
        "unaligned_checkpoint": False,
        "aborted": False,
    }


def _state_size(parts: Sequence[CheckpointPart]) -> int:
    known = [part.state_bytes for part in parts if part.state_bytes is not None]
    return sum(known) if known else NEVER


def configuration(settings: Settings, given: Mapping[str, str]) -> dict[str, Any]:
    """`given`: the settings that the job gives to its workers, by variable."""
    return {
        "mode": "exactly_once",
        "interval": ms(_given(given, settings, "checkpoint_interval")),
        "timeout": ms(_given(given, settings, "checkpoint_timeout")),
        "min_pause": 0,
        "max_concurrent": 1,
        "externalization": {"enabled": False, "delete_on_cancellation": False},
        "state_backend": "RocksDB",
        "checkpoint_storage": "Kafka: the group's offsets and the changelog, in one transaction",
        "unaligned_checkpoints": False,
        "tolerable_failed_checkpoints": NEVER,
        "aligned_checkpoint_timeout": 0,
        "checkpoints_after_tasks_finish": False,
        "state_changelog_enabled": True,
        "changelog_periodic_materialization_interval": NEVER,
        "changelog_storage": "kafka",
    }


def _given(given: Mapping[str, str], settings: Settings, name: str) -> float:
    """Seconds. The job's setting beats ours."""
    text = given.get(variable(name))
    seconds: float = getattr(settings, name) if text is None else read_value(variable(name), text, KINDS[name])
    return seconds

"""What an operator asks of the job, decided on the newest values of the control topic.

1. Each function makes one decision (`JobControl.change`). A refusal raises, and changes nothing.
2. An operation has an id. A decision that was made, but whose answer was lost, finds its own operation and is not made
   again.
3. pause, resume, cancel, stop, start and scale are done at once: every worker follows the job's state, also one that
   starts later, and every supervisor follows its size. The others are carried out by the workers (`agent`) or by the
   process that asked (`switch`).
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

import msgspec
from aiokafka import errors as kafka_errors

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobEvent, JobState, after
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    ControlChange,
    Job,
    JobOperation,
    OperationKind,
    OperationState,
    Part,
    operation_key,
    part_key,
)
from portfolio_stream.errors import (
    ControlUnavailable,
    JobNotBegun,
    JobNotInState,
    OperationInProgress,
    OperationUnknown,
    cause_of,
)
from portfolio_stream.jobs.job_settings import changed_settings, given_parallelism
from portfolio_stream.kafka.offset_lookup import LATEST, READ_COMMITTED, log_offsets
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.savepoints.manifest import new_id

#: operations that end with a savepoint
WITH_SAVEPOINT = (OperationKind.SAVEPOINT, OperationKind.STOP)
KEPT_OPERATIONS = 100  # the newest ones; older ones that are over are deleted
POLL_SECONDS = 0.2  # between two looks at an operation that others carry out
ABANDONED = "the process that carried it out is gone"

#: what an operator does if the job is in a state that does not allow what was asked for
NEXT_STEPS: Mapping[JobState, str] = {
    JobState.RUNNING: "Nothing is to be done, or stop the job first: `portfolio-stream job stop`.",
    JobState.PAUSED: "Let the job go on with `portfolio-stream job resume`, or stop it.",
    JobState.STOPPING: "Wait for its savepoint (`portfolio-stream job describe`), or end it with `portfolio-stream "
    "job cancel`.",
    JobState.STOPPED: "Start the job first: `portfolio-stream job start`.",
    JobState.CANCELLED: "Start the job first: `portfolio-stream job start`.",
    JobState.MIGRATING: "Wait until the operation is over (`portfolio-stream job describe`); if the process that "
    "carries it out is gone, `portfolio-stream job start` goes on with the old state.",
}


class Asked(NamedTuple):
    """What an operator asked for, before it is decided."""

    id: str
    kind: OperationKind
    by: str
    at: float
    arguments: Mapping[str, Any] = {}


def asked(kind: OperationKind, by: str, **arguments: Any) -> Asked:
    now = time.time()
    return Asked(new_id(now), kind, by, now, arguments)


# -- done at once

#: the event of each operation that is done by the decision itself
AT_ONCE: Mapping[OperationKind, JobEvent] = {
    OperationKind.PAUSE: JobEvent.PAUSE,
    OperationKind.RESUME: JobEvent.RESUME,
    OperationKind.CANCEL: JobEvent.CANCEL,
    OperationKind.STOP: JobEvent.STOP,
    OperationKind.START: JobEvent.START,
}


async def change_at_once(control: JobControl, wanted: Asked, *, dry_run: bool = False) -> JobOperation:
    """Pause, resume, cancel, stop or start the job. Returns the operation, which is done.

    If the job leaves the group by this, every operation that is not over fails. Raises JobNotBegun, JobNotInState, and
    ControlUnavailable.
    """

    def decide(state: ControlState) -> ControlChange | None:
        if state.operation(wanted.id) is not None:
            return None
        job = _moved(state, AT_ONCE[wanted.kind], wanted)
        done = _operation(wanted, OperationState.DONE, ended_at=wanted.at, result={"job": job.state.value})
        ended: dict[str, msgspec.Struct | None] = {}
        if job.state in (JobState.STOPPED, JobState.CANCELLED, JobState.RUNNING):
            for other in state.running:
                if other.kind is not OperationKind.SAVEPOINT or job.state is not JobState.RUNNING:
                    reason = f"operation {wanted.id} ({wanted.kind.value}) came before its end"
                    ended |= _end_records(state, other, OperationState.FAILED, reason)
        return ControlChange(records={**ended, **_swept(state), operation_key(wanted.id): done, JOB_KEY: job})

    return await _decided(control, wanted, decide, dry_run=dry_run)


async def resize(
    control: JobControl,
    wanted: Asked,
    *,
    parallelism: int | None = None,
    settings: Mapping[str, str] | None = None,
    dry_run: bool = False,
) -> JobOperation:
    """Have every supervisor keep this many workers, with these settings. Returns the operation, which is done.

    None leaves what is as it is. `settings` are changes by PORTFOLIO_ variable: an empty value takes the variable away.
    It may be asked for in every state of the job, and beside every operation. Raises InvalidSetting, SettingNotForJob,
    JobNotBegun, ControlUnavailable.
    """
    if parallelism is not None:
        given_parallelism(str(parallelism))

    def decide(state: ControlState) -> ControlChange | None:
        if state.operation(wanted.id) is not None:
            return None
        before = _job(state)
        job = msgspec.structs.replace(
            before,
            revision=before.revision + 1,
            parallelism=before.parallelism if parallelism is None else parallelism,
            settings=changed_settings(before.settings, settings or {}),
        )
        result = {"parallelism": job.parallelism, "settings": job.settings}
        done = _operation(wanted, OperationState.DONE, ended_at=wanted.at, result=result)
        return ControlChange(records={**_swept(state), operation_key(wanted.id): done, JOB_KEY: job})

    return await _decided(control, wanted, decide, dry_run=dry_run)


# -- carried out by the workers


async def begin_savepoint(control: JobControl, wanted: Asked, *, dry_run: bool = False) -> JobOperation:
    """Ask the workers for a savepoint, while the job runs or is paused. `wanted.arguments` has the savepoint's id.

    Raises JobNotBegun, JobNotInState, OperationInProgress, ControlUnavailable.
    """
    return await _decided(control, wanted, lambda state: _savepoint_begun(state, wanted), dry_run=dry_run)


async def begin_scheduled_savepoint(control: JobControl, wanted: Asked, interval: float) -> None:
    """As begin_savepoint, unless a savepoint was asked for in the last `interval` seconds: two workers may ask."""

    def decide(state: ControlState) -> ControlChange | None:
        return None if wanted.at < newest_savepoint(state) + interval else _savepoint_begun(state, wanted)

    await control.change(decide)


def newest_savepoint(state: ControlState) -> float:
    """When the newest savepoint was asked for, in seconds since 1970; 0 if none was."""
    asked_at = [
        operation.asked_at
        for operation in state.operations
        if operation.kind in WITH_SAVEPOINT and "savepoint" in operation.arguments
    ]
    return max(asked_at, default=0.0)


def _savepoint_begun(state: ControlState, wanted: Asked) -> ControlChange | None:
    if state.operation(wanted.id) is not None:
        return None
    job = _job(state)
    if job.state not in (JobState.RUNNING, JobState.PAUSED):
        raise JobNotInState("write a savepoint", job.state.value, NEXT_STEPS[job.state])
    _require_nothing_runs(state)
    return ControlChange(
        records={**_swept(state), operation_key(wanted.id): _operation(wanted, OperationState.RUNNING)}
    )


async def begin_stop_with_savepoint(control: JobControl, wanted: Asked, *, dry_run: bool = False) -> JobOperation:
    """Ask the workers for a savepoint; the job stops when it is complete. `wanted.arguments`: savepoint, drain.

    Raises as begin_savepoint.
    """

    def decide(state: ControlState) -> ControlChange | None:
        if state.operation(wanted.id) is not None:
            return None
        before = _job(state).state
        job = _moved(state, JobEvent.STOP_WITH_SAVEPOINT, wanted)
        _require_nothing_runs(state)
        arguments = {**wanted.arguments, "before": before.value}
        running = _operation(wanted._replace(arguments=arguments), OperationState.RUNNING)
        return ControlChange(records={**_swept(state), operation_key(wanted.id): running, JOB_KEY: job})

    return await _decided(control, wanted, decide, dry_run=dry_run)


async def source_ends(control: JobControl) -> dict[str, int]:
    """Where the committed records of each partition of the source end now, for a drain. By partition, as JSON has it.

    Raises ControlUnavailable.
    """
    generation = (await control.newest()).current
    partitions = range(0 if generation is None else generation.partitions)
    try:
        found = await log_offsets(control.client, control.source_topic, partitions, LATEST, READ_COMMITTED)
    except (*LOST, kafka_errors.KafkaError) as error:
        raise ControlUnavailable(control.source_topic, cause_of(error)) from error
    if missing := set(partitions) - found.keys():
        raise ControlUnavailable(control.source_topic, f"partition {min(missing)} has no leader")
    return {str(partition): end for partition, end in sorted(found.items())}


async def report(control: JobControl, operation: str, part: Part) -> ControlState:
    """Report what the owner of a partition has done for an operation. The first report of a partition counts."""

    def decide(state: ControlState) -> ControlChange | None:
        known = state.operation(operation)
        if known is None or known.state.is_final:
            return None
        if part.partition in state.parts(operation):
            return None
        return ControlChange(records={part_key(operation, part.partition): part})

    return await control.change(decide)


# -- carried out by the process that asked


async def begin_switch(
    control: JobControl, wanted: Asked, *, overtakes: bool = True, committed: int = 0
) -> JobOperation:
    """Let every worker leave, and reserve the next generation's number (`arguments["generation"]`).

    The number is greater than `committed`, the newest generation that the group's offsets name: a control topic that
    was deleted and made again does not know the generations before.

    A savepoint that is not complete fails: after a disaster nobody is there who could complete it. A switch that was
    begun before, and is not over, is abandoned: it fails. If this one does not overtake, it is refused instead.
    Raises JobNotBegun, JobNotInState, OperationInProgress, ControlUnavailable.
    """

    def decide(state: ControlState) -> ControlChange | None:
        if state.operation(wanted.id) is not None:
            return None
        before = _job(state).state
        job = _moved(state, JobEvent.MIGRATE, wanted)
        records: dict[str, msgspec.Struct | None] = {}
        for other in state.running:
            if other.kind is OperationKind.SAVEPOINT:
                reason = f"operation {wanted.id} ({wanted.kind.value}) came before its end"
                records |= _end_records(state, other, OperationState.FAILED, reason)
                continue
            if not (other.kind.is_switch and overtakes):
                raise OperationInProgress(other.id, other.kind.value)
            records |= _end_records(state, other, OperationState.FAILED, ABANDONED)
            if before is JobState.MIGRATING:
                before = JobState(other.arguments["before"])
        number = max(state.next_generation(), committed + 1)
        arguments = {**wanted.arguments, "generation": number, "before": before.value}
        running = _operation(wanted._replace(arguments=arguments), OperationState.RUNNING)
        return ControlChange(records={**records, **_swept(state), operation_key(wanted.id): running, JOB_KEY: job})

    return await _decided(control, wanted, decide, dry_run=False)


# -- the end of an operation


async def end(
    control: JobControl,
    operation: str,
    state: OperationState,
    *,
    reason: str | None = None,
    result: Mapping[str, Any] | None = None,
) -> JobOperation:
    """End an operation that is not over, and move the job as its end says. Returns the operation as it ended.

    An operation ends once: whoever comes later gets the end that was. A switch is done only by its own transaction.
    Raises OperationUnknown, ControlUnavailable.
    """

    def decide(newest: ControlState) -> ControlChange | None:
        known = newest.operation(operation)
        if known is None:
            raise OperationUnknown(operation)
        if known.state.is_final:
            return None
        records = _end_records(newest, known, state, reason, result)
        job = _after_end(newest, known, state)
        return ControlChange(records=records if job is None else records | {JOB_KEY: job})

    found = (await control.change(decide)).operation(operation)
    assert found is not None  # noqa: S101  decide has seen it
    return found


def _after_end(newest: ControlState, known: JobOperation, state: OperationState) -> Job | None:
    """The job after the end of an operation; None if the job stays."""
    job = _job(newest)
    if job.operation != known.id or job.state not in (JobState.STOPPING, JobState.MIGRATING):
        return None
    event = JobEvent.SAVED if state is OperationState.DONE else JobEvent.UNDONE
    following = after(job.state, event, JobState(known.arguments["before"]))
    if following is None:
        raise AssertionError(f"{event.value}, of a job that is {job.state.value}")  # a switch ends by its transaction
    return msgspec.structs.replace(job, state=following, revision=job.revision + 1, since=time.time())


async def cancel_operation(control: JobControl, operation: str, by: str) -> JobOperation:
    """Cancel an operation that is not over. Raises OperationUnknown, ControlUnavailable."""
    return await end(control, operation, OperationState.CANCELLED, reason=f"cancelled by {by}")


async def follow(control: JobControl, operation: str) -> AsyncIterator[tuple[JobOperation, Mapping[int, Part]]]:
    """Yields the operation and its parts as they change, until it is over. Raises OperationUnknown."""
    last: object = None
    while True:
        state = await control.newest()
        known = state.operation(operation)
        if known is None:
            raise OperationUnknown(operation)
        seen = known, dict(state.parts(operation))
        if seen != last:
            last = seen
            yield seen
        if known.state.is_final:
            return
        await asyncio.sleep(POLL_SECONDS)


# -- shared


def _job(state: ControlState) -> Job:
    if state.job is None:
        raise JobNotBegun
    return state.job


def _moved(state: ControlState, event: JobEvent, wanted: Asked) -> Job:
    """The job after the event. Raises JobNotBegun, JobNotInState."""
    job = _job(state)
    following = after(job.state, event)
    if following is None:
        raise JobNotInState(event.value, job.state.value, NEXT_STEPS[job.state])
    return msgspec.structs.replace(
        job, state=following, revision=job.revision + 1, operation=wanted.id, since=wanted.at
    )


def _operation(wanted: Asked, state: OperationState, **fields: Any) -> JobOperation:
    return JobOperation(
        id=wanted.id,
        kind=wanted.kind,
        state=state,
        arguments=dict(wanted.arguments),
        by=wanted.by,
        asked_at=wanted.at,
        **fields,
    )


def _end_records(
    newest: ControlState,
    operation: JobOperation,
    state: OperationState,
    reason: str | None,
    result: Mapping[str, Any] | None = None,
) -> dict[str, msgspec.Struct | None]:
    """The records that end an operation: its parts are deleted."""
    ended = msgspec.structs.replace(
        operation, state=state, reason=reason, ended_at=time.time(), result=dict(result or {})
    )
    parts = {part_key(operation.id, partition): None for partition in newest.parts(operation.id)}
    return {operation_key(operation.id): ended, **parts}


def _require_nothing_runs(state: ControlState) -> None:
    for other in state.running:
        raise OperationInProgress(other.id, other.kind.value)


def _swept(state: ControlState) -> dict[str, msgspec.Struct | None]:
    """Deletes the oldest operations that are over, beyond KEPT_OPERATIONS.

    The one that reserved the newest generation's number stays: without it the number would be given a second time.
    """
    over = [operation for operation in state.operations if operation.state.is_final]
    newest = state.next_generation() - 1
    swept = [one for one in over[:-KEPT_OPERATIONS] if one.arguments.get("generation") != newest]
    return {operation_key(operation.id): None for operation in swept}


async def _decided(control: JobControl, wanted: Asked, decide: Any, *, dry_run: bool) -> JobOperation:
    """Make the decision, or with `dry_run` only find out what it would be. Returns the operation."""
    if dry_run:
        found: JobOperation = decide(await control.newest()).records[operation_key(wanted.id)]
        return found
    operation = (await control.change(decide)).operation(wanted.id)
    assert operation is not None  # noqa: S101  it was decided just now
    return operation

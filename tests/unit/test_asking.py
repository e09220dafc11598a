"""What an operator asks of a job, in each state of the job: allowed, or refused with an error that says what to do."""

from collections.abc import Awaitable, Callable
from itertools import product
from typing import Any

import msgspec
import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import (
    JobOperation,
    OperationKind,
    OperationState,
    Part,
    operation_key,
    part_key,
)
from portfolio_stream.errors import (
    InvalidSetting,
    JobNotBegun,
    JobNotInState,
    OperationInProgress,
    OperationUnknown,
    PortfolioStreamError,
    SettingNotForJob,
)
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.asking import asked
from tests.unit.control_stage import MemoryControl, begun

Ask = Callable[[Any], Awaitable[JobOperation]]
SAVEPOINT = "20261129T203512Z-4f2a9c"
PART = Part(partition=1, worker="w", offset=9, at=2.0)


def at_once(kind: OperationKind) -> Ask:
    return lambda control: asking.change_at_once(control, asked(kind, "me"))


async def savepoint(control: Any, **arguments: Any) -> JobOperation:
    return await asking.begin_savepoint(control, asked(OperationKind.SAVEPOINT, "me", savepoint=SAVEPOINT, **arguments))


async def stop_with_savepoint(control: Any) -> JobOperation:
    return await asking.begin_stop_with_savepoint(control, asked(OperationKind.STOP, "me", savepoint=SAVEPOINT))


async def switch(control: Any) -> JobOperation:
    return await asking.begin_switch(control, asked(OperationKind.RESET, "me"))


async def scale(control: Any, parallelism: int | None = 4, **settings: str) -> JobOperation:
    wanted = asked(OperationKind.SCALE, "me")
    return await asking.resize(control, wanted, parallelism=parallelism, settings=settings)


ASKS: dict[str, Ask] = {
    "pause": at_once(OperationKind.PAUSE),
    "resume": at_once(OperationKind.RESUME),
    "stop": at_once(OperationKind.STOP),
    "cancel": at_once(OperationKind.CANCEL),
    "start": at_once(OperationKind.START),
    "savepoint": savepoint,
    "stop with a savepoint": stop_with_savepoint,
    "switch": switch,
    "scale": scale,
}
#: the job's state afterwards, in the order of JobState; `.`: refused with JobNotInState
EXPECTED = {
    "pause": "paused . . . . .",
    "resume": ". running . . . .",
    "stop": "stopped stopped stopped . . .",
    "cancel": "cancelled cancelled cancelled cancelled . .",
    "start": ". . . running running running",
    "savepoint": "running paused . . . .",
    "stop with a savepoint": "stopping stopping . . . .",
    "switch": "migrating migrating . migrating migrating migrating",
    "scale": "running paused stopping stopped cancelled migrating",
}


@pytest.mark.parametrize(("name", "state"), [*product(ASKS, JobState)])
async def test_every_operation_in_every_state(name: str, state: JobState) -> None:
    """A refusal writes nothing, names the state, and says what to do. What is allowed moves the job by one revision."""
    control = begun(state)
    expected = EXPECTED[name].split()[list(JobState).index(state)]
    if expected == ".":
        with pytest.raises(JobNotInState) as refused:
            await ASKS[name](control)
        assert ([], state) == (control.written, control.job.state)
        assert (state.value in refused.value.cause, asking.NEXT_STEPS[state]) == (True, refused.value.action)
        return
    operation = await ASKS[name](control)
    is_done = operation.state is OperationState.DONE
    assert (expected, len(control.written)) == (control.job.state.value, 1)
    assert is_done is (name in ("pause", "resume", "stop", "cancel", "start", "scale"))
    assert control.job.revision == 1 + (name != "savepoint")


@pytest.mark.parametrize("name", ASKS)
async def test_a_job_that_has_not_begun_is_asked_for_nothing(name: str) -> None:
    with pytest.raises(JobNotBegun, match="The job has not begun"):
        await ASKS[name](MemoryControl())


@pytest.mark.parametrize("kind", asking.AT_ONCE)
async def test_the_same_operation_is_decided_once(kind: OperationKind) -> None:
    """Whoever does not know how its decision ended, decides again, and finds it."""
    state = {OperationKind.RESUME: JobState.PAUSED, OperationKind.START: JobState.STOPPED}.get(kind, JobState.RUNNING)
    control, wanted = begun(state), asked(kind, "me")
    first = await asking.change_at_once(control, wanted)
    second = await asking.change_at_once(control, wanted)
    assert (first, 1, 2) == (second, len(control.written), control.job.revision)


@pytest.mark.parametrize(
    ("begin", "kind"),
    [
        (asking.begin_savepoint, OperationKind.SAVEPOINT),
        (asking.begin_stop_with_savepoint, OperationKind.STOP),
        (asking.begin_switch, OperationKind.RESET),
    ],
)
async def test_an_operation_begins_once(begin: Any, kind: OperationKind) -> None:
    control, wanted = begun(), asked(kind, "me", savepoint=SAVEPOINT)
    assert await begin(control, wanted) == await begin(control, wanted)
    assert 1 == len(control.written)


async def test_a_switch_fails_a_savepoint_that_nobody_may_complete() -> None:
    """All workers may be lost in the middle of a scheduled savepoint: the restore must not wait for its deadline."""
    control = begun()
    first = await ASKS["savepoint"](control)
    new = await ASKS["switch"](control)
    failed = control.state.operation(first.id)
    assert failed is not None
    assert (OperationState.FAILED, [new]) == (failed.state, control.state.running)


@pytest.mark.parametrize(
    ("name", "running"),
    [
        *((name, "savepoint") for name in ("savepoint", "stop with a savepoint")),
        *((name, "stop with a savepoint") for name in ("savepoint", "stop with a savepoint", "switch")),
    ],
)
async def test_two_operations_never_run_at_once(name: str, running: str) -> None:
    """The refusal names the operation that runs, or the job's state forbids both."""
    control = begun()
    first = await ASKS[running](control)
    with pytest.raises(OperationInProgress if running == "savepoint" else JobNotInState) as refused:
        await ASKS[name](control)
    assert ([first], 1) == (control.state.running, len(control.written))
    assert running != "savepoint" or first.id in refused.value.cause


@pytest.mark.parametrize("kind", [OperationKind.STOP, OperationKind.CANCEL])
@pytest.mark.parametrize("running", ["savepoint", "stop with a savepoint"])
async def test_a_job_that_leaves_fails_what_its_workers_carry_out(kind: OperationKind, running: str) -> None:
    """The reason names the operation that came between, and the parts are deleted with it."""
    control = begun()
    first = await ASKS[running](control)
    await asking.report(control, first.id, PART)
    stopping = await asking.change_at_once(control, asked(kind, "me"))
    failed = control.state.operation(first.id)
    assert (OperationState.FAILED, {}) == (failed.state, control.state.parts(first.id))
    assert f"operation {stopping.id} ({kind.value}) came before its end" == failed.reason
    assert JobState.STOPPED is control.job.state or JobState.CANCELLED is control.job.state


@pytest.mark.parametrize(("before", "kind"), [("running", "pause"), ("paused", "resume")])
async def test_a_savepoint_outlives_a_pause_and_a_resume(before: str, kind: str) -> None:
    control = begun(JobState(before))
    running = await savepoint(control)
    await ASKS[kind](control)
    assert [running] == control.state.running


@pytest.mark.parametrize("before", [JobState.RUNNING, JobState.PAUSED])
@pytest.mark.parametrize("ended", [OperationState.FAILED, OperationState.CANCELLED])
async def test_an_undone_stop_goes_back(before: JobState, ended: OperationState) -> None:
    """A stop whose savepoint is not written leaves the job as it was, by one more revision; its parts are deleted."""
    control = begun(before)
    stop = await stop_with_savepoint(control)
    await asking.report(control, stop.id, PART)
    await asking.end(control, stop.id, ended, reason="the disk is full")
    assert (before, 3, {}) == (control.job.state, control.job.revision, control.state.parts(stop.id))


async def test_a_stop_is_over_with_its_savepoint() -> None:
    control = begun()
    stop = await stop_with_savepoint(control)
    ended = await asking.end(control, stop.id, OperationState.DONE, result={"savepoint": SAVEPOINT})
    assert (JobState.STOPPED, {"savepoint": SAVEPOINT}) == (control.job.state, ended.result)


async def test_an_operation_ends_once() -> None:
    """Whoever comes later gets the end that was, and moves nothing."""
    control = begun()
    stop = await stop_with_savepoint(control)
    first = await asking.cancel_operation(control, stop.id, "me")
    assert (OperationState.CANCELLED, "cancelled by me") == (first.state, first.reason)
    assert first == await asking.end(control, stop.id, OperationState.DONE)
    assert first == await asking.end(control, stop.id, OperationState.FAILED, reason="late")
    assert (2, JobState.RUNNING) == (len(control.written), control.job.state)


async def test_the_end_of_an_old_operation_does_not_move_the_job() -> None:
    """The job is stopping for another operation."""
    control = begun()
    old = await savepoint(control)
    control.put({operation_key(old.id): None})
    stop = await stop_with_savepoint(control)
    control.put({operation_key(old.id): old})
    await asking.end(control, old.id, OperationState.DONE)
    assert (JobState.STOPPING, stop.id) == (control.job.state, control.job.operation)


async def test_unknown_operations_do_not_end() -> None:
    with pytest.raises(OperationUnknown):
        await asking.cancel_operation(begun(), "x", "me")
    with pytest.raises(OperationUnknown):
        await anext(asking.follow(begun(), "x"))


@pytest.mark.parametrize("before", [JobState.RUNNING, JobState.PAUSED, JobState.STOPPED, JobState.CANCELLED])
async def test_an_abandoned_switch_fails_and_the_next_knows_the_state_before_it(before: JobState) -> None:
    """Its number is skipped, and whatever ends the second one brings the job back to where the first one found it."""
    control = begun(before)
    first, second = await switch(control), await switch(control)
    abandoned = control.state.operation(first.id)
    assert (OperationState.FAILED, asking.ABANDONED) == (abandoned.state, abandoned.reason)
    assert (2, 3) == (first.arguments["generation"], second.arguments["generation"])
    await asking.cancel_operation(control, second.id, "me")
    assert (before, []) == (control.job.state, control.state.running)


async def test_a_switch_takes_no_number_that_the_groups_offsets_name() -> None:
    """A control topic that was made again does not know the generations before."""
    wanted = asked(OperationKind.RESET, "me")
    assert 8 == (await asking.begin_switch(begun(), wanted, committed=7)).arguments["generation"]


async def test_a_start_ends_a_switch() -> None:
    """The process that carried it out may be gone: the old generation runs."""
    control = begun()
    begun_switch = await switch(control)
    await ASKS["start"](control)
    ended = control.state.operation(begun_switch.id)
    assert (OperationState.FAILED, JobState.RUNNING, 1) == (ended.state, control.job.state, control.job.generation)


async def test_a_dry_run_writes_nothing() -> None:
    """It says what would be done, or raises the refusal."""
    control = begun()
    for begin, kind, state in (
        (asking.change_at_once, OperationKind.STOP, OperationState.DONE),
        (asking.begin_savepoint, OperationKind.SAVEPOINT, OperationState.RUNNING),
        (asking.begin_stop_with_savepoint, OperationKind.STOP, OperationState.RUNNING),
    ):
        wanted = asked(kind, "me", savepoint=SAVEPOINT)
        told = await begin(control, wanted, dry_run=True)
        assert (wanted.id, state) == (told.id, told.state)
    with pytest.raises(JobNotInState):
        await asking.change_at_once(control, asked(OperationKind.START, "me"), dry_run=True)
    assert ([], JobState.RUNNING, []) == (control.written, control.job.state, control.state.operations)


async def test_a_part_is_reported_once_and_only_while_its_operation_runs() -> None:
    control = begun()
    running = await savepoint(control)
    other = msgspec.structs.replace(PART, worker="another")
    for part in (PART, other):
        await asking.report(control, running.id, part)
    assert {1: PART} == control.state.parts(running.id)
    await asking.end(control, running.id, OperationState.DONE)
    written = len(control.written)
    await asking.report(control, running.id, PART)
    await asking.report(control, "x", PART)
    assert (written, {}) == (len(control.written), control.state.parts(running.id))


def over(number: int, **arguments: Any) -> JobOperation:
    return JobOperation(
        id=f"old-{number}", kind=OperationKind.RESET if arguments else OperationKind.PAUSE,
        state=OperationState.FAILED, arguments=arguments, asked_at=float(number),
    )  # fmt: skip


@pytest.mark.parametrize("name", ["stop", "savepoint", "stop with a savepoint", "switch"])
async def test_old_operations_are_swept(name: str) -> None:
    """The newest ones stay, and what runs."""
    control = begun()
    control.put({operation_key(one.id): one for one in map(over, range(asking.KEPT_OPERATIONS + 5))})
    new = await ASKS[name](control)
    names = [one.id for one in control.state.operations]
    assert [*(f"old-{number}" for number in range(5, asking.KEPT_OPERATIONS + 5)), new.id] == names


async def test_the_attempt_with_the_newest_number_is_never_swept() -> None:
    """Its generation's number would be given again."""
    control = begun()
    attempts = [over(number, generation=2 + number, before="running") for number in (0, 1)]
    control.put({operation_key(one.id): one for one in attempts})
    control.put({operation_key(one.id): one for one in map(over, range(2, asking.KEPT_OPERATIONS + 5))})
    new = await switch(control)
    assert 4 == new.arguments["generation"]
    assert (None, attempts[1]) == tuple(control.state.operation(one.id) for one in attempts)


async def test_scheduled_savepoints_of_two_workers_are_one() -> None:
    control = begun()
    for worker in ("one", "two"):
        wanted = asked(OperationKind.SAVEPOINT, worker, savepoint=SAVEPOINT, reason="scheduled")
        await asking.begin_scheduled_savepoint(control, wanted, 60.0)
    assert ["one"] == [one.by for one in control.state.running]


async def test_an_operation_is_followed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each change is given once: begun, a part, over."""
    monkeypatch.setattr(asking, "POLL_SECONDS", 0.0)
    control = begun()
    running = await savepoint(control)
    seen: list[Any] = []
    async for operation, parts in asking.follow(control, running.id):
        seen.append((operation.state.value, sorted(parts)))
        if len(seen) == 1:
            await asking.report(control, running.id, PART)
        elif len(seen) == 2:
            await asking.end(control, running.id, OperationState.DONE)
    assert [("running", []), ("running", [1]), ("done", [])] == seen


async def test_the_parts_of_an_ended_operation_are_deleted_by_name() -> None:
    """A compacted topic forgets only keys that get a deletion."""
    control = begun()
    running = await savepoint(control)
    await asking.report(control, running.id, PART)
    await ASKS["cancel"](control)
    assert control.written[-1][part_key(running.id, 1)] is None


SIZE = {"PORTFOLIO_STANDBYS": "1", "PORTFOLIO_CHECKPOINT_INTERVAL": "5s"}


@pytest.mark.parametrize("name", [name for name in ASKS if name not in ("savepoint", "scale")])
@pytest.mark.parametrize("state", JobState)
async def test_every_change_of_the_job_keeps_its_size(name: str, state: JobState) -> None:
    """Neither a stop nor a restore changes how many workers there are, and with which settings."""
    control = begun(state)
    await scale(control, 3, **SIZE)
    if EXPECTED[name].split()[list(JobState).index(state)] != ".":
        await ASKS[name](control)
    assert (3, SIZE) == (control.job.parallelism, control.job.settings)


async def test_the_end_of_an_operation_keeps_the_jobs_size_and_finds_its_job() -> None:
    """A job that is scaled while it stops or migrates still waits for the operation that was there before."""
    for name in ("stop with a savepoint", "switch"):
        control = begun()
        operation = await ASKS[name](control)
        await scale(control, 3, **SIZE)
        assert operation.id == control.job.operation
        await asking.end(control, operation.id, OperationState.FAILED, reason="test")
        assert (JobState.RUNNING, 3, SIZE) == (control.job.state, control.job.parallelism, control.job.settings)


@pytest.mark.parametrize(
    ("parallelism", "settings", "expected"),
    [
        (5, {}, (5, SIZE)),
        (None, {"PORTFOLIO_STANDBYS": "2"}, (3, SIZE | {"PORTFOLIO_STANDBYS": "2"})),
        (None, {"PORTFOLIO_STANDBYS": ""}, (3, {"PORTFOLIO_CHECKPOINT_INTERVAL": "5s"})),
        (None, {"PORTFOLIO_STATE_MEMORY": ""}, (3, SIZE)),
    ],
)
async def test_a_change_of_the_size_leaves_the_rest_of_the_size(parallelism: Any, settings: Any, expected: Any) -> None:
    """Only what is named changes; an empty value takes a setting away. The operation's result is the whole size."""
    control = begun()
    await scale(control, 3, **SIZE)
    done = await scale(control, parallelism, **settings)
    assert expected == (control.job.parallelism, control.job.settings)
    assert {"parallelism": expected[0], "settings": expected[1]} == done.result


@pytest.mark.parametrize(
    ("parallelism", "settings", "error"),
    [
        (0, {}, InvalidSetting),
        (65, {}, InvalidSetting),
        (None, {"PORTFOLIO_STANDBYS": "many"}, InvalidSetting),
        (None, {"PORTFOLIO_CHECKPOINT_TIMEOUT": "1h"}, InvalidSetting),
        (None, {"PORTFOLIO_WEB_TOKEN": "a secret that everybody would read"}, SettingNotForJob),
        (None, {"PORTFOLIO_DEDUPLICATION_WINDOW": "5"}, SettingNotForJob),
        (None, {"PATH": ""}, SettingNotForJob),
    ],
)
async def test_a_size_that_workers_would_refuse_is_refused(
    parallelism: Any, settings: Any, error: type[PortfolioStreamError]
) -> None:
    """Nothing is written: no worker is restarted to end at once, and no secret comes into the topic."""
    control = begun()
    with pytest.raises(error) as refused:
        await scale(control, parallelism, **settings)
    assert ([], 2) == (control.written, refused.value.exit_code)


async def test_the_same_size_is_decided_once() -> None:
    control, wanted = begun(), asked(OperationKind.SCALE, "me")
    first = await asking.resize(control, wanted, parallelism=2)
    assert first == await asking.resize(control, wanted, parallelism=2)
    assert 1 == len(control.written)

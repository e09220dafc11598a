"""The values of the control topic as bytes, and their fold: the newest value of each key counts."""

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    Generation,
    Job,
    JobOperation,
    OperationKind,
    OperationState,
    Part,
    decode,
    encode,
    generation_key,
    operation_key,
    part_key,
)
from tests.unit.control_stage import control_record, generation

JOB = Job(
    state=JobState.STOPPING, revision=7, generation=3, operation="b", since=1.5,
    parallelism=4, settings={"PORTFOLIO_STANDBYS": "1"},
)  # fmt: skip
GENERATION = Generation(
    number=3, changelog_topic="g-changelog-g3", source_topic_id="00" * 16, partitions=2, first_offsets={0: 5, 1: 0},
    fold="f", origin="reset", parent=1, savepoint="20261129T203512Z-4f2a9c", created_at=2.5,
    left_outputs={"out": [3, 4]}, is_expired=True,
)  # fmt: skip


def operation(name: str = "b", at: float = 1.0, **fields: Any) -> JobOperation:
    known = {"kind": OperationKind.SAVEPOINT, "state": OperationState.RUNNING, "asked_at": at} | fields
    whole = {"savepoint": "s", "before": "running"} | ({"generation": 2} if known["kind"].is_switch else {})
    known["arguments"] = whole | known.get("arguments", {})
    return JobOperation(id=name, **known)


PART = Part(partition=3, worker="w", offset=9, at=2.0, problem="halted")
VALUES = [
    (JOB_KEY, JOB),
    *((JOB_KEY, msgspec.structs.replace(JOB, state=state)) for state in JobState),
    (generation_key(3), GENERATION),
    *((operation_key("b"), operation(kind=kind, arguments={"drain": {"0": 7}}, by="me")) for kind in OperationKind),
    *((operation_key("b"), operation(state=state, ended_at=2.0, result={"rows": 1})) for state in OperationState),
    (part_key("b", 3), PART),
]


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_a_value_comes_back_as_it_was_written(key: str, value: Any) -> None:
    assert value == decode(key.encode(), encode(value))


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_fields_of_a_later_version_are_passed_over(key: str, value: Any) -> None:
    """A worker of this version goes on while others are updated."""
    later = msgspec.json.encode({**msgspec.json.decode(encode(value)), "of a later version": {"a": [1]}})
    assert value == decode(key.encode(), later)


def test_a_job_of_an_earlier_version_has_no_size() -> None:
    """A topic that was written before jobs had a size is read as ever."""
    earlier = b'{"state":"paused","revision":2,"generation":1,"operation":null,"since":1.5}'
    assert Job(state=JobState.PAUSED, revision=2, generation=1, since=1.5) == decode(b"job", earlier)


@pytest.mark.parametrize(
    ("kind", "lacking"),
    [
        (OperationKind.SAVEPOINT, "savepoint"),
        (OperationKind.STOP, "savepoint"),
        (OperationKind.STOP, "before"),
        (OperationKind.RESET, "generation"),
        (OperationKind.RESTORE, "before"),
    ],
)
def test_an_operation_that_nobody_could_carry_out_has_no_value(kind: OperationKind, lacking: str) -> None:
    """A stranger's half operation would end the agent of every worker, or every later switch."""
    whole = operation(kind=kind)
    half = {name: value for name, value in whole.arguments.items() if name != lacking}
    assert decode(b"operation/b", encode(msgspec.structs.replace(whole, arguments=half))) is None
    assert decode(b"operation/b", encode(msgspec.structs.replace(whole, arguments=half | {lacking: [1]}))) is None


@pytest.mark.parametrize(
    "key", [b"", b"jobs", b"job/1", b"generation", b"operation", b"operation/a/part", b"a/b/c/d/e", b"\xff\xfe", b"/"]
)
def test_a_key_of_a_stranger_has_no_value(key: bytes) -> None:
    assert decode(key, encode(JOB)) is None


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"{}", b"[1]", b"{", b"\xff", b'{"state":"flying","revision":1,"generation":1}',
     b'{"state":"running","revision":"1","generation":1}', b'"' + b"a" * 10_000 + b'"', b"[" * 100_000],
)  # fmt: skip
def test_bytes_of_a_stranger_have_no_value(data: bytes) -> None:
    """Neither the value nor an error: whoever may write to the topic must not end the workers."""
    assert decode(JOB_KEY.encode(), data) is None


def folded(records: Iterable[tuple[str, Any]]) -> ControlState:
    state = ControlState()
    for key, value in records:
        state.apply([control_record(key, value)])
    return state


def test_the_newest_value_of_a_key_counts() -> None:
    state = folded(
        [(JOB_KEY, msgspec.structs.replace(JOB, revision=6)), (generation_key(3), GENERATION), (JOB_KEY, JOB)]
    )
    assert (JOB, GENERATION, [GENERATION]) == (state.job, state.current, state.generations)


def test_an_empty_topic_has_no_job() -> None:
    state = ControlState()
    assert (None, None, [], [], 1) == (
        state.job, state.current, state.operations, state.generations, state.next_generation()
    )  # fmt: skip


def test_a_job_whose_generation_is_not_there_has_no_current_one() -> None:
    assert folded([(JOB_KEY, JOB), (generation_key(1), generation())]).current is None


def test_what_a_stranger_writes_changes_nothing() -> None:
    """An unreadable value of a key leaves the one before it."""
    state = folded([(JOB_KEY, JOB)])
    told = [state.apply([control_record(key, b"{}")]) for key in (JOB_KEY, "something", "operation/b")]
    assert ([False] * 3, JOB) == (told, state.job)


def test_deletions() -> None:
    """A deleted operation and its parts are gone; a deletion of what is not there changes nothing."""
    state = folded([(operation_key("b"), operation()), (part_key("b", 3), PART), (part_key("bb", 3), PART)])
    assert {3: PART} == state.parts("b")
    told = [
        state.apply([control_record(key, None)]) for key in (part_key("b", 3), operation_key("b"), operation_key("b"))
    ]
    assert ([True, True, False], {}, None, {3: PART}) == (
        told,
        state.parts("b"),
        state.operation("b"),
        state.parts("bb"),
    )


def test_one_record_of_ours_among_a_batch_is_told() -> None:
    state = ControlState()
    assert state.apply([control_record(JOB_KEY, JOB), control_record("x", b"")])


def test_operations_and_generations_come_in_order() -> None:
    """Operations by the moment of asking, whatever their ids are; generations by number, also above 9."""
    operations = [operation("c", 1.0), operation("a", 3.0, state=OperationState.DONE), operation("b", 2.0)]
    state = folded(
        [(operation_key(one.id), one) for one in operations]
        + [(generation_key(number), generation(number)) for number in (10, 2, 1)]
    )
    assert ["c", "b", "a"] == [one.id for one in state.operations]
    assert ["c", "b"] == [one.id for one in state.running]
    assert [1, 2, 10] == [one.number for one in state.generations]


@pytest.mark.parametrize("ended", [OperationState.FAILED, OperationState.CANCELLED, OperationState.RUNNING])
def test_a_generations_number_is_never_used_twice(ended: OperationState) -> None:
    """The number of an attempt that failed is skipped: its topic may be there."""
    attempt = operation("x", kind=OperationKind.RESET, state=ended, arguments={"generation": 5})
    state = folded([(generation_key(3), GENERATION), (operation_key("x"), attempt), (operation_key("b"), operation())])
    assert 6 == state.next_generation()

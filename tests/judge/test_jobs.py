"""The judge of the job catches each kind of broken history of the control topic."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from tests.judge.jobs import JobJudge
from tests.judge.transactions import Anomaly


class Record(NamedTuple):
    key: bytes
    value: bytes | None


def job(state: str, revision: int, operation: str | None = None, generation: int = 1) -> tuple[str, Any]:
    return "job", {"state": state, "revision": revision, "generation": generation, "operation": operation}


def operation(name: str, kind: str, state: str) -> tuple[str, Any]:
    return f"operation/{name}", {"id": name, "kind": kind, "state": state}


def generation(number: int, **more: Any) -> tuple[str, Any]:
    return f"generation/{number}", {"number": number, **more}


BEGUN = [generation(1), job("running", 1)]
STOPPED = [operation("a", "stop", "done"), job("stopped", 2, "a")]
SWITCHING = [operation("b", "restore", "running"), job("migrating", 3, "b")]
SWITCHED = [operation("b", "restore", "done"), generation(2), job("running", 4, "b", 2)]


def judged(*transactions: Sequence[tuple[str, Any]]) -> JobJudge:
    judge = JobJudge()
    for transaction in transactions:
        judge.decided([Record(key.encode(), value and json.dumps(value).encode()) for key, value in transaction])
    return judge


def test_a_right_history_is_no_anomaly() -> None:
    """The job stops, and a switch takes it to another generation."""
    judge = judged(BEGUN, STOPPED, SWITCHING, SWITCHED)
    assert ("running", 2, []) == (judge.state, judge.generation, judge.running)
    assert {"stop done": 1, "restore done": 1} == judge.ends


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ([[generation(1), job("stopped", 1)]], "begins with"),
        ([[job("running", 1)]], "has no record"),
        ([BEGUN, [operation("a", "stop", "done"), job("stopped", 3, "a")]], "revision goes from 1 to 3"),
        ([BEGUN, [operation("a", "resume", "done"), job("stopped", 2, "a")]], "by resume"),
        ([BEGUN, [job("stopped", 2)]], "without an operation"),
        ([BEGUN, STOPPED, [job("running", 3, "a")]], "without an operation"),
        ([BEGUN, STOPPED, [operation("a", "stop", "done")]], "carried out twice"),
        ([BEGUN, STOPPED, [("operation/a", None)], [operation("a", "stop", "done")]], "is back"),
        ([BEGUN, [operation("a", "savepoint", "running")], [("operation/a", None)]], "is deleted"),
        ([BEGUN, [("operation/a/part/0", {"partition": 0})]], "which nobody asked for"),
        ([BEGUN, [generation(1, fold="other")]], "generation 1 was"),
        ([BEGUN, [generation(3)], [generation(2)]], "generation 2 comes after 3"),
        ([BEGUN, STOPPED, SWITCHING, [operation("b", "restore", "running"), *SWITCHED[1:]]], "which is running"),
        ([BEGUN, [*STOPPED, job("stopped", 3, "a")]], "changes the job 2"),
    ],
)
def test_a_broken_history_is_an_anomaly(history: Sequence[Sequence[tuple[str, Any]]], words: str) -> None:
    """Each history has one thing wrong."""
    with pytest.raises(Anomaly, match=words):
        judged(*history)

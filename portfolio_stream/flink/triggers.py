"""Operations as Flink's clients know them: by a trigger id, with a status, and with an end. Pure.

An operation's trigger id is the one that its client gave, or else the operation's own id in Flink's form of 32 hex
digits: 20261130T001122Z-4f2a9c is 202611300011224f2a9c000000000000.
"""

import re
from collections.abc import Mapping
from typing import Any

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JobOperation, OperationState
from portfolio_stream.flink.failure_cause import failure_cause
from portfolio_stream.flink.ids import HEX_DIGITS
from portfolio_stream.savepoints.addresses import hdfs_address

TRIGGER = "trigger"  # the argument of an operation with the trigger id that its client gave
TRIGGER_ID = re.compile(r"[0-9a-f]{32}")
_NOT_HEX = re.compile(r"[^0-9a-f]")

IN_PROGRESS: Mapping[str, object] = {"status": {"id": "IN_PROGRESS"}, "operation": None}


def trigger_of(operation: JobOperation) -> str:
    given = operation.arguments.get(TRIGGER)
    return given if isinstance(given, str) else _NOT_HEX.sub("", operation.id).ljust(HEX_DIGITS, "0")


def operation_of(state: ControlState, trigger: str) -> JobOperation | None:
    """The operation with this trigger id; None if there is none, or if it is so old that nobody knows it any more."""
    return next((one for one in state.operations if trigger_of(one) == trigger), None)


def savepoint_status(operation: JobOperation) -> Mapping[str, object]:
    """How far an operation is that ends with a savepoint."""
    return status(operation, {"location": hdfs_address(str(operation.arguments.get("savepoint")))})


def status(operation: JobOperation, done: Mapping[str, Any]) -> Mapping[str, object]:
    """How far an operation is. `done` describes its result."""
    if not operation.state.is_final:
        return IN_PROGRESS
    if operation.state is OperationState.DONE:
        return _completed(done)
    reason = operation.reason or f"operation {operation.id} is {operation.state.value}"
    return _completed({"failure-cause": failure_cause(reason)})


def _completed(operation: Mapping[str, Any]) -> Mapping[str, object]:
    return {"status": {"id": "COMPLETED"}, "operation": operation}

"""The options of the job's commands reach the work. The control topic is in memory, and the workers are a listener."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from portfolio_stream import cli
from portfolio_stream.commands import job as module
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import OperationState, operation_key
from tests.unit.control_stage import begun


@pytest.mark.parametrize("how", [["--savepoint"], []])
@pytest.mark.parametrize(("timeout", "waited"), [("7", [7.0]), ("0", [])])
def test_a_stop_waits_for_the_workers_as_long_as_it_is_told(
    how: list[str], timeout: str, waited: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    control = begun()
    waits: list[float] = []

    def write_savepoint(state: ControlState) -> None:
        for operation in state.running:
            done = replace(operation, state=OperationState.DONE, result={"savepoint": "written"})
            control.put({operation_key(operation.id): done})

    @asynccontextmanager
    async def open_job(_: Any) -> AsyncIterator[Any]:
        yield control

    async def until_left(_: Any, seconds: float) -> None:
        waits.append(seconds)

    control.listeners.append(write_savepoint)
    monkeypatch.setattr(module, "open_job", open_job)
    monkeypatch.setattr(module, "until_left", until_left)
    assert 0 == cli.run(["job", "stop", *how, "--timeout", timeout, "--yes"])
    assert waited == waits

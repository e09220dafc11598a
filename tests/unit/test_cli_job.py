"""The options of the job's commands reach the work. The control topic is in memory, and the workers are a listener."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from portfolio_stream import cli
from portfolio_stream.commands import job as module
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import OperationState, operation_key
from tests.unit.control_stage import begun


def open_in_memory(control: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    @asynccontextmanager
    async def open_job(_: Any) -> AsyncIterator[Any]:
        yield control

    monkeypatch.setattr(module, "open_job", open_job)


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

    async def until_left(_: Any, seconds: float) -> None:
        waits.append(seconds)

    control.listeners.append(write_savepoint)
    open_in_memory(control, monkeypatch)
    monkeypatch.setattr(module, "until_left", until_left)
    assert 0 == cli.run(["job", "stop", *how, "--timeout", timeout, "--yes"])
    assert waited == waits


STANDBYS = "PORTFOLIO_STANDBYS"


@pytest.mark.parametrize(
    ("arguments", "parallelism", "settings"),
    [
        (["4"], 4, {}),
        (["--set", f"{STANDBYS}=1"], None, {STANDBYS: "1"}),
        (["2", "--set", f"{STANDBYS}=1", "--set", f"{STANDBYS}="], 2, {}),
        (["4", "--dry-run"], None, {}),
    ],
)
def test_a_job_is_scaled(
    arguments: list[str],
    parallelism: int | None,
    settings: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: Any,
) -> None:
    """The result is the size that the job has then, or with --dry-run would have."""
    control = begun()
    open_in_memory(control, monkeypatch)
    assert 0 == cli.run(["job", "scale", *arguments, "--yes", "-o", "json"])
    is_dry = "--dry-run" in arguments
    shown = {"parallelism": 4 if is_dry else parallelism, "settings": settings}
    assert shown == msgspec.json.decode(capsys.readouterr().out)["result"]
    assert (parallelism, settings) == (control.job.parallelism, control.job.settings)


@pytest.mark.parametrize("arguments", [[], ["0"], ["65"], ["two"], ["--set", STANDBYS], ["--set", "PATH=/tmp"]])
def test_a_size_that_makes_no_sense_is_an_argument_error(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    control = begun()
    open_in_memory(control, monkeypatch)
    assert (2, []) == (cli.run(["job", "scale", *arguments, "--yes"]), control.written)

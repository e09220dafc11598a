"""A savepoint that fails, as Flink's own command reads it: the job is in memory, so no Kafka is needed."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from msgspec.structs import replace

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import OperationState, operation_key
from portfolio_stream.flink.changes import ChangeRoutes
from portfolio_stream.flink.ids import job_id
from portfolio_stream.jobs.background import BackgroundSwitches
from portfolio_stream.settings import Settings
from tests.integration.flink_client import FlinkClient
from tests.unit.control_stage import begun
from tests.unit.switch_stage import FakeSwitcher

REASON = "partition 1 is halted: a record that nobody can read – see `portfolio-stream partitions list`"


@pytest.mark.slow
async def test_flinks_own_command_shows_why_a_savepoint_failed(tmp_path: Path) -> None:
    """The reason travels in Java's serial form, which no test but Java itself can read."""
    control = begun()

    def fail(state: ControlState) -> None:
        for operation in state.running:
            ended = replace(operation, state=OperationState.FAILED, reason=REASON)
            control.put({operation_key(operation.id): ended})

    control.listeners.append(fail)
    switches = BackgroundSwitches(control, FakeSwitcher(control).open, "carrier")  # type: ignore[arg-type]
    routes = ChangeRoutes(control, switches, Settings(group="g"), 2).routes()
    app = web.Application()
    app.add_routes([web.route(one.method, f"/v1{one.path}", one.handler) for one in routes])
    async with TestServer(app) as server:
        client = FlinkClient(tmp_path / "flink", f"127.0.0.1:{server.port}")
        code, said = await asyncio.wait_for(client.run("savepoint", job_id("g", 1)), 120)
    assert 1 == code
    assert REASON in said

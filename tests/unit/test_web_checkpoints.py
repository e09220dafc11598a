"""GET /checkpoints and GET /checkpoints/ID, and the metrics of checkpoints, as a worker answers them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.checkpoints.history import History
from portfolio_stream.web.server import WebServer
from tests.unit.test_checkpoints import FIRST, INTERVAL, PARTITIONS, part, record
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, serving

NOW = FIRST * INTERVAL + 2 * INTERVAL + 1.0
COMPLETED, FAILED, IN_PROGRESS = FIRST, FIRST + 1, FIRST + 2


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebServer]:
    """A worker whose history has a completed checkpoint, a failed one, and one in progress."""
    engine = FakeEngine(tmp_path, "w9", FakeCoordinator())
    engine.checkpoints = history = History(lambda: NOW)
    history._began, history.is_ready = 0.0, True
    done = {"records": 5, "changelog_bytes": 700, "state_rows": 11, "state_bytes": 2_000}
    told = (
        part(COMPLETED, 0, offset=9, seconds=0.25, **done),
        part(COMPLETED, 1, offset=3, worker="w2"),
        part(FAILED, 0),
        part(FAILED, 1, status="FAILED", reason="halted", worker="w2", offset=4, seconds=60.1),
        part(IN_PROGRESS, 1, status="IN_PROGRESS", reason="recovering", worker="w2", seconds=None),
    )
    history.apply([record(one) for one in told])
    async with serving(engine) as made:
        yield made


async def test_the_overview(server: WebServer) -> None:
    """Counts and summary of all that are kept, the latest of each kind, the history with the newest first."""
    answer = await get(server, "/checkpoints")
    assert 200 == answer.status
    told = answer.json
    assert {"completed": 1, "failed": 1, "in_progress": 1, "since": "1970-01-01T00:16:50.000Z"} == told["counts"]
    assert [IN_PROGRESS, FAILED, COMPLETED] == [one["id"] for one in told["history"]]
    assert (10.0, 60.0, "w9") == (told["interval_seconds"], told["timeout_seconds"], told["worker"])
    assert {
        "id": COMPLETED, "status": "COMPLETED", "triggered_at": "1970-01-01T00:16:50.000Z", "duration_seconds": 0.25,
        "partitions": PARTITIONS, "completed_partitions": 2, "records": 5, "changelog_bytes": 700, "state_rows": 11,
        "state_bytes": 2_000, "failures": [],
    } == told["latest"]["completed"]  # fmt: skip
    assert [{"partition": 1, "worker": "w2", "reason": "halted"}] == told["latest"]["failed"]["failures"]
    assert told["latest"]["failed"]["duration_seconds"] is None
    whole = {"min": 0.25, "max": 0.25, "avg": 0.25, "p50": 0.25, "p90": 0.25, "p99": 0.25}
    assert whole == told["summary"]["duration_seconds"]
    assert 700 == told["summary"]["changelog_bytes"]["max"]
    limited = (await get(server, "/checkpoints?limit=1")).json
    assert ([IN_PROGRESS], told["counts"]) == ([one["id"] for one in limited["history"]], limited["counts"])


async def test_one_checkpoint_by_partition(server: WebServer) -> None:
    """Also a partition of which no worker has told anything."""
    told = (await get(server, f"/checkpoints/{FAILED}")).json
    assert ("FAILED", "w9", 1) == (told["status"], told["worker"], told["completed_partitions"])
    assert [("COMPLETED", "w1", None), ("FAILED", "w2", "halted")] == [
        (one["status"], one["worker"], one["reason"]) for one in told["parts"]
    ]
    told = (await get(server, f"/checkpoints/{IN_PROGRESS}")).json
    assert [(0, "IN_PROGRESS", None, None), (1, "IN_PROGRESS", "w2", "recovering")] == [
        (one["partition"], one["status"], one["worker"], one["reason"]) for one in told["parts"]
    ]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/checkpoints/7", 404),
        ("/checkpoints/x", 400),
        ("/checkpoints/-1", 400),
        (f"/checkpoints/{'9' * 400}", 400),
        (f"/checkpoints/{FIRST}?limit=1", 400),
        ("/checkpoints?limit=0", 400),
        ("/checkpoints?limit=101", 400),
        ("/checkpoints?limit=%D9%A3", 400),
        ("/checkpoints?after=1", 400),
    ],
)
async def test_a_wrong_request_is_a_problem(server: WebServer, path: str, status: int) -> None:
    answer = await get(server, path)
    assert (status, "application/problem+json") == (answer.status, answer.headers["content-type"].partition(";")[0])
    assert status == answer.json["status"]


@pytest.mark.parametrize("path", ["/checkpoints", f"/checkpoints/{FIRST}"])
async def test_a_history_that_is_not_read_answers_503(tmp_path: Path, path: str) -> None:
    """Half a history would look like failures."""
    engine = FakeEngine(tmp_path, "w9", FakeCoordinator())
    engine.checkpoints.is_ready = False
    async with serving(engine) as made:
        answer = await get(made, path)
        families = await metrics(made)
    assert (503, "1") == (answer.status, answer.headers["retry-after"])
    assert not [name for name in families if "checkpoint" in name and families[name]]


async def metrics(server: WebServer) -> dict[str, dict[tuple[str, ...], float]]:
    text = (await get(server, "/metrics")).body.decode()
    return {
        family.name: {tuple(sample.labels.values()): sample.value for sample in family.samples}
        for family in text_string_to_metric_families(text)
    }


async def test_metrics_of_checkpoints(server: WebServer) -> None:
    """Every worker has the figures of the whole job."""
    found = await metrics(server)
    shown: dict[str, Any] = {name: found[f"portfolio_stream_{name}"] for name in (
        "checkpoints", "checkpoints_in_progress", "checkpoint_duration_seconds", "checkpoint_changelog_bytes",
        "checkpoint_state_bytes", "checkpoint_completed_age_seconds",
    )}  # fmt: skip
    assert {
        "checkpoints": {("completed",): 1.0, ("failed",): 1.0},
        "checkpoints_in_progress": {(): 1.0},
        "checkpoint_duration_seconds": {(): 0.25},
        "checkpoint_changelog_bytes": {(): 700.0},
        "checkpoint_state_bytes": {(): 2_000.0},
        "checkpoint_completed_age_seconds": {(): 21.0},
    } == shown

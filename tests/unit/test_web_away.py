"""A worker that takes no part in the job, because the job is stopped: it stays up, and says why it serves nothing."""

from pathlib import Path

import pytest

from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, request, serving

AWAY = "the job is stopped by operation 20261129T203512Z-4f2a9c; `portfolio-stream job start` lets it run"


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    """Its engine has left the group."""
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.partition_count = 2
    made.away = AWAY
    return made


async def test_a_stopped_worker_is_live_and_not_ready(engine: FakeEngine) -> None:
    """An orchestrator must not kill it, and a load balancer must not use it."""
    async with serving(engine) as server:
        live, ready = await get(server, "/health/live"), await get(server, "/health/ready")
    assert (200, 503) == (live.status, ready.status)
    assert AWAY in ready.json["reasons"]
    assert {} == ready.json["partitions"]


@pytest.mark.parametrize("path", ["/tables/positions", "/tables/positions/p/s", "/portfolios/p"])
async def test_tables_of_a_stopped_job_are_not_served(engine: FakeEngine, path: str) -> None:
    """Every table's route says why, and when to ask again."""
    async with serving(engine) as server:
        answer = await get(server, path)
    assert (503, True) == (answer.status, "retry-after" in answer.headers)
    assert AWAY in answer.body.decode()


async def test_an_operation_of_a_partition_says_why_it_is_not_done(engine: FakeEngine) -> None:
    async with serving(engine, web_token="secret") as server:
        answer = await request(server, "POST", "/partitions/0/retry", Authorization="Bearer secret")
    assert 503 == answer.status
    assert AWAY in answer.body.decode()


async def test_metrics_of_a_stopped_worker(engine: FakeEngine) -> None:
    """A scrape works: no membership, no partition, no lag. What was counted stays."""
    engine.statistics.events = 7
    async with serving(engine) as server:
        answer = await get(server, "/metrics")
    lines = answer.body.decode().splitlines()
    assert 200 == answer.status
    for line in ("portfolio_stream_up 1.0", "portfolio_stream_member 0.0", "portfolio_stream_partitions_owned 0.0",
                 "portfolio_stream_partitions_running 0.0", "portfolio_stream_events_total 7.0"):  # fmt: skip
        assert line in lines
    assert not [line for line in lines if line.startswith("portfolio_stream_lag_records{")]


async def test_the_page_and_the_group_of_a_stopped_worker_answer(engine: FakeEngine) -> None:
    """An operator looks at a stopped job, too."""
    async with serving(engine) as server:
        statuses = [(await get(server, path)).status for path in ("/", "/partitions", "/checkpoints", "/events")]
    assert all(status in (200, 503) for status in statuses)

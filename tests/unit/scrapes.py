"""Scrapes that show every metric that there can be."""

from pathlib import Path

from portfolio_stream.audit.board import Board
from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState, operation_key
from portfolio_stream.exactly_once.replay_progress import Remaining, Replays
from portfolio_stream.observe.disks import PLACES
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.server import WebServer
from tests.unit.test_audit_follow import told, violated
from tests.unit.test_checkpoints import PARTITIONS, part, record
from tests.unit.test_web_job import FakeControl
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, serving


async def worker_scrape(folder: Path) -> str:
    """The text of a worker's /metrics."""
    engine = FakeEngine(folder, "w1", FakeCoordinator())
    engine.join(0)
    engine.lags = {0: 5}
    engine.statistics.start.end("store")
    engine.replays = Replays({1: Remaining(1, 2)}, 3.0, 1.0)
    engine.behind = {1: 7}
    engine.repeated = {0: 9}
    engine.statistics.last_timestamps[0] = 1.0
    engine.topic_settings.findings["t", "retention.ms"] = "too short"
    engine.statistics.work.wrote("t", 1, 10)
    engine.statistics.drops["Doubt"] += 1
    engine.statistics.kafka.retries["TxnOffsetCommit", "concurrent_transactions"] += 1
    engine.statistics.counts.update({"accepted": 3, "rejected:invalid_field": 1})
    engine.prices.lag = 0
    engine.checkpoints = history = History(lambda: 1_020.0)
    history.is_ready = True
    history.apply([record(part(partition=number, state_bytes=1)) for number in range(PARTITIONS)])
    control = FakeControl()
    saved = JobOperation(
        id="1", kind=OperationKind.SAVEPOINT, state=OperationState.DONE, arguments={"savepoint": "s"},
        asked_at=1.0, ended_at=2.0, result={"savepoint": "s", "bytes": 3},
    )  # fmt: skip
    control.write({operation_key("1"): saved})
    job = JobRoutes(control, None, None, "w1")  # type: ignore[arg-type]
    async with serving(engine, job=job, data_dir=folder, savepoint_dir=str(folder)) as server:
        text = ""
        while not all(f'disk_available_bytes{{place="{place}"}}' in text for place in PLACES):
            text = await scraped(server)  # a thread looks at each disk
    return text


async def scraped(server: WebServer) -> str:
    return (await get(server, "/metrics")).body.decode()


async def auditor_scrape() -> str:
    """The text of an auditor's /metrics."""
    board: Board = violated()
    board.passed(1.0)
    return (await told(board, "/metrics"))[1]

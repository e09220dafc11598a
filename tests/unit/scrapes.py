"""Scrapes that show every metric that there can be."""

import time
from pathlib import Path

import aiohttp

from portfolio_stream.audit.board import Board
from portfolio_stream.checkpoints.history import History
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState, operation_key
from portfolio_stream.exactly_once.replay_progress import Remaining, Replays
from portfolio_stream.kafka.group import Offsets
from portfolio_stream.observe.disks import PLACES
from portfolio_stream.settings import Settings
from portfolio_stream.watch.figures import KafkaFigures
from portfolio_stream.watcher import server as watcher_server
from portfolio_stream.watcher.folder import WatchFolder
from portfolio_stream.watcher.group_look import GroupLook
from portfolio_stream.watcher.kafka_look import DiskPlace, DiskRoom, KafkaLook
from portfolio_stream.watcher.system import JobLook
from portfolio_stream.watcher.watching import Watcher
from portfolio_stream.web.job import JobRoutes
from portfolio_stream.web.server import WebServer
from portfolio_stream.web.verdict import Audit
from tests.ports import free_port
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


def full_watcher(settings: Settings) -> Watcher:
    """A watcher that has seen everything that there can be: one broker of three is away."""
    watcher = Watcher(settings, WatchFolder(settings))
    kafka = KafkaFigures(
        brokers=3, live=2, has_controller=True, offline_partitions=0, under_replicated_partitions=1,
        under_min_isr_partitions=0,
    )  # fmt: skip
    watcher.kafka = KafkaLook(kafka, {DiskPlace(1, "/kafka"): DiskRoom(100, 25)})
    watcher.group = GroupLook((), {0: Offsets(0, 5, 10, 10)})
    watcher.job = JobLook(state="running", generation=1, partitions=1)
    watcher.probe.trips.read(watcher.probe.trips.begin(0.0), 0.01)
    at = time.time()
    for second in (0, 1):
        watcher.take({}, Audit(verdict="holds"), float(second), at - 1 + second)
    return watcher


async def watcher_scrape(folder: Path) -> str:
    """The text of a watcher's /metrics."""
    settings = Settings(data_dir=folder, group="g")
    port = free_port()
    async with (
        watcher_server.serving(settings, port, full_watcher(settings)) as address,
        aiohttp.ClientSession() as session,
        session.get(f"{address}/metrics") as reply,
    ):
        return await reply.text()

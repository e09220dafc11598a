"""A job with two workers, four partitions, checkpoints and a savepoint, as the server of Flink's interface sees it."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from portfolio_stream.checkpoints.history import Checkpoint, History
from portfolio_stream.checkpoints.parts import CheckpointPart
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import Generation, Job, JobOperation, OperationKind, OperationState
from portfolio_stream.flink.answer_routes import AnswerRoutes
from portfolio_stream.flink.answers_exceptions import Incident
from portfolio_stream.flink.error_shape import in_flinks_shape
from portfolio_stream.flink.figures import ClusterFigures, KnownWorker, SeenWorker
from portfolio_stream.flink.profiles import Profiles
from portfolio_stream.http.answers import Peer, PeerAnswer
from portfolio_stream.http.problem import problems
from portfolio_stream.kafka.members import Owner
from portfolio_stream.observe.process import machine_figures, process_figures
from portfolio_stream.observe.stacks import StackCount, StackSamples, threads
from portfolio_stream.observe.steps import StepFigures, StepGrowth
from portfolio_stream.settings import Settings
from portfolio_stream.web.figures import STACKS_PATH, Latency, ThreadDump, WorkerFigures
from portfolio_stream.web.group import Held, Silence
from portfolio_stream.web.status import PartitionStatus, WorkerStatus
from tests.unit.test_checkpoints import record

NOW = 1_795_409_400.0
BEGAN = NOW - 1_000
PARTITIONS = 4
STEPS = StepFigures(
    records_in=1_000, bytes_in=200_000, records_out=4_000, bytes_out=900_000,
    decode_seconds=1.0, fold_seconds=20.0, commit_seconds=30.0, wait_seconds=5.0,
)  # fmt: skip
GROWTH = StepGrowth(
    seconds=5.0,
    figures=StepFigures(
        records_in=500, bytes_in=100_000, records_out=2_000, bytes_out=450_000,
        decode_seconds=0.1, fold_seconds=2.0, commit_seconds=3.0, wait_seconds=1.0,
    ),
)  # fmt: skip


def worker_figures(name: str, partitions: Mapping[int, str]) -> WorkerFigures:
    status = WorkerStatus(
        worker=name, address="127.0.0.1:1", process=f"process of {name}", version="1", uptime_seconds=100.0, reasons=(),
        partitions={number: PartitionStatus(state=state) for number, state in partitions.items()},
        events=1_000, commits=50, rejected=3, drops=0, latency_bounds=(0.1,), latency_counts=(1_000, 0),
        transactions_per_second=10.0,
    )  # fmt: skip
    return WorkerFigures(
        status=status, steps=STEPS, growth=GROWTH, latency=Latency(p50=0.02, p95=0.04, p99=0.05),
        lag=dict.fromkeys(partitions, 7), lag_seconds=dict.fromkeys(partitions, 0.25),
        start={"process": 0.5, "join": 1.0, "recovery": 0.25},
        process=msgspec.structs.replace(process_figures(), started_at=int((NOW - 100) * 1000)),
        machine=machine_figures(), state_memory=304 << 20, events=1,
    )  # fmt: skip


def seen(
    number: int, partitions: Mapping[int, str], answer: Silence | None = None, *, is_member: bool = True, **known: Any
) -> SeenWorker:
    name, address = f"w{number}", f"127.0.0.1:606{number}"
    return SeenWorker(
        owner=Owner(name, address, f"member {number}"),
        known=KnownWorker(name, address, is_alive=True, **known),
        is_member=is_member,
        assigned=tuple(partitions),
        answer=worker_figures(name, partitions) if answer is None else answer,
        answered_at=NOW,
    )


def generation(number: int, **given: Any) -> Generation:
    return Generation(
        number=number, changelog_topic="c", source_topic_id=None, partitions=PARTITIONS, first_offsets={}, fold="f",
        origin="first start", created_at=BEGAN + 100 * number, **given,
    )  # fmt: skip


def checkpoints(count: int = 5) -> Sequence[Checkpoint]:
    """The newest one is in progress, and the one before it has failed."""
    history = History(lambda: NOW)
    for number in range(count):
        for partition in range(PARTITIONS):
            status: Any = "COMPLETED"
            if number >= count - 2 and partition == 3:
                status = "FAILED" if number == count - 2 else "IN_PROGRESS"
            part = CheckpointPart(
                checkpoint=100 + number, triggered=int((NOW - 10 * (count - number)) * 1000), partitions=PARTITIONS,
                timeout_seconds=60.0, partition=partition, worker=f"w{1 + partition // 2}", status=status,
                offset=10, seconds=0.02 * (partition + 1) if status == "COMPLETED" else None, records=5,
                changelog_bytes=1_000, state_bytes=50_000, reason="late" if status == "FAILED" else None,
            )  # fmt: skip
            history.apply([record(part)])
    return history.checkpoints()


def savepoint(state: OperationState = OperationState.DONE) -> JobOperation:
    return JobOperation(
        id="op-1", kind=OperationKind.SAVEPOINT, state=state, arguments={"savepoint": "sp-1"}, asked_at=NOW - 40,
        ended_at=NOW - 38, result={"savepoint": "sp-1", "bytes": 77, "rows": 5},
    )  # fmt: skip


def figures(state: JobState = JobState.RUNNING, **given: Any) -> ClusterFigures:
    workers = [seen(1, {0: "running", 1: "running"}), seen(2, {2: "running", 3: "running"})]
    values: dict[str, Any] = {
        "job": Job(state=state, revision=3, generation=2, since=NOW - 500),
        "generations": [generation(1), generation(2, savepoint="sp-0")],
        "operations": [savepoint()],
        "workers": workers,
        "held": {number: Held(f"w{1 + number // 2}", "running", "") for number in range(PARTITIONS)},
        "checkpoints": checkpoints(),
        "since": NOW - 300,
    }
    return ClusterFigures(at=NOW, group="portfolio-stream", **(values | given))


INCIDENT = Incident(
    time=int(NOW * 1000), worker="w1", address="127.0.0.1:6061", task_manager=seen(1, {}).id,
    action="partition stopped", text="partition stopped partition=3 offset=7 reason=x", partition=3,
)  # fmt: skip


TURN = "asyncio.events.Handle._run:80"
COMMITS = "portfolio_stream.exactly_once.commits.Commits.close:9"
STACKS = tuple(
    StackCount(thread="MainThread", frames=("__main__.main:1", TURN, *frames), is_on_cpu=is_on_cpu, samples=samples)
    for frames, is_on_cpu, samples in (
        ((COMMITS, "portfolio_stream.exactly_once.writer.Writer.send:2", "json.dumps:4"), True, 7),
        ((COMMITS, "threading.Condition.wait:3"), False, 2),
        (("agents.portfolio_events.fold_slice:5",), True, 11),
        (("aiokafka.consumer.fetcher.Fetcher._proc:6",), True, 3),
        (("aiohttp.web_protocol.RequestHandler.start:6",), True, 100),
    )
)


class FakePeers:
    """Workers that answer with STACKS, and with the threads of this process."""

    async def ask(self, worker: Owner, target: str, *, seconds: float) -> PeerAnswer | Peer:
        if target == STACKS_PATH:
            found = StackSamples(ended_at=int(NOW * 1000), seconds=1.0, looks=9, stacks=STACKS)
            return PeerAnswer(200, "application/json", msgspec.json.encode(found))
        dump = ThreadDump(worker=worker.instance_id, threads=tuple(await asyncio.to_thread(threads)))
        return PeerAnswer(200, "application/json", msgspec.json.encode(dump))


@dataclass
class Cluster:
    """What the routes are answered from. A test may change it."""

    figures: ClusterFigures = field(default_factory=figures)
    incidents: Sequence[Incident] = (INCIDENT, INCIDENT._replace(time=int(NOW * 1000) - 5_000, action="fold failed"))
    logs: Sequence[Path] = ()
    client: Any = None

    async def get(self, path: str) -> Any:
        """The status and the answer, JSON decoded."""
        answer = await self.client.get(path)
        body = await answer.read()
        return answer.status, msgspec.json.decode(body) if answer.content_type == "application/json" else body.decode()


@asynccontextmanager
async def serving(cluster: Cluster, **settings: Any) -> AsyncIterator[Cluster]:
    async def look() -> ClusterFigures:
        return cluster.figures

    async def incidents() -> Sequence[Incident]:
        return cluster.incidents

    profiles = Profiles(FakePeers())  # type: ignore[arg-type]  # the two methods that are asked
    routes = AnswerRoutes(Settings(**settings), look, incidents, profiles, lambda: cluster.logs)
    app = web.Application(middlewares=[in_flinks_shape, problems])
    app.add_routes(routes.routes())
    async with TestClient(TestServer(app)) as client:
        cluster.client = client
        yield cluster
        await profiles.stop()

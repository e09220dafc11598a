"""GET /worker/figures, /worker/threads and /worker/stacks: a worker's figures for Flink's interface.

Reading the figures costs as little as GET /worker. A worker samples its stacks only while somebody asks, in one thread
at a time.
"""

import asyncio
from http import HTTPStatus

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import Problem, json_response
from portfolio_stream.observe import stacks
from portfolio_stream.observe.disks import Disks
from portfolio_stream.observe.process import MachineFigures, ProcessFigures, machine_figures, process_figures
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.observe.stacks import ThreadStack
from portfolio_stream.observe.steps import StepFigures, StepGrowth
from portfolio_stream.settings import Settings
from portfolio_stream.web.health import lag_of
from portfolio_stream.web.status import Status, WorkerStatus

PATH = "/worker/figures"
THREADS_PATH = "/worker/threads"
STACKS_PATH = "/worker/stacks"
STACKS_SECONDS = 1.0
BUSY = "This worker samples its stacks already: ask again in some seconds."


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from a record's timestamp to its commit, of the last five seconds; None without a record."""

    p50: float | None
    p95: float | None
    p99: float | None


class WorkerFigures(msgspec.Struct, frozen=True, kw_only=True):
    status: WorkerStatus
    #: since the start of the process
    steps: StepFigures
    #: of the last seconds; None until there are two looks
    growth: StepGrowth | None
    latency: Latency
    #: records and seconds behind, by partition
    lag: dict[WirePartition, WireCount]
    lag_seconds: dict[WirePartition, float]
    #: seconds of the steps of this worker's start that have ended
    start: dict[str, float]
    process: ProcessFigures
    machine: MachineFigures
    #: bytes that PORTFOLIO_STATE_MEMORY gives the state
    state_memory: WireCount
    #: the number of the newest event
    events: WireCount
    #: used shares of the file systems that hold the worker's folders, by place
    disks: dict[str, float] = {}


class ThreadDump(msgspec.Struct, frozen=True, kw_only=True):
    worker: str
    threads: tuple[ThreadStack, ...]


class FigureRoutes:
    def __init__(self, engine: Engine, settings: Settings, status: Status, pulse: Pulse, disks: Disks) -> None:
        self._engine = engine
        self._disks = disks
        self._settings = settings
        self._status = status
        self._pulse = pulse
        self._is_sampling = False

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get(PATH, self.show),
            web.get(THREADS_PATH, self.threads),
            web.get(STACKS_PATH, self.stacks),
        ]

    async def show(self, request: web.Request) -> web.Response:
        meter = self._pulse.meter
        body = WorkerFigures(
            status=self._status.now(),
            steps=self._engine.statistics.steps,
            growth=self._pulse.growth(),
            latency=Latency(p50=meter.latency(0.5), p95=meter.latency(0.95), p99=meter.latency(0.99)),
            lag=lag_of(self._engine),
            lag_seconds=dict(self._pulse.lag_seconds()),
            start={step: seconds for step, seconds in self._engine.statistics.start.seconds.items()},
            process=process_figures(),
            machine=machine_figures(),
            state_memory=self._settings.state_memory << 20,
            events=self._engine.events.sequence,
            disks={
                place: 1 - seen.available_bytes / seen.total_bytes
                for place, seen in self._disks.figures().items()
                if seen.total_bytes > 0
            },
        )
        return json_response(body)

    async def threads(self, request: web.Request) -> web.Response:
        found = await asyncio.to_thread(stacks.threads)
        return json_response(ThreadDump(worker=self._engine.identity.instance_id, threads=tuple(found)))

    async def stacks(self, request: web.Request) -> web.Response:
        """Sample for STACKS_SECONDS. Another request meanwhile is refused: two samplers would sample each other."""
        if self._is_sampling:
            return Problem(HTTPStatus.CONFLICT, BUSY).response()
        self._is_sampling = True
        try:
            return json_response(await asyncio.to_thread(stacks.sample, STACKS_SECONDS))
        finally:
            self._is_sampling = False

"""GET /worker: what one worker says of itself. Whoever shows the group asks every member for it, one hop."""

import time
from uuid import uuid4

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import json_response
from portfolio_stream.web.health import Group, readiness
from portfolio_stream.web.metrics import VERSION

PATH = "/worker"


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Of a partition that is given to the worker."""

    #: running, recovering or halted
    state: str
    #: of a halted one: the record that an operator must look at, and why
    offset: WireCount | None = None
    reason: str | None = None


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counts are since the start of this process, and only grow."""

    worker: str
    #: host:port that peers use
    address: str
    #: another one after each start: then the counts begin anew
    process: str
    version: str
    uptime_seconds: float
    #: why it is not ready; empty when it is
    reasons: tuple[str, ...]
    partitions: dict[WirePartition, PartitionStatus]
    events: WireCount
    commits: WireCount
    rejected: WireCount
    #: times everything uncommitted was dropped
    drops: WireCount
    #: events by the seconds from their record's timestamp to their commit: upper bounds, counts, one more above all
    latency_bounds: tuple[float, ...]
    latency_counts: tuple[WireCount, ...]


class Status:
    def __init__(self, engine: Engine, address: str, group: Group) -> None:
        self._engine = engine
        self._group = group
        self._address = address
        self._process = uuid4().hex
        self._started = time.monotonic()

    def now(self) -> WorkerStatus:
        statistics = self._engine.statistics
        ready = readiness(self._engine)
        return WorkerStatus(
            worker=self._engine.identity.instance_id,
            address=self._address,
            process=self._process,
            version=VERSION,
            uptime_seconds=round(time.monotonic() - self._started, 3),
            reasons=(*ready.reasons, *self._group.reasons()),
            partitions={partition: self._partition(partition, state) for partition, state in ready.partitions.items()},
            events=statistics.events,
            commits=statistics.commits,
            rejected=statistics.rejected,
            drops=statistics.drops.total(),
            latency_bounds=statistics.latencies.bounds,
            latency_counts=tuple(statistics.latencies.counts),
        )

    def _partition(self, partition: int, state: str) -> PartitionStatus:
        halted = self._engine.halted.get(partition)
        if halted is None:
            return PartitionStatus(state=state)
        return PartitionStatus(state=state, offset=halted.offset, reason=halted.reason)

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self.now())

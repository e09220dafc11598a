"""GET /worker: a worker's report about itself. A worker that shows the group asks every member for this report."""

import math
import time
from itertools import chain

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.problem import json_response
from portfolio_stream.observe.rates import Counted, Meter
from portfolio_stream.observe.ring import Told
from portfolio_stream.web.events import level_name
from portfolio_stream.web.health import GroupReasons, readiness
from portfolio_stream.web.metrics import VERSION

PATH = "/worker"
LATEST_EVENTS = 20  # GET /events has more


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a partition that the group has given to the worker."""

    #: running, recovering or halted
    state: str
    #: of a halted partition: the offset of the record that an operator must look at, and why the partition halted
    offset: WireCount | None = None
    reason: str | None = None


class LatestEvent(msgspec.Struct, frozen=True, kw_only=True):
    """The text form of an event, as the worker's log has it."""

    sequence: WireCount
    #: milliseconds since 1970, by the worker's clock
    time: WireCount
    #: info, warning or error
    level: str
    text: str


class WorkerStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Counts begin at the start of the process, and only grow."""

    worker: str
    #: host:port that peers use
    address: str
    #: the id of the process; a new process begins all counts at zero
    process: str
    version: str
    uptime_seconds: float
    #: why the worker is not ready; empty if the worker is ready
    reasons: tuple[str, ...]
    partitions: dict[WirePartition, PartitionStatus]
    events: WireCount
    commits: WireCount
    rejected: WireCount
    #: how often everything uncommitted was dropped
    drops: WireCount
    #: the upper bounds of a histogram of the seconds from a record's timestamp to its commit; and the events for each
    #: bound, with a last count for the events above all bounds
    latency_bounds: tuple[float, ...]
    latency_counts: tuple[WireCount, ...]
    #: source records, and transactions, committed in a second; of the last five seconds. None: not measured yet
    events_per_second: float | None = None
    transactions_per_second: float | None = None
    #: changelog records replayed in recoveries
    replayed: WireCount = 0
    #: oldest first
    latest_events: tuple[LatestEvent, ...] = ()

    @property
    def counted(self) -> Counted:
        """The counts as a value that can be added and subtracted."""
        bounds = chain(self.latency_bounds, (math.inf,))
        latencies = dict(zip(bounds, self.latency_counts, strict=False))
        return Counted(self.events, self.commits, self.rejected, self.drops, latencies)


class Status:
    def __init__(self, engine: Engine, meter: Meter, address: str, group: GroupReasons) -> None:
        self._engine = engine
        self._meter = meter
        self._group = group
        self._address = address
        self._started = time.monotonic()

    def now(self) -> WorkerStatus:
        engine, statistics = self._engine, self._engine.statistics
        ready = readiness(engine)
        return WorkerStatus(
            worker=engine.identity.instance_id,
            address=self._address,
            process=engine.events.process,
            version=VERSION,
            uptime_seconds=round(time.monotonic() - self._started, 3),
            reasons=(*ready.reasons, *self._group.reasons()),
            partitions={partition: self._partition(partition, state) for partition, state in ready.partitions.items()},
            events=statistics.events,
            commits=statistics.commits,
            rejected=statistics.rejected,
            drops=statistics.drops.total(),
            events_per_second=self._meter.rate(lambda came: came.events),
            transactions_per_second=self._meter.rate(lambda came: came.commits),
            replayed=statistics.replayed,
            latency_bounds=statistics.latencies.bounds,
            latency_counts=tuple(statistics.latencies.counts),
            latest_events=tuple(map(_latest, engine.events.latest(LATEST_EVENTS))),
        )

    def _partition(self, partition: int, state: str) -> PartitionStatus:
        halted = self._engine.halted.get(partition)
        if halted is None:
            return PartitionStatus(state=state)
        return PartitionStatus(state=state, offset=halted.offset, reason=halted.reason)

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self.now())


def _latest(told: Told) -> LatestEvent:
    event = told.event
    return LatestEvent(
        sequence=told.sequence, time=int(told.time * 1000), level=level_name(event.level), text=event.text()
    )

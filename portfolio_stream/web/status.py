"""GET /worker: a worker's report about itself.

The worker that serves the page asks every member of the group for this report (`group_watch`).
"""

import math
import time
from itertools import chain

import msgspec
from aiohttp import web

from portfolio_stream.decoding import WireCount, WirePartition
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.replay_progress import Remaining
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
    #: the offset of the record that halts the partition; None if the partition is not halted
    offset: WireCount | None = None
    #: why the partition is halted, or how far its replay or its repeat is
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
    #: a histogram of the seconds from a record's timestamp to its commit: the upper bounds of the latencies
    latency_bounds: tuple[float, ...]
    #: the number of events for each bound, and at the end the number of events above all bounds
    latency_counts: tuple[WireCount, ...]
    #: committed source records in a second, measured over the last five seconds; None until there is a measurement
    events_per_second: float | None = None
    #: the same of committed transactions
    transactions_per_second: float | None = None
    #: changelog records replayed in recoveries
    replayed: WireCount = 0
    #: partitions that the worker follows without owning them, and the changelog records that each is behind
    standbys: dict[WirePartition, WireCount] = {}
    #: oldest first
    latest_events: tuple[LatestEvent, ...] = ()

    @property
    def counted(self) -> Counted:
        """The counts as a value that can be added and subtracted."""
        bounds = chain(self.latency_bounds, (math.inf,))
        latencies = dict(zip(bounds, self.latency_counts, strict=False))
        return Counted(self.events, self.commits, self.rejected, self.drops, latencies)


class Status:
    """Makes the report, and answers GET /worker with it."""

    def __init__(self, engine: Engine, meter: Meter, address: str, group: GroupReasons) -> None:
        self._engine = engine
        self._meter = meter
        self._group = group
        self._address = address
        self._started = time.monotonic()

    def now(self) -> WorkerStatus:
        engine, statistics = self._engine, self._engine.statistics
        ready, replays, repeats = readiness(engine), engine.replays.by_partition, engine.outputs_to_repeat()
        return WorkerStatus(
            worker=engine.identity.instance_id,
            address=self._address,
            process=engine.events.process,
            version=VERSION,
            uptime_seconds=round(time.monotonic() - self._started, 3),
            reasons=(*ready.reasons, *self._group.reasons()),
            partitions={
                partition: _partition(
                    state, engine.halted.get(partition), replays.get(partition), repeats.get(partition)
                )
                for partition, state in ready.partitions.items()
            },
            events=statistics.events,
            commits=statistics.commits,
            rejected=statistics.rejected,
            drops=statistics.drops.total(),
            events_per_second=self._meter.rate(lambda came: came.events),
            transactions_per_second=self._meter.rate(lambda came: came.commits),
            replayed=statistics.replayed,
            standbys=engine.standbys(),
            latency_bounds=statistics.latencies.bounds,
            latency_counts=tuple(statistics.latencies.counts),
            latest_events=tuple(map(_latest, engine.events.latest(LATEST_EVENTS))),
        )

    async def show(self, request: web.Request) -> web.Response:
        return json_response(self.now())


def _partition(state: str, halted: Halted | None, replay: Remaining | None, repeat: int | None) -> PartitionStatus:
    if replay is not None:
        reason = f"{replay.percent} % replayed, {replay.remaining:,} records left"
        return PartitionStatus(state=state, reason=reason)
    if halted is not None:
        return PartitionStatus(state=state, offset=halted.offset, reason=halted.reason)
    if repeat is not None:
        return PartitionStatus(state=state, reason=f"repeats outputs that stand already, at most {repeat:,} left")
    return PartitionStatus(state=state)


def _latest(told: Told) -> LatestEvent:
    event = told.event
    return LatestEvent(
        sequence=told.sequence, time=int(told.time * 1000), level=level_name(event.level), text=event.text()
    )

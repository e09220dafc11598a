"""GET /metrics: the figures of the engine, of the group's strangers and of the prices, as Prometheus families.

Nothing is counted here: a scrape reads figures that are collected all the time (docs/metrics.md says where). Before the
engine has joined the group, the figures are zero or absent.
"""

from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from portfolio_stream.checkpoints.history import History
from portfolio_stream.compiled import BUILD
from portfolio_stream.control.job_figures import JobFigures
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.http.exposition import exposed
from portfolio_stream.observe.disks import Disks
from portfolio_stream.observe.families import by_partition, counter, counters, gauge, gauges
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.web.health import is_alive, lag_of, membership_of, running
from portfolio_stream.web.job_metrics import CheckpointCollector, JobCollector
from portfolio_stream.web.roll_call import Roll
from portfolio_stream.web.work_metrics import work_families
from tables.prices import Prices

VERSION = version("portfolio-stream")


class Metrics:
    def __init__(
        self,
        engine: Engine,
        pulse: Pulse,
        prices: Prices,
        roll: Roll,
        checkpoints: History,
        disks: Disks,
        job: JobFigures | None,
    ) -> None:
        """`job`: None for a worker without a job."""
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Engine(engine, pulse))
        self._registry.register(_Group(roll))
        self._registry.register(_Prices(prices))
        self._registry.register(CheckpointCollector(checkpoints))
        self._registry.register(_Disks(disks))
        if job is not None:
            self._registry.register(JobCollector(job))
        ProcessCollector(registry=self._registry)

    async def scrape(self, request: web.Request) -> web.Response:
        return exposed(self._registry, request)


class _Engine(Collector):
    def __init__(self, engine: Engine, pulse: Pulse) -> None:
        self._engine = engine
        self._pulse = pulse

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        yield from self._worker()
        yield from work_families(self._engine.statistics)
        yield from self._partitions()
        yield from _queues(self._engine.queues())
        yield from _database(self._engine.store)

    def _worker(self) -> Iterator[Metric]:
        engine = self._engine
        name = (engine.identity.instance_id, VERSION)
        yield gauges("worker_info", "This worker.", ("worker", "version"), [(name, 1)])
        yield gauge("compiled", "1 if the fold's modules are compiled, 0 if they are interpreted.", BUILD.is_used)
        yield gauge("up", "1 unless the main loop stands still.", is_alive(engine))
        member = membership_of(engine)
        yield gauge("member", "1 while the membership is fresh.", member is not None and member.is_fresh)
        yield gauges(
            "topic_findings",
            "Topic settings that are weaker than the contract.",
            ("topic", "setting"),
            [(finding, 1) for finding in sorted(engine.topic_settings.findings)],
        )
        steps = [((step,), seconds) for step, seconds in engine.statistics.start.seconds.items()]
        yield gauges("start_seconds", "What the steps of this worker's start took.", ("step",), steps)
        yield counter("worker_events", "Events that the worker told in its log.", engine.events.sequence)

    def _partitions(self) -> Iterator[Metric]:
        engine = self._engine
        yield gauge("partitions_owned", "Partitions that this worker owns.", len(engine.owned))
        yield gauge("partitions_running", "Owned partitions whose tables are served.", len(running(engine)))
        yield gauge("partitions_halted", "Owned partitions that an operator must look at.", len(engine.halted))
        replays = engine.replays
        text = "Changelog records that a recovery has still to replay."
        remaining = {partition: one.remaining for partition, one in replays.by_partition.items()}
        yield gauges("recovery_remaining_records", text, ("partition",), by_partition(remaining))
        text = "Changelog records that the recoveries replay in a second."
        yield gauge("recovery_records_per_second", text, replays.records_per_second)
        if replays.by_partition and replays.seconds_left is not None:
            yield gauge("recovery_seconds_left", "Until the recoveries end at this rate.", replays.seconds_left)
        text = "Outputs that stand already and are still to be compared with what the fold gives once more, at most."
        yield gauges("repeat_remaining_outputs", text, ("partition",), by_partition(engine.outputs_to_repeat()))
        standbys = engine.standbys()
        yield gauge("standby_partitions", "Partitions that this worker follows without owning them.", len(standbys))
        text = "Changelog records that a followed partition is behind."
        yield gauges("standby_lag_records", text, ("partition",), by_partition(standbys))
        text = "Records from the committed position to the last stable offset."
        yield gauges("lag_records", text, ("partition",), by_partition(lag_of(engine)))
        text = "For how long the oldest uncommitted record has been in the log, at most."
        yield gauges("lag_seconds", text, ("partition",), by_partition(self._pulse.lag_seconds()))


def _queues(queues: Mapping[str, int]) -> Iterator[Metric]:
    text = "Source records between their fetch and the end of their commit."
    yield gauges("queue_records", text, ("queue",), [((queue,), records) for queue, records in queues.items()])


def _database(store: Store) -> Iterator[Metric]:
    figures = store.figures()
    if figures is None:
        return
    yield gauge("rocksdb_live_sst_bytes", "Of the files that hold the newest version.", figures.live_sst_bytes)
    yield gauge("rocksdb_memtable_bytes", "Of rows that are in no file yet.", figures.memtable_bytes)
    yield gauge("rocksdb_block_cache_bytes", "Of the blocks in the cache.", figures.block_cache_bytes)
    yield gauge("rocksdb_estimated_keys", "Old versions and deletions count until they are merged.", figures.keys)
    text = "That compactions have still to rewrite."
    yield gauge("rocksdb_pending_compaction_bytes", text, figures.pending_compaction_bytes)
    yield gauge("rocksdb_running_compactions", "Compactions that run.", figures.running_compactions)
    text = "1 while RocksDB takes no write until compactions have caught up."
    yield gauge("rocksdb_write_stopped", text, figures.is_write_stopped)


class _Disks(Collector):
    def __init__(self, disks: Disks) -> None:
        self._disks = disks

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        figures = self._disks.figures()
        total = [((place,), disk.total_bytes) for place, disk in figures.items()]
        yield gauges("disk_total_bytes", "Of the file system that holds a place.", ("place",), total)
        available = [((place,), disk.available_bytes) for place, disk in figures.items()]
        text = "That can still be written to the file system that holds a place."
        yield gauges("disk_available_bytes", text, ("place",), available)


class _Group(Collector):
    def __init__(self, roll: Roll) -> None:
        self._roll = roll

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        roll = self._roll
        yield gauge("foreign_members", "Members of the group that are no workers.", len(roll.foreigners))
        yield gauge("foreign_partitions", "Partitions that such members hold.", len(roll.foreign_partitions()))
        yield gauge("namesakes", "Other workers that have this worker's instance id.", roll.namesakes)


class _Prices(Collector):
    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        prices = self._prices
        yield gauge("prices", "Symbols that have a market price.", len(prices.by_symbol))
        yield gauge("prices_ready", "1 once the prices topic was read to its end.", prices.is_ready)
        if prices.lag is not None:
            yield gauge("prices_lag_records", "Committed price records that are not read yet.", prices.lag)
        outcomes = [
            ((outcome, "") if outcome in ("price", "deletion") else ("invalid", outcome), times)
            for outcome, times in sorted(({"price": 0, "deletion": 0} | prices.counts).items())
        ]
        yield counters("price_records", "Price records read.", ("outcome", "code"), outcomes)

"""/metrics: the statistics of engine and prices as Prometheus families, made when they are asked for.

Nothing is counted here, so nothing is counted twice; before the engine has joined the group, zeros are the truth.
"""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.statistics import Histogram
from portfolio_stream.http.exposition import exposed
from portfolio_stream.web.health import is_alive, membership_of
from portfolio_stream.web.roll import Roll
from tables.prices import Prices

PREFIX = "portfolio_stream_"
VERSION = version("portfolio-stream")
#: statistics.counts has the codes of rejections behind this
REJECTED = "rejected:"
#: and the reasons why an accepted event is not in the table activity behind this
ACTIVITY_SKIPPED = "activity_skipped:"


class Metrics:
    def __init__(self, engine: Engine, prices: Prices, roll: Roll) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Engine(engine))
        self._registry.register(_Group(roll))
        self._registry.register(_Prices(prices))
        ProcessCollector(registry=self._registry)

    async def scrape(self, request: web.Request) -> web.Response:
        return exposed(self._registry, request)


class _Engine(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        engine = self._engine
        yield from self._worker(engine)
        yield from self._counters(engine)
        yield from self._partitions(engine)
        statistics = engine.statistics
        yield _histogram(
            "event_latency_seconds", "From a record's timestamp to its commit, by events.", statistics.latencies
        )
        yield _histogram("commit_seconds", "From closing a transaction to its commit.", statistics.commit_seconds)
        yield _histogram("store_write_seconds", "Writing a committed transaction locally.", statistics.store_seconds)

    def _worker(self, engine: Engine) -> Iterator[Metric]:
        info = GaugeMetricFamily(f"{PREFIX}worker_info", "This worker.", labels=("worker", "version"))
        info.add_metric((engine.identity.instance_id, VERSION), 1)
        yield info
        yield _gauge("up", "1 unless the main loop stands still.", is_alive(engine))
        member = membership_of(engine)
        yield _gauge("member", "1 while the membership is fresh.", member is not None and member.is_fresh)
        findings = GaugeMetricFamily(
            f"{PREFIX}topic_findings", "Topic settings that are weaker than the contract.", labels=("topic", "setting")
        )
        for labels in sorted(engine.topic_settings.findings):
            findings.add_metric(labels, 1)
        yield findings

    def _counters(self, engine: Engine) -> Iterator[Metric]:
        statistics = engine.statistics
        yield _counter("events", "Source records whose transaction has committed.", statistics.events)
        yield _counter("commits", "Committed transactions.", statistics.commits)
        yield _counter("replayed_records", "Changelog records replayed in recoveries.", statistics.replayed)
        yield _counter("agent_failures", "Slices whose fold raised.", statistics.agent_failures)
        drops = CounterMetricFamily(
            f"{PREFIX}drops", "Times everything uncommitted was dropped and recovered.", labels=("reason",)
        )
        for reason, times in sorted(statistics.drops.items()):
            drops.add_metric((reason,), times)
        yield drops
        skipped = CounterMetricFamily(
            f"{PREFIX}activity_skipped",
            "Accepted events that are not in the table activity: late, or early.",
            labels=("reason",),
        )
        for reason in ("late", "early"):
            skipped.add_metric((reason,), statistics.counts[ACTIVITY_SKIPPED + reason])
        yield skipped
        records = CounterMetricFamily(
            f"{PREFIX}records", "What became of committed source records.", labels=("outcome", "code")
        )
        for outcome, times in sorted(({"accepted": 0, "duplicate": 0} | statistics.counts).items()):
            if outcome.startswith(ACTIVITY_SKIPPED):
                continue
            labels = ("rejected", outcome.removeprefix(REJECTED)) if outcome.startswith(REJECTED) else (outcome, "")
            records.add_metric(labels, times)
        yield records

    def _partitions(self, engine: Engine) -> Iterator[Metric]:
        yield _gauge("partitions_owned", "Partitions this worker owns.", len(engine.owned))
        yield _gauge("partitions_running", "Owned partitions that are processed.", len(engine.running))
        yield _gauge("partitions_halted", "Owned partitions that an operator must look at.", len(engine.halted))
        lag = GaugeMetricFamily(
            f"{PREFIX}lag_records",
            "Records from the committed position to the last stable offset.",
            labels=("partition",),
        )
        if membership_of(engine) is not None:
            for partition, behind in engine.lag().items():
                lag.add_metric((str(partition),), behind)
        yield lag


class _Group(Collector):
    def __init__(self, roll: Roll) -> None:
        self._roll = roll

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        roll = self._roll
        yield _gauge("foreign_members", "Members of the group that are no workers.", len(roll.foreigners))
        yield _gauge("foreign_partitions", "Partitions that such members hold.", len(roll.foreign_partitions()))
        yield _gauge("namesakes", "Other workers that have this worker's instance id.", roll.namesakes)


class _Prices(Collector):
    def __init__(self, prices: Prices) -> None:
        self._prices = prices

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        prices = self._prices
        yield _gauge("prices", "Symbols that have a market price.", len(prices.by_symbol))
        yield _gauge("prices_ready", "1 once the prices topic was read to its end.", prices.is_ready)
        if prices.lag is not None:
            yield _gauge("prices_lag_records", "Committed price records that are not read yet.", prices.lag)
        records = CounterMetricFamily(f"{PREFIX}price_records", "Price records read.", labels=("outcome", "code"))
        for outcome, times in sorted(({"price": 0, "deletion": 0} | prices.counts).items()):
            labels = (outcome, "") if outcome in ("price", "deletion") else ("invalid", outcome)
            records.add_metric(labels, times)
        yield records


def _family(kind: Callable[..., Metric], name: str, text: str, value: float) -> Metric:
    return kind(f"{PREFIX}{name}", text, value=value)


def _counter(name: str, text: str, value: float) -> Metric:
    return _family(CounterMetricFamily, name, text, value)


def _gauge(name: str, text: str, value: float) -> Metric:
    return _family(GaugeMetricFamily, name, text, value)


def _histogram(name: str, text: str, histogram: Histogram) -> Metric:
    """Prometheus' buckets are cumulative, and the last one has no bound."""
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(repr, histogram.bounds), "+Inf"), histogram.counts, strict=True):
        total += count
        buckets.append((bound, total))
    family = HistogramMetricFamily(f"{PREFIX}{name}", text)
    family.add_metric((), buckets, sum_value=histogram.sum)
    return family

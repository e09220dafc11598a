"""GET /metrics: the figures of the engine, of the group's strangers and of the prices, as Prometheus families.

Nothing is counted here: a scrape reads figures that are collected all the time (docs/metrics.md says where). Before the
engine has joined the group, the figures are zero or absent.
"""

from collections.abc import Iterable, Iterator
from importlib.metadata import version

from aiohttp import web
from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from portfolio_stream.checkpoints.history import History
from portfolio_stream.compiled import BUILD
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.http.exposition import exposed
from portfolio_stream.observe.families import (
    Labels,
    by_partition,
    counter,
    counters,
    gauge,
    gauges,
    histogram,
    histograms,
)
from portfolio_stream.observe.pulse import Pulse
from portfolio_stream.observe.statistics import ACTIVITY_SKIPPED, REJECTED, Statistics
from portfolio_stream.web.health import is_alive, lag_of, membership_of
from portfolio_stream.web.roll_call import Roll
from tables.prices import Prices

VERSION = version("portfolio-stream")


class Metrics:
    def __init__(self, engine: Engine, pulse: Pulse, prices: Prices, roll: Roll, checkpoints: History) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Engine(engine, pulse))
        self._registry.register(_Group(roll))
        self._registry.register(_Prices(prices))
        self._registry.register(_Checkpoints(checkpoints))
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
        yield from _counts(self._engine.statistics)
        yield from self._partitions()
        yield from _durations(self._engine.statistics)

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
        yield gauge("partitions_running", "Owned partitions whose tables are served.", len(engine.served))
        yield gauge("partitions_halted", "Owned partitions that an operator must look at.", len(engine.halted))
        replays = engine.replays
        text = "Changelog records that a recovery has still to replay."
        remaining = {partition: one.remaining for partition, one in replays.by_partition.items()}
        yield gauges("recovery_remaining_records", text, ("partition",), by_partition(remaining))
        text = "Changelog records that the recoveries replay in a second."
        yield gauge("recovery_records_per_second", text, replays.records_per_second)
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


def _counts(statistics: Statistics) -> Iterator[Metric]:
    yield counter("events", "Source records whose transaction has committed.", statistics.events)
    yield counter("commits", "Committed transactions.", statistics.commits)
    yield from _steps(statistics)
    yield counter("replayed_records", "Changelog records replayed in recoveries.", statistics.replayed)
    yield counter("agent_failures", "Failures of folds, of encodings, of refused records.", statistics.agent_failures)
    yield counters(
        "drops",
        "Times everything uncommitted was dropped and recovered.",
        ("reason",),
        [((reason,), times) for reason, times in sorted(statistics.drops.items())],
    )
    yield counters(
        "retries",
        "Requests of transactions that were sent again.",
        ("step", "error"),
        sorted(statistics.retries.items()),
    )
    yield counters(
        "activity_skipped",
        "Accepted events that are not in the table activity: late, or early.",
        ("reason",),
        [((reason,), statistics.counts[ACTIVITY_SKIPPED + reason]) for reason in ("late", "early")],
    )
    text = "Committed source records by their outcome."
    yield counters("records", text, ("outcome", "code"), _outcomes(statistics))


def _steps(statistics: Statistics) -> Iterator[Metric]:
    work, figures = statistics.work, statistics.steps
    yield counter("source_bytes", "Keys and values of committed source records.", work.source_bytes)
    written = sorted(work.written.items())
    records = [((topic,), of.records) for topic, of in written]
    yield counters("written_records", "Committed records of the transactions, by topic.", ("topic",), records)
    sizes = [((topic,), of.bytes) for topic, of in written]
    yield counters("written_bytes", "Their bytes, before Kafka compresses them.", ("topic",), sizes)
    busy = [((step,), seconds) for step, seconds in figures.busy_seconds.items()]
    yield counters("step_busy_seconds", "For how long each step worked.", ("step",), busy)
    waited = [((step,), seconds) for step, seconds in figures.backpressured_seconds.items()]
    yield counters("step_backpressured_seconds", "For how long each step waited for the next one.", ("step",), waited)


def _outcomes(statistics: Statistics) -> Iterator[tuple[Labels, float]]:
    for outcome, times in sorted(({"accepted": 0, "duplicate": 0} | statistics.counts).items()):
        if outcome.startswith(REJECTED):
            yield ("rejected", outcome.removeprefix(REJECTED)), times
        elif not outcome.startswith(ACTIVITY_SKIPPED):
            yield (outcome, ""), times


def _durations(statistics: Statistics) -> Iterator[Metric]:
    yield histogram(
        "event_latency_seconds", "From a record's timestamp to its commit, by events.", statistics.latencies
    )
    text = "For how long records gather now before they are fetched."
    yield gauge("commit_interval_seconds", text, statistics.interval_seconds)
    yield histogram("commit_seconds", "From a commit's first request to its last answer.", statistics.commit_seconds)
    yield histogram(
        "store_write_seconds", "Writing a committed transaction locally.", statistics.phase_seconds["store"]
    )
    phases = statistics.phase_seconds.items()
    yield histograms("commit_phase_seconds", "The phases of committed transactions.", "phase", phases)
    yield histogram("event_loop_lag_seconds", "How late the event loop woke a sleeping task.", statistics.loop_lag)


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


class _Checkpoints(Collector):
    """The figures of the whole job, as each worker knows them; none until the history is read."""

    def __init__(self, history: History) -> None:
        self._history = history

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        history = self._history
        if not history.is_ready:
            return
        known = history.checkpoints()
        totals = history.totals()
        decided = [(("completed",), totals["COMPLETED"]), (("failed",), totals["FAILED"])]
        yield counters("checkpoints", "Checkpoints of the job that are decided.", ("outcome",), decided)
        in_progress = sum(one.status == "IN_PROGRESS" for one in known)
        yield gauge("checkpoints_in_progress", "Checkpoints of the job that are not decided.", in_progress)
        latest = next((one for one in known if one.status == "COMPLETED"), None)
        if latest is None:
            return
        age = history.seconds_since(latest)
        yield gauge("checkpoint_completed_age_seconds", "Since the trigger of the last completed checkpoint.", age)
        figures = (
            ("checkpoint_duration_seconds", "From the trigger to the last part.", latest.seconds),
            ("checkpoint_changelog_bytes", "Changelog bytes that it made safe.", latest.changelog_bytes),
            ("checkpoint_state_bytes", "The state, as the stores estimate it.", latest.state_bytes),
        )
        for name, text, value in figures:
            if value is not None:
                yield gauge(name, f"Of the last completed checkpoint: {text[0].lower()}{text[1:]}", value)

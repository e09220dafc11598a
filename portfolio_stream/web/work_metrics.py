"""The Prometheus families of a worker's own work: what it counted and how long it took."""

from collections.abc import Iterator

from prometheus_client.core import Metric

from portfolio_stream.observe.families import Labels, counter, counters, gauge, histogram, histograms
from portfolio_stream.observe.kafka_counts import MOVES, KafkaCounts
from portfolio_stream.observe.statistics import ACTIVITY_SKIPPED, REJECTED, Statistics


def work_families(statistics: Statistics) -> Iterator[Metric]:
    yield from _counts(statistics)
    yield from _kafka(statistics.kafka)
    yield from _durations(statistics)


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
        "activity_skipped",
        "Accepted events that are not in the table activity: late, or early.",
        ("reason",),
        [((reason,), statistics.counts[ACTIVITY_SKIPPED + reason]) for reason in ("late", "early")],
    )
    text = "Committed source records by their outcome."
    yield counters("records", text, ("outcome", "code"), _outcomes(statistics))


def _kafka(counts: KafkaCounts) -> Iterator[Metric]:
    text = "Requests of transactions that were sent again."
    yield counters("retries", text, ("step", "error"), sorted(counts.retries.items()))
    yield counter("aborts", "Transactions that were begun, and that ended as aborted.", counts.aborts)
    yield counter("fencings", "Requests refused because another epoch counts.", counts.fencings)
    yield counter("rebalances", "Times the group gave this worker another set of partitions.", counts.rebalances)
    yield counter("expulsions", "Times the group's coordinator expelled this worker.", counts.expulsions)
    moves = [((move,), counts.moves[move]) for move in MOVES]
    yield counters("partition_moves", "Partitions that came and went.", ("direction",), moves)


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

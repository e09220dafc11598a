"""The watcher's figures for Prometheus: /metrics. A scrape reads what the last look found; it asks nobody."""

from collections.abc import Iterable, Iterator

from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from portfolio_stream.observe.families import by_partition, counters, gauge, gauges, histogram
from portfolio_stream.watch.alerts import JUDGED
from portfolio_stream.watcher.kafka_look import KafkaLook
from portfolio_stream.watcher.watching import Watcher


class WatcherCollector(Collector):
    def __init__(self, watcher: Watcher) -> None:
        self._watcher = watcher

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        trips = self._watcher.probe.trips
        text = "Records that the watcher produced with acks=all and read back, by how that ended."
        outcomes = [((outcome,), times) for outcome, times in trips.outcomes.items()]
        yield counters("probe_round_trips", text, ("outcome",), outcomes)
        text = "From the beginning of a round trip until its record was read."
        yield histogram("probe_round_trip_seconds", text, trips.seconds)
        yield from _kafka(self._watcher.kafka)
        yield from self._group()
        yield from self._workers()
        if self._watcher.figures.is_job_wanted:  # other time is no part of the objective, as in the time slices
            text = "1 while a partition is not processed for longer than 10 s. Absent while the job is not to run."
            yield gauge("job_down", text, self._watcher.is_job_down)
        lives = self._watcher.judgement.lives
        firing = [((one.name, one.priority), one.name in lives and lives[one.name].state == "firing") for one in JUDGED]
        yield gauges("alerts_firing", "1 for each alert that fires by the watcher's judgement.", ALERT_LABELS, firing)

    def _group(self) -> Iterator[Metric]:
        members, offsets = self._watcher.group
        if members is not None:
            yield gauge("group_members", "Members of the workers' group.", len(members))
        lag = {partition: at.lag for partition, at in (offsets or {}).items()}
        text = "Committed source records that the group has not committed; also of partitions without an owner."
        yield gauges("group_lag_records", text, ("partition",), by_partition(lag))
        ends = {partition: at.last_stable_offset for partition, at in (offsets or {}).items()}
        text = "The source's last stable offset: it grows by what producers send."
        yield gauges("source_end_offset", text, ("partition",), by_partition(ends))

    def _workers(self) -> Iterator[Metric]:
        figures = self._watcher.figures
        ready = sum(worker.is_ready for worker in figures.workers)
        states = {"ready": ready, "unready": len(figures.workers) - ready, "silent": len(figures.silent_workers)}
        text = "Workers by what they answer: ready, unready, or silent members of the group."
        yield gauges("watcher_workers", text, ("state",), [((state,), count) for state, count in states.items()])


ALERT_LABELS = ("alert", "priority")
DISK_LABELS = ("broker", "dir")


def _kafka(look: KafkaLook) -> Iterator[Metric]:
    seen, disks = look.figures, sorted(look.disks.items())
    if seen is None:
        return
    brokers = {"live": seen.live, "away": max(0, seen.brokers - seen.live)}
    text = "Registered brokers: those that Kafka gets heartbeats of, and the others. Without an answer all are away."
    yield gauges("kafka_brokers", text, ("state",), [((state,), count) for state, count in brokers.items()])
    yield gauge("kafka_controller", "1 while there is an active controller.", seen.has_controller)
    partitions = {
        "offline": seen.offline_partitions,
        "under_replicated": seen.under_replicated_partitions,
        "under_min_isr": seen.under_min_isr_partitions,
    }
    text = "Partitions of all topics that lack something, as of the last answer."
    yield gauges("kafka_partitions", text, ("state",), [((state,), count) for state, count in partitions.items()])
    total = [((str(at.broker), at.dir), room.total) for at, room in disks]
    yield gauges("kafka_disk_total_bytes", "Of the file system that holds a broker's log dir.", DISK_LABELS, total)
    usable = [((str(at.broker), at.dir), room.usable) for at, room in disks]
    yield gauges("kafka_disk_usable_bytes", "Of these, what the broker can still write.", DISK_LABELS, usable)

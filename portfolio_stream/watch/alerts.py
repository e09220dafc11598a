"""The alerts of the runbook, each once: as PromQL for Prometheus, and as a predicate over the figures of one moment.

1. Both forms use the numbers of `thresholds`. Both hold at once; `seconds` later the alert fires.
2. A predicate returns None if its figures are unknown: then the alert stays as it is.
3. Exactly-once has no error budget: one violation is a P0, and so is a verdict that is too old.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.figures import SystemFigures

Priority = Literal["P0", "P1", "P2", "P3"]
AlertSeverity = Literal["critical", "warning", "info"]
Component = Literal["kafka", "job", "stream"]
SEVERITIES: dict[Priority, AlertSeverity] = {"P0": "critical", "P1": "critical", "P2": "warning", "P3": "info"}

#: recording rules, by name: figures of the whole system, of all workers together. While a watcher is replaced there
#: are two, and a partition that moves may have two owners: each partition counts once
RECORDED: dict[str, str] = {
    # the watcher asks Kafka, so it knows partitions without an owner; workers know their own partitions only
    "portfolio_stream:lag_records:sum": (
        "sum(max by (partition) (portfolio_stream_group_lag_records))"
        " or sum(max by (partition) (portfolio_stream_lag_records))"
    ),
    # without a worker that answers, the watcher tells whether the job is down, and Kafka how many partitions it has
    "portfolio_stream:partitions:missing": (
        "(max(portfolio_stream_job_partitions) - (sum(portfolio_stream_partitions_running) or vector(0)))"
        # a job that is stuck while it stops or migrates is down for the watcher, and not to run for the workers
        ' * ((max(portfolio_stream_job_state{state="running"})'
        " + (max(portfolio_stream_job_down) or vector(0))) > bool 0)"
        " or (count(max by (partition) (portfolio_stream_source_end_offset)) and (max(portfolio_stream_job_down) == 1))"
    ),
    "portfolio_stream:event_latency_seconds:p99_1m": (
        "histogram_quantile(0.99, sum by (le) (rate(portfolio_stream_event_latency_seconds_bucket[1m])))"
    ),
    "portfolio_stream:events:rate_1m": "sum(rate(portfolio_stream_events_total[1m]))",
    "portfolio_stream:checkpoints:failed_ratio_5m": (
        'max(increase(portfolio_stream_checkpoints_total{outcome="failed"}[5m]))'
        " / (max(sum by (instance) (increase(portfolio_stream_checkpoints_total[5m]))) > 0)"
    ),
    "portfolio_stream:disk_used:ratio": (
        "max by (place, instance) (1 - portfolio_stream_disk_available_bytes / portfolio_stream_disk_total_bytes)"
    ),
    "portfolio_stream:kafka_disk_used:ratio": (
        "max by (broker, dir) (1 - portfolio_stream_kafka_disk_usable_bytes / portfolio_stream_kafka_disk_total_bytes)"
    ),
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    name: str
    priority: Priority
    component: Component
    #: PromQL that has a sample while the alert's condition holds
    expression: str
    holds: Callable[[SystemFigures], bool | None]
    #: for how long the condition must hold before the alert fires
    seconds: float
    #: for how long the condition must not hold before the alert clears
    keep_seconds: float
    summary: str
    #: may use Prometheus' `{{ $value }}`
    description: str
    #: the section of docs/runbook.md, as the anchor of a link
    section: str
    #: alerts whose firing says why this one fires
    inhibited_by: tuple[str, ...] = ()

    @property
    def severity(self) -> AlertSeverity:
        return SEVERITIES[self.priority]


def _kafka_is_down(now: SystemFigures) -> bool | None:
    return None if now.kafka is None else now.kafka.live == 0


def _a_broker_is_away(now: SystemFigures) -> bool | None:
    return None if now.kafka is None else 0 < now.kafka.live < now.kafka.brokers


def _partitions_are_missing(now: SystemFigures) -> bool | None:
    missing = now.missing_partitions
    return None if missing is None else missing > 0


def _verdict_is_old(now: SystemFigures) -> bool:
    return now.decided_at is None or now.at - now.decided_at > limit.VERDICT_AGE_SECONDS


def _lag_is_high(now: SystemFigures) -> bool | None:
    return None if now.lag is None else now.lag > limit.HIGH_LAG_RECORDS


def _lag_is_minor(now: SystemFigures) -> bool | None:
    return None if now.lag is None else limit.MINOR_LAG_RECORDS < now.lag < limit.LAG_RECORDS


def _checkpoints_fail(now: SystemFigures) -> bool:
    """False without a checkpoint in the window: those that failed are over, as for Prometheus."""
    return now.failed_checkpoints is not None and now.failed_checkpoints > limit.FAILED_CHECKPOINTS_SHARE


def _processing_is_slow(now: SystemFigures) -> bool:
    return now.p99 is not None and now.p99 > limit.SLOW_SECONDS


def _a_disk_fills(now: SystemFigures) -> bool | None:
    return any(share > limit.DISK_SHARE for share in now.disks.values()) if now.disks else None


ALERTS: tuple[Alert, ...] = (
    Alert(
        name="KafkaDown",
        priority="P0",
        component="kafka",
        expression='max(portfolio_stream_kafka_brokers{state="live"}) == 0',
        holds=_kafka_is_down,
        seconds=limit.KAFKA_DOWN_SECONDS,
        keep_seconds=0,
        summary="No Kafka broker answers",
        description="No event is accepted or processed. Start the brokers again.",
        section="p0-kafka-cluster-down",
    ),
    Alert(
        name="JobFailed",
        priority="P0",
        component="job",
        expression="portfolio_stream:partitions:missing > 0",
        holds=_partitions_are_missing,
        seconds=limit.JOB_FAILED_SECONDS,
        keep_seconds=0,
        summary="Partitions are not processed",
        description="{{ $value }} partitions are halted, recover for too long, or have no owner, and the job is to run "
        "or is stuck while it stops or migrates.",
        section="p0-flink-job-failed",
        inhibited_by=("KafkaDown",),
    ),
    Alert(
        name="ExactlyOnceViolated",
        priority="P0",
        component="stream",
        expression='max(portfolio_stream_audit_verdict{verdict="violated"}) == 1',
        holds=lambda now: now.verdict == "violated",
        seconds=0,
        keep_seconds=limit.VERDICT_ABSENT_SECONDS + limit.KEEP_SECONDS,  # if the auditor ends, VerdictTooOld takes over
        summary="Outputs are missing, doubled or wrong",
        description="The auditor found an anomaly. Its log and GET /verdict name partition and offset.",
        section="p0-exactly-once-violated",
    ),
    Alert(
        name="VerdictTooOld",
        priority="P0",
        component="stream",
        expression=(
            f"time() - max(portfolio_stream_audit_verdict_timestamp_seconds) > {limit.VERDICT_AGE_SECONDS:g}"
            " or absent(portfolio_stream_audit_verdict_timestamp_seconds)"
        ),
        holds=_verdict_is_old,
        seconds=limit.VERDICT_ABSENT_SECONDS,
        keep_seconds=0,
        summary="Nobody knows whether exactly-once holds",
        description="The auditor has reached no verdict for too long, or does not run.",
        section="p0-verdict-too-old",
        inhibited_by=("KafkaDown",),
    ),
    Alert(
        name="ConsumerLagHigh",
        priority="P1",
        component="stream",
        expression=f"portfolio_stream:lag_records:sum > {limit.HIGH_LAG_RECORDS}",
        holds=_lag_is_high,
        seconds=limit.HIGH_LAG_SECONDS,
        keep_seconds=limit.KEEP_SECONDS,
        summary="Workers are far behind the producers",
        description="{{ $value }} events wait. `portfolio-stream advise` says what holds the workers up.",
        section="p1-high-consumer-lag",
        inhibited_by=("KafkaDown", "JobFailed"),
    ),
    Alert(
        name="KafkaBrokerDown",
        priority="P1",
        component="kafka",
        expression=(
            'max(portfolio_stream_kafka_brokers{state="away"}) > 0'
            ' and max(portfolio_stream_kafka_brokers{state="live"}) > 0'
        ),
        holds=_a_broker_is_away,
        seconds=limit.BROKER_DOWN_SECONDS,
        keep_seconds=limit.KEEP_SECONDS,
        summary="A Kafka broker is away",
        description="{{ $value }} registered brokers send no heartbeat. The others go on with fewer copies.",
        section="p1-kafka-broker-down",
        inhibited_by=("KafkaDown",),
    ),
    Alert(
        name="CheckpointsFailing",
        priority="P1",
        component="job",
        expression=f"portfolio_stream:checkpoints:failed_ratio_5m > {limit.FAILED_CHECKPOINTS_SHARE}",
        holds=_checkpoints_fail,
        seconds=0,
        keep_seconds=limit.KEEP_SECONDS,
        summary="Too many checkpoints fail",
        description="{{ $value | humanizePercentage }} of the last checkpoints failed. `portfolio-stream checkpoints` "
        "names the partition and the reason.",
        section="p1-checkpoint-failures",
        inhibited_by=("KafkaDown", "JobFailed"),
    ),
    Alert(
        name="ProcessingSlow",
        priority="P2",
        component="stream",
        expression=f"portfolio_stream:event_latency_seconds:p99_1m > {limit.SLOW_SECONDS}",
        holds=_processing_is_slow,
        seconds=limit.SLOW_FOR_SECONDS,
        keep_seconds=limit.KEEP_SECONDS,
        summary="Events are processed slowly",
        description="99 % of the events take up to {{ $value | humanizeDuration }}.",
        section="p2-slow-event-processing",
        inhibited_by=("KafkaDown", "JobFailed", "ConsumerLagHigh"),
    ),
    Alert(
        name="DiskFilling",
        priority="P2",
        component="kafka",
        expression=(
            f"portfolio_stream:disk_used:ratio > {limit.DISK_SHARE}"
            f" or portfolio_stream:kafka_disk_used:ratio > {limit.DISK_SHARE}"
        ),
        holds=_a_disk_fills,
        seconds=limit.DISK_SECONDS,
        keep_seconds=limit.KEEP_SECONDS,
        summary="A disk fills",
        description="{{ $value | humanizePercentage }} of the disk are used.",
        section="issue-kafka-broker-out-of-disk-space",
    ),
    Alert(
        name="LagMinor",
        priority="P3",
        component="stream",
        expression=(
            f"portfolio_stream:lag_records:sum > {limit.MINOR_LAG_RECORDS}"
            f" and portfolio_stream:lag_records:sum < {limit.LAG_RECORDS}"
        ),
        holds=_lag_is_minor,
        seconds=limit.MINOR_LAG_SECONDS,
        keep_seconds=limit.KEEP_SECONDS,
        summary="Some events always wait",
        description="Between 100 and 1,000 events have waited for an hour.",
        section="p3-minor-consumer-lag",
        inhibited_by=("KafkaDown", "JobFailed", "ConsumerLagHigh"),
    ),
    Alert(
        name="WatcherDown",
        priority="P1",
        component="job",
        expression="absent(portfolio_stream_kafka_brokers)",
        holds=lambda _now: False,  # the watcher judges: where it does not run, Prometheus tells it
        seconds=limit.WATCHER_ABSENT_SECONDS,
        keep_seconds=0,
        summary="The watcher does not run",
        description="Nobody sees whether Kafka is there. Start `portfolio-stream watch`.",
        section="p1-watcher-down",
    ),
)
BY_NAME = {alert.name: alert for alert in ALERTS}
#: the alerts that the watcher can judge: only Prometheus sees that the watcher does not run
JUDGED = tuple(alert for alert in ALERTS if alert.name != "WatcherDown")

#: no game day makes these times shorter: a pause of the stream stays in the alert's window as long as the window is
SHORTEST_SECONDS: Mapping[str, float] = {"ProcessingSlow": limit.SLOW_WINDOW_SECONDS * 1.5}


def for_at_most(seconds: float) -> tuple[Alert, ...]:
    """Returns the alerts with shorter times, for game days: nobody waits an hour to see that an alert fires."""
    return tuple(
        replace(
            alert,
            seconds=min(alert.seconds, max(seconds, SHORTEST_SECONDS.get(alert.name, 0.0))),
            keep_seconds=min(alert.keep_seconds, seconds),
        )
        for alert in ALERTS
    )

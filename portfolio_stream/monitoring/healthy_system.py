"""A healthy system as Prometheus sees it: two workers with a partition each, a watcher and an auditor."""

from collections.abc import Collection, Mapping

from portfolio_stream.monitoring.rules import INTERVAL_SECONDS
from portfolio_stream.monitoring.samples import GONE, Growth, Level, SamplePhase, samples

BEGIN = 600  # then windows of five minutes are full
END = 3 * 3_600


def phases(*given: SamplePhase) -> str:
    return samples(INTERVAL_SECONDS, *given)


def always(level: Level) -> str:
    return phases((END, level))


def after(usual: Level, wrong: Level) -> str:
    """`wrong` from BEGIN on."""
    return phases((BEGIN, usual), (END, wrong))


def during(seconds: float, usual: Level, wrong: Level, then: Level | None = None) -> str:
    """`wrong` for some seconds from BEGIN on."""
    return phases((BEGIN, usual), (seconds, wrong), (END, usual if then is None else then))


def counted(first: int, moments: Collection[int], until: int) -> str:
    """Returns the samples of a counter that counts something at each of these moments. Before them it is at `first`."""
    return " ".join(f"{first + sum(moment <= at for moment in moments)}" for at in range(0, until, INTERVAL_SECONDS))


def named(name: str, instance: str, **labels: str) -> str:
    """Returns a series in Prometheus' notation."""
    pairs = {"instance": instance, **labels}.items()
    inside = ", ".join(f'{label}="{value}"' for label, value in pairs)
    return f"portfolio_stream_{name}{{{inside}}}"


def worker(name: str, **labels: str) -> tuple[str, str]:
    """Returns the series of both workers."""
    return named(name, "worker-1", **labels), named(name, "worker-2", **labels)


def watcher(name: str, **labels: str) -> str:
    return named(name, "watcher", **labels)


def auditor(name: str, **labels: str) -> str:
    return named(name, "auditor", **labels)


RUNNING_1, RUNNING_2 = worker("partitions_running")
WANTED_1, WANTED_2 = worker("job_state", state="running")
PARTITIONS_1, PARTITIONS_2 = worker("job_partitions")
COMPLETED_1, COMPLETED_2 = worker("checkpoints_total", outcome="completed")
FAILED_1, FAILED_2 = worker("checkpoints_total", outcome="failed")
WITHIN_100_MS_1, WITHIN_100_MS_2 = worker("event_latency_seconds_bucket", le="0.1")
WITHIN_500_MS_1, WITHIN_500_MS_2 = worker("event_latency_seconds_bucket", le="0.5")
WITHIN_1_S_1, WITHIN_1_S_2 = worker("event_latency_seconds_bucket", le="1.0")
ALL_EVENTS_1, ALL_EVENTS_2 = worker("event_latency_seconds_bucket", le="+Inf")
COUNT_1, COUNT_2 = worker("event_latency_seconds_count")
OWN_LAG_1, OWN_LAG_2 = worker("lag_records", partition="0")[0], worker("lag_records", partition="1")[1]
DISK_1, DISK_2 = worker("disk_total_bytes", place="state")
FREE_1, FREE_2 = worker("disk_available_bytes", place="state")
LIVE, AWAY = (watcher("kafka_brokers", state=state) for state in ("live", "away"))
LAG_0, LAG_1 = (watcher("group_lag_records", partition=partition) for partition in ("0", "1"))
END_0, END_1 = (watcher("source_end_offset", partition=partition) for partition in ("0", "1"))
JOB_DOWN = watcher("job_down")
BROKER_DISK = watcher("kafka_disk_total_bytes", broker="0", dir="/data")
BROKER_FREE = watcher("kafka_disk_usable_bytes", broker="0", dir="/data")
HOLDS, VIOLATED = (auditor("audit_verdict", verdict=verdict) for verdict in ("holds", "violated"))
DECIDED = auditor("audit_verdict_timestamp_seconds")

#: two workers with a partition each; every level by its series
HEALTHY_WORKERS: dict[tuple[str, str], Level] = {
    (RUNNING_1, RUNNING_2): 1,
    (WANTED_1, WANTED_2): 1,
    (PARTITIONS_1, PARTITIONS_2): 2,
    (COMPLETED_1, COMPLETED_2): Growth(0.1),
    (FAILED_1, FAILED_2): 0,
    (WITHIN_100_MS_1, WITHIN_100_MS_2): Growth(500),
    (WITHIN_500_MS_1, WITHIN_500_MS_2): Growth(500),
    (WITHIN_1_S_1, WITHIN_1_S_2): Growth(500),
    (ALL_EVENTS_1, ALL_EVENTS_2): Growth(500),
    (COUNT_1, COUNT_2): Growth(500),
    (OWN_LAG_1, OWN_LAG_2): 20,
    (DISK_1, DISK_2): 100,
    (FREE_1, FREE_2): 60,
}
HEALTHY_WATCHER: dict[str, Level] = {
    LIVE: 3,
    AWAY: 0,
    LAG_0: 20,
    LAG_1: 20,
    END_0: Growth(500),
    END_1: Growth(500),
    JOB_DOWN: 0,
    BROKER_DISK: 100,
    BROKER_FREE: 50,
}
HEALTHY_AUDITOR: dict[str, Level] = {HOLDS: 1, VIOLATED: 0, DECIDED: Growth(1)}
HEALTHY: Mapping[str, str] = {
    **{one: always(level) for both, level in HEALTHY_WORKERS.items() for one in both},
    **{one: always(level) for one, level in (HEALTHY_WATCHER | HEALTHY_AUDITOR).items()},
}


def restarted(level: Level) -> Level:
    """A counter begins again, everything else is as before."""
    return level._replace(is_reset=True) if isinstance(level, Growth) and level.per_second != 1 else level


def gone(levels: Mapping[str, Level], seconds: float = END) -> dict[str, str]:
    """The process of these series does not answer for some seconds, and starts again then."""
    return {one: during(seconds, level, GONE, restarted(level)) for one, level in levels.items()}


FIRST_WORKER = {both[0]: level for both, level in HEALTHY_WORKERS.items()}
SECOND_WORKER = {both[1]: level for both, level in HEALTHY_WORKERS.items()}
DISK_OF_WORKER_1 = {"place": "state", "instance": "worker-1"}
SLOW = Growth(0)  # no event is as fast as this bucket's bound

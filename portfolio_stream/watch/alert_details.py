"""The figures of an alert that is pending or fires, in words: which disk, how many partitions, how old a verdict.

A figure that is not bad at this moment, because the alert clears just now, is not named.
"""

from collections.abc import Callable, Mapping

from portfolio_stream.watch import thresholds as limit
from portfolio_stream.watch.alerts import Alert
from portfolio_stream.watch.figures import SystemFigures
from portfolio_stream.watch.words import counted, duration, listed, partitions, percent


def summary_of(alert: Alert, now: SystemFigures) -> str:
    """`A disk fills: broker 1 /data 87 %`."""
    tell = DETAILS.get(alert.name)
    detail = "" if tell is None else tell(now)
    return f"{alert.summary}: {detail}" if detail else alert.summary


def _missing_partitions(now: SystemFigures) -> str:
    by_state: dict[str, list[int]] = {}
    for partition, one in sorted(now.partitions.items()):
        if one.state != "running":
            by_state.setdefault(one.state, []).append(partition)
    found = [f"{partitions(numbers)} {state}" for state, numbers in sorted(by_state.items())]
    if now.is_job_stuck:
        found.insert(0, f"the job has been {now.job_state} for {duration(now.job_seconds or 0.0)}")
    return ", ".join(found)


def _brokers(now: SystemFigures) -> str:
    if now.kafka is None or now.kafka.live == now.kafka.brokers:
        return ""
    return f"{now.kafka.live} of {counted(now.kafka.brokers, 'broker')} live"


def _verdict_age(now: SystemFigures) -> str:
    if now.decided_at is not None:
        return f"the last verdict is {duration(now.at - now.decided_at)} old"
    return "no auditor answers" if now.verdict == "not audited" else f"the auditor says: {now.verdict}"


def _lag(now: SystemFigures) -> str:
    return "" if now.lag is None else counted(now.lag, "event")


def _failed_checkpoints(now: SystemFigures) -> str:
    share = now.failed_checkpoints
    if not share:
        return ""
    return f"{percent(share)} of the last {duration(limit.CHECKPOINTS_WINDOW_SECONDS)}"


def _p99(now: SystemFigures) -> str:
    return "" if now.p99 is None else f"p99 {1000 * now.p99:,.0f} ms"


def _full_disks(now: SystemFigures) -> str:
    full = [f"{name} {percent(share)}" for name, share in sorted(now.disks.items()) if share > limit.DISK_SHARE]
    return listed(full) if full else ""


DETAILS: Mapping[str, Callable[[SystemFigures], str]] = {
    "JobFailed": _missing_partitions,
    "KafkaBrokerDown": _brokers,
    "VerdictTooOld": _verdict_age,
    "ConsumerLagHigh": _lag,
    "LagMinor": _lag,
    "CheckpointsFailing": _failed_checkpoints,
    "ProcessingSlow": _p99,
    "DiskFilling": _full_disks,
}

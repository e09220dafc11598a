"""Metrics by name, as Flink's REST interface tells them. Pure.

1. A figure that nobody knows is left out.
2. Flink lists only the names if `?get=` is not given. Here the list has the values too, one metric a line, so that
   `curl .../metrics | grep NAME` shows a figure. Flink's own clients read the names alone.
3. Where Flink has a name for a figure, the figure has that name.
"""

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from portfolio_stream.checkpoints.history import Checkpoint
from portfolio_stream.flink import steps
from portfolio_stream.flink.figures import ClusterFigures, FlinkJob, SeenWorker
from portfolio_stream.flink.ids import COMMIT, SOURCE
from portfolio_stream.flink.shapes import ms
from portfolio_stream.flink.steps import Flow
from portfolio_stream.observe.steps import Step

Values = Mapping[str, float | str]


def lines(values: Values) -> bytes:
    """A JSON list of all metrics with their values, one a line."""
    rows = ",\n".join(f'{{"id":"{name}","value":"{shown(value)}"}}' for name, value in values.items())
    return f"[\n{rows}\n]\n".encode() if rows else b"[]\n"


def chosen(values: Values, asked: Sequence[str]) -> list[dict[str, str]]:
    """The metrics that somebody asked for by name. An unknown name is left out, as Flink does."""
    return [{"id": name, "value": shown(values[name])} for name in asked if name in values]


def shown(value: float | str) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) else f"{value:.3f}".rstrip("0").rstrip(".")


# -- the job


def job_values(job: FlinkJob) -> Values:
    figures = job.figures
    values: dict[str, float | str] = {"uptime": ms(job.duration)}
    values |= _rates([steps.sum_of(known)] if (known := _known(job, SOURCE)) else [], "In")
    values |= _rates([steps.sum_of(known)] if (known := _known(job, COMMIT)) else [], "Out")
    if "numRecordsInPerSecond" in values:
        values["recordsReceivedPerSecond"] = values["numRecordsInPerSecond"]
    if job.workers:
        read = steps.sum_of([steps.total(SOURCE, worker) for worker in job.workers])
        written = steps.sum_of([steps.total(COMMIT, worker) for worker in job.workers])
        values |= {
            "numRecordsIn": int(read.records_in),
            "numBytesIn": int(read.bytes_in),
            "numRecordsOut": int(written.records_out),
            "numBytesOut": int(written.bytes_out),
            "numRestarts": sum(worker.known.restarts for worker in job.workers if worker.known is not None),
        }
    values |= _latency(job.workers)
    values |= _lag(job.workers)
    return {**values, **checkpoint_values(figures.checkpoints if job.is_current else None)}


def checkpoint_values(checkpoints: Sequence[Checkpoint] | None) -> Values:
    """Of the checkpoints that are kept."""
    if checkpoints is None:
        return {}
    states = [one.status for one in checkpoints]
    values: dict[str, float | str] = {
        "totalNumberOfCheckpoints": len(states),
        "numberOfCompletedCheckpoints": states.count("COMPLETED"),
        "numberOfFailedCheckpoints": states.count("FAILED"),
        "numberOfInProgressCheckpoints": states.count("IN_PROGRESS"),
    }
    latest = next((one for one in checkpoints if one.status == "COMPLETED"), None)
    if latest is not None:
        values |= {"lastCompletedCheckpointId": latest.id, "lastCheckpointSize": latest.changelog_bytes}
        values |= {} if latest.seconds is None else {"lastCheckpointDuration": ms(latest.seconds)}
        values |= {} if latest.state_bytes is None else {"lastCheckpointFullSize": latest.state_bytes}
    return values


def _known(job: FlinkJob, step: Step) -> list[Flow]:
    return [of for worker in job.workers if (of := steps.per_second(step, worker)) is not None]


def _rates(flows: Sequence[Flow], side: str) -> Values:
    """`side`: In or Out."""
    if not flows:
        return {}
    (of,) = flows
    records, size = (of.records_in, of.bytes_in) if side == "In" else (of.records_out, of.bytes_out)
    return {f"numRecords{side}PerSecond": records, f"numBytes{side}PerSecond": size}


def _latency(workers: Sequence[SeenWorker]) -> Values:
    """Milliseconds from a record's timestamp to its commit, in the last five seconds: of the slowest worker."""
    values: dict[str, float | str] = {}
    for name in ("p50", "p95", "p99"):
        known = [
            of for worker in workers if worker.figures and (of := getattr(worker.figures.latency, name)) is not None
        ]
        if known:
            values[f"latency_{name}"] = max(known) * 1000
    return values


def _lag(workers: Sequence[SeenWorker]) -> Values:
    """What is not committed yet: in records, and in milliseconds of the partition that is behind most."""
    behind = [records for worker in workers if worker.figures for records in worker.figures.lag.values()]
    late = [seconds for worker in workers if worker.figures for seconds in worker.figures.lag_seconds.values()]
    values: dict[str, float | str] = {"pendingRecords": sum(behind)} if behind else {}
    return values | ({"pendingMilliseconds": ms(max(late))} if late else {})


# -- a vertex


def subtask_values(step: Step, worker: SeenWorker) -> Values:
    if worker.figures is None:
        return {}
    of = steps.total(step, worker)
    values: dict[str, float | str] = {
        "numRecordsIn": int(of.records_in),
        "numRecordsOut": int(of.records_out),
        "numBytesIn": int(of.bytes_in),
        "numBytesOut": int(of.bytes_out),
        "accumulateBusyTimeMs": ms(of.busy),
        "accumulateBackPressuredTimeMs": ms(of.backpressured),
        "accumulateIdleTimeMs": ms(of.idle),
    }
    rate = steps.per_second(step, worker)
    if rate is not None:
        values |= _rates([rate], "In")
        values |= _rates([rate], "Out")
        values |= {
            "busyTimeMsPerSecond": min(1000.0, rate.busy * 1000),
            "backPressuredTimeMsPerSecond": min(1000.0, rate.backpressured * 1000),
            "idleTimeMsPerSecond": min(1000.0, rate.idle * 1000),
        }
    if step == SOURCE:
        values |= _lag([worker])
    if step == COMMIT:
        values |= _latency([worker])
        commits = worker.figures.status.transactions_per_second
        values |= {"numCommits": worker.figures.status.commits}
        values |= {} if commits is None else {"numCommitsPerSecond": commits}
    return values


def vertex_values(job: FlinkJob, step: Step) -> Values:
    """Each name begins with the subtask's number."""
    return {
        f"{index}.{name}": value
        for index, worker in enumerate(job.workers)
        for name, value in subtask_values(step, worker).items()
    }


def over_subtasks(job: FlinkJob, step: Step, asked: Sequence[str] | None) -> list[dict[str, Any]]:
    """The spread of each metric over the subtasks. Without names, the names that there are."""
    rows = [subtask_values(step, worker) for worker in job.workers]
    if asked is None:
        return [{"id": name} for name in dict.fromkeys(name for row in rows for name in row)]
    found = []
    for name in asked:
        values = [float(row[name]) for row in rows if name in row]
        if values:
            found.append({"id": name} | spread_of(values))
    return found


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """`skew` is the mean deviation from the average, in percent of the average."""
    average = fmean(values)
    deviation = fmean(abs(value - average) for value in values)
    return {
        "min": min(values),
        "max": max(values),
        "avg": average,
        "sum": sum(values),
        "skew": 100 * deviation / average if average else 0.0,
    }


# -- the workers and the supervisor


def worker_values(worker: SeenWorker) -> Values:
    told = worker.figures
    if told is None:
        return {}
    process = told.process
    values: dict[str, float | str | None] = {
        "Status.Process.CPU.Seconds": process.cpu_seconds,
        "Status.Process.Threads": process.threads,
        "Status.Process.Memory.Resident": process.resident_bytes,
        "Status.Process.Memory.Virtual": process.virtual_bytes,
        "Status.Process.Collections": sum(process.collections),
        "Status.Flink.Memory.Managed.Total": told.state_memory,
        "Status.Machine.Memory.Available": told.machine.available_bytes,
        "Status.Worker.Partitions": len(told.status.partitions),
        "Status.Worker.Drops": told.status.drops,
        "Status.Worker.Rejected": told.status.rejected,
    }
    return {name: value for name, value in values.items() if value is not None}


def cluster_values(figures: ClusterFigures) -> Values:
    return {
        "numRegisteredTaskManagers": len(figures.workers),
        "numRunningJobs": sum(job.state == "RUNNING" for job in figures.jobs),
        "taskSlotsTotal": len(figures.workers),
        "taskSlotsAvailable": sum(not worker.partitions for worker in figures.workers),
    }

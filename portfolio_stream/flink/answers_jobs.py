"""The job, its vertices and its subtasks, as Flink's REST interface tells them. Pure: figures in, JSON out.

1. A generation of the job's state is a job. Its vertices are the steps source, fold and commit.
2. A worker is a subtask of each vertex, by its place in the list of workers.
3. A timestamp of a state is told only where it is known; 0 says that the job was not seen in that state.
"""

from collections.abc import Sequence
from typing import Any

from portfolio_stream.flink import ids, job_states, steps
from portfolio_stream.flink.figures import ClusterFigures, FlinkJob, SeenWorker
from portfolio_stream.flink.shapes import NEVER, aggregates, counts, ms
from portfolio_stream.observe.steps import Step

NAME = ids.JOB_NAME
IO_NAMES = (
    *("read-bytes", "read-records", "write-bytes", "write-records"),
    *("accumulated-backpressured-time", "accumulated-idle-time", "accumulated-busy-time"),
)
BACKPRESSURE_LOW, BACKPRESSURE_HIGH = 0.1, 0.5  # Flink's own limits


class Names:
    """How the vertices are called: by the topics."""

    def __init__(self, input_topic: str, output_topic: str) -> None:
        self._topics = {"input": input_topic, "output": output_topic}

    def of(self, step: Step) -> str:
        return steps.NAMES[step].format(**self._topics)


# -- jobs


def jobs(figures: ClusterFigures) -> dict[str, Any]:
    return {"jobs": [{"id": job.id, "status": job.state} for job in figures.jobs]}


def jobs_overview(figures: ClusterFigures) -> dict[str, Any]:
    return {"jobs": [job_row(job) for job in figures.jobs]}


def job_row(job: FlinkJob) -> dict[str, Any]:
    states = job.task_states() * len(ids.STEPS)
    tasks = {name.lower(): number for name, number in counts(states, job_states.TASK_STATES).items()}
    return {
        "jid": job.id,
        "name": NAME,
        "jobType": "STREAMING",
        "schedulerType": "Default",
        "start-time": ms(job.generation.created_at),
        "end-time": ms(job.ended_at),
        "duration": ms(job.duration),
        "state": job.state,
        "last-modification": ms(job.since),
        "tasks": {"total": len(states), **tasks},
        "pending-operators": 0,
    }


def job(job: FlinkJob, names: Names) -> dict[str, Any]:
    states = job.task_states()
    return {
        "jid": job.id,
        "application-id": job.id,
        "name": NAME,
        "isStoppable": True,
        "state": job.state,
        "job-type": "STREAMING",
        "schedulerType": "Default",
        "start-time": ms(job.generation.created_at),
        "end-time": ms(job.ended_at),
        "duration": ms(job.duration),
        "maxParallelism": job.generation.partitions,
        "now": ms(job.figures.at),
        "timestamps": timestamps(job),
        "vertices": [vertex_row(job, vertex, step, names) for vertex, step in ids.vertices(job.id).items()],
        "status-counts": counts([vertex_state(states)] * len(ids.STEPS) if states else [], job_states.TASK_STATES),
        "plan": plan(job, names),
        "pending-operators": 0,
    }


def timestamps(job: FlinkJob) -> dict[str, int]:
    known = dict.fromkeys(job_states.JOB_STATES, 0)
    known["CREATED"] = ms(job.generation.created_at)
    known[job.state] = ms(job.since)
    return known


def plan(job: FlinkJob, names: Names) -> dict[str, Any]:
    nodes = []
    before: str | None = None
    for vertex, step in ids.vertices(job.id).items():
        node: dict[str, Any] = {
            "id": vertex,
            "operator": "",
            "parallelism": len(job.workers),
            "operator_strategy": "",
            "description": names.of(step),
            "optimizer_properties": {},
        }
        if before is not None:
            node["inputs"] = [{"num": 0, "id": before, "exchange": "pipelined", "ship_strategy": steps.SHIP[step]}]
        nodes.append(node)
        before = vertex
    return {"jid": job.id, "name": NAME, "type": "STREAMING", "nodes": nodes}


def vertex_state(states: Sequence[str]) -> str:
    """One state for all subtasks of a vertex: the one that needs most attention."""
    order = ("FAILED", "RECONCILING", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "CANCELED", "FINISHED")
    return next((state for state in order if state in states), "FINISHED")


def vertex_row(job: FlinkJob, vertex: str, step: Step, names: Names) -> dict[str, Any]:
    states = job.task_states()
    began = min([at for worker in job.workers if (at := started_at(worker)) is not None], default=None)
    return {
        "id": vertex,
        "slotSharingGroupId": ids.slot_sharing_group_id(job.id),
        "name": names.of(step),
        "maxParallelism": job.generation.partitions,
        "parallelism": len(job.workers),
        "status": vertex_state(states) if states else job.state if job.state in job_states.TASK_STATES else "SCHEDULED",
        "start-time": ms(began),
        "end-time": NEVER,
        "duration": NEVER if began is None else ms(job.figures.at - began),
        "tasks": counts(states, job_states.TASK_STATES),
        "metrics": steps.io(steps.sum_of([steps.total(step, worker) for worker in job.workers])),
    }


# -- one vertex


def vertex(job: FlinkJob, vertex: str, step: Step, names: Names) -> dict[str, Any]:
    subtasks = [subtask(job, index, worker, step) for index, worker in enumerate(job.workers)]
    return {
        "id": vertex,
        "name": names.of(step),
        "parallelism": len(job.workers),
        "maxParallelism": job.generation.partitions,
        "now": ms(job.figures.at),
        "subtasks": subtasks,
        "aggregated": aggregated(subtasks),
    }


def subtask(job: FlinkJob, index: int, worker: SeenWorker, step: Step) -> dict[str, Any]:
    began = started_at(worker)
    seconds = NEVER if began is None else ms(job.figures.at - began)
    return {
        "subtask": index,
        "status": job_states.task_state(job.state, worker.state, worker.partitions.values()),
        "attempt": 0 if worker.known is None else worker.known.restarts,
        "endpoint": worker.owner.address,
        "start-time": ms(began),
        "start_time": ms(began),
        "end-time": NEVER,
        "duration": seconds,
        "metrics": steps.io(steps.total(step, worker)),
        "taskmanager-id": worker.id,
        "status-duration": status_durations(worker, seconds),
    }


#: which steps of a worker's start Flink's clients see as which state of its tasks; the rest of its life it is RUNNING
START_STATES = {
    "CREATED": ("process",),
    "SCHEDULED": ("store", "topics", "job"),
    "DEPLOYING": ("connections", "fold", "fence", "join"),
    "INITIALIZING": ("recovery",),
}


def status_durations(worker: SeenWorker, life: int) -> dict[str, int]:
    """Milliseconds in each state. `life` is the age of the worker's process."""
    took = {} if worker.figures is None else worker.figures.start
    spent = {state: ms(sum(took.get(step, 0.0) for step in of)) for state, of in START_STATES.items()}
    return spent | {"RUNNING": max(0, life - sum(spent.values()))}


def aggregated(subtasks: Sequence[dict[str, Any]]) -> dict[str, Any]:
    return {
        "metrics": aggregates([one["metrics"] for one in subtasks], IO_NAMES),
        "status-duration": aggregates([one["status-duration"] for one in subtasks], (*START_STATES, "RUNNING")),
    }


def subtask_times(job: FlinkJob, vertex: str, step: Step, names: Names) -> dict[str, Any]:
    rows = []
    for index, worker in enumerate(job.workers):
        began = started_at(worker)
        stamps = dict.fromkeys(job_states.TASK_STATES, 0)
        stamps["RUNNING"] = 0 if began is None else ms(began)
        duration = NEVER if began is None else ms(job.figures.at - began)
        rows.append({"subtask": index, "endpoint": worker.owner.address, "duration": duration, "timestamps": stamps})
    return {"id": vertex, "name": names.of(step), "now": ms(job.figures.at), "subtasks": rows}


def vertex_workers(job: FlinkJob, vertex: str, step: Step, names: Names) -> dict[str, Any]:
    rows = []
    for index, worker in enumerate(job.workers):
        one = subtask(job, index, worker, step)
        rows.append(
            {name: one[name] for name in ("endpoint", "status", "start-time", "end-time", "duration", "metrics")}
            | {
                "status-counts": counts([one["status"]], job_states.TASK_STATES),
                "taskmanager-id": worker.id,
                "aggregated": aggregated([one]),
            }
        )
    return {"id": vertex, "name": names.of(step), "now": ms(job.figures.at), "taskmanagers": rows}


def backpressure(job: FlinkJob, step: Step) -> dict[str, Any]:
    """Over the last five seconds. A worker that has measured nothing is left out."""
    rows: list[dict[str, Any]] = []
    for index, worker in enumerate(job.workers):
        of = steps.per_second(step, worker)
        if of is None:
            continue
        level = level_of(of.backpressured)
        rows.append(
            {
                "subtask": index,
                "backpressureLevel": level,
                "ratio": round(min(1.0, of.backpressured), 3),
                "idleRatio": round(min(1.0, of.idle), 3),
                "busyRatio": round(min(1.0, of.busy), 3),
                "backpressure-level": level,
            }
        )
    if not rows:
        return {"status": "deprecated", "backpressureLevel": None, "backpressure-level": None, "subtasks": []}
    worst = level_of(max(row["ratio"] for row in rows))
    return {
        "status": "ok",
        "backpressureLevel": worst,
        "backpressure-level": worst,
        "end-timestamp": ms(job.figures.at),
        "subtasks": rows,
    }


def level_of(ratio: float) -> str:
    return "ok" if ratio <= BACKPRESSURE_LOW else "low" if ratio <= BACKPRESSURE_HIGH else "high"


def accumulators(vertex: str) -> dict[str, Any]:
    """There are none: /metrics has the counts."""
    return {"id": vertex, "user-accumulators": []}


def subtask_accumulators(job: FlinkJob, vertex: str) -> dict[str, Any]:
    rows = [
        {
            "subtask": index,
            "attempt": 0 if worker.known is None else worker.known.restarts,
            "endpoint": worker.owner.address,
            "user-accumulators": [],
        }
        for index, worker in enumerate(job.workers)
    ]
    return {"id": vertex, "parallelism": len(job.workers), "subtasks": rows}


def started_at(worker: SeenWorker) -> float | None:
    """UNIX seconds of the start of its process; None if it does not answer."""
    return None if worker.figures is None else worker.figures.process.started_at / 1000


# -- applications: one for each job


def applications(figures: ClusterFigures) -> dict[str, Any]:
    return {"applications": [application_row(one) for one in figures.jobs]}


def application_row(job: FlinkJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "name": NAME,
        "start-time": ms(job.generation.created_at),
        "end-time": ms(job.ended_at),
        "duration": ms(job.duration),
        "status": APPLICATION[job.state],
        "jobs": {job.state: 1},
    }


#: Flink has fewer states of an application than of a job
APPLICATION = dict.fromkeys(job_states.JOB_STATES, "RUNNING") | {
    "CREATED": "CREATED",
    "INITIALIZING": "CREATED",
    "FAILED": "FAILED",
    "CANCELED": "CANCELED",
    "FINISHED": "FINISHED",
}


def application(job: FlinkJob) -> dict[str, Any]:
    stamps = dict.fromkeys(("CREATED", "RUNNING", "FAILING", "FAILED", "CANCELING", "CANCELED", "FINISHED"), 0)
    row = application_row(job)
    stamps["CREATED"] = ms(job.generation.created_at)
    stamps[row["status"]] = ms(job.since)
    return {name: value for name, value in row.items() if name != "jobs"} | {
        "timestamps": stamps,
        "jobs": [job_row(job)],
    }

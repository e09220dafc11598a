"""What Flink's clients see of the job's state and of its tasks, as literal tables. Pure.

1. The control topic says what is wanted of the job; the partitions say what is. Only a job that shall run can be
   RESTARTING or FAILED.
2. A partition that is halted waits for an operator while the others go on: then the job is RUNNING, with a failed task.
"""

from collections.abc import Collection, Mapping
from enum import Enum

from portfolio_stream.control.job_life import JobState


class Seen(Enum):
    """What the workers show of a job that shall run."""

    #: every partition that is not halted is served
    SERVED = "served"
    #: a worker is there, and some partition recovers or has no owner
    RECOVERING = "recovering"
    #: every partition is halted
    HALTED = "halted"
    #: no worker takes part, and none is starting
    DESERTED = "deserted"


RUNNING, FINISHED, CANCELED, FAILED = "RUNNING", "FINISHED", "CANCELED", "FAILED"
RESTARTING, SUSPENDED, INITIALIZING = "RESTARTING", "SUSPENDED", "INITIALIZING"

#: Flink's state of the newest generation; an older generation is FINISHED
OF_JOB: Mapping[JobState, str | None] = {
    JobState.RUNNING: None,  # the partitions decide: OF_RUNNING
    JobState.PAUSED: SUSPENDED,
    JobState.STOPPING: RUNNING,
    JobState.STOPPED: FINISHED,
    JobState.CANCELLED: CANCELED,
    JobState.MIGRATING: INITIALIZING,
}
OF_RUNNING: Mapping[Seen, str] = {
    Seen.SERVED: RUNNING,
    Seen.RECOVERING: RESTARTING,
    Seen.HALTED: FAILED,
    Seen.DESERTED: FAILED,
}
#: these states end a job
TERMINAL = frozenset({FINISHED, CANCELED, FAILED})
#: every state that Flink's answers list, in Flink's order
JOB_STATES = (
    *("INITIALIZING", "CREATED", "RUNNING", "FAILING", "FAILED", "CANCELLING", "CANCELED", "FINISHED", "RESTARTING"),
    *("SUSPENDED", "RECONCILING"),
)
TASK_STATES = (
    *("CREATED", "SCHEDULED", "DEPLOYING", "INITIALIZING", "RUNNING", "FINISHED", "CANCELING", "CANCELED", "FAILED"),
    "RECONCILING",
)

#: a partition's states (web/group.py) in which its tables are served
_SERVED = frozenset({"running", "paused"})


def seen(partitions: Collection[str], *, has_workers: bool) -> Seen:
    """`partitions` are the states of all partitions, as `web.group` names them."""
    if not has_workers:
        return Seen.DESERTED
    if partitions and all(state == "halted" for state in partitions):
        return Seen.HALTED
    is_served = all(state in _SERVED or state == "halted" for state in partitions)
    return Seen.SERVED if partitions and is_served else Seen.RECOVERING


def job_state(wanted: JobState, what: Seen) -> str:
    """Returns Flink's state of the newest generation."""
    return OF_JOB[wanted] or OF_RUNNING[what]


#: a worker's task, by the state of its worker; a worker that is ready shows what its partitions are
OF_WORKER: Mapping[str, str] = {"starting": "DEPLOYING", "silent": "RECONCILING"}
#: the tasks of a job that is over, by the job's state
OF_ENDED: Mapping[str, str] = {FINISHED: "FINISHED", CANCELED: "CANCELED"}


def task_state(job: str, worker: str, partitions: Collection[str]) -> str:
    """Returns the state of a worker's tasks. `worker`: ready, starting or silent; `partitions`: states of its own."""
    if job in OF_ENDED:
        return OF_ENDED[job]
    if worker in OF_WORKER:
        return OF_WORKER[worker]
    if any(state == "recovering" for state in partitions):
        return "INITIALIZING"
    return "FAILED" if any(state == "halted" for state in partitions) else "RUNNING"

"""The ids that Flink's REST interface asks for: of jobs, of their vertices, and of workers. Pure.

Flink's clients read an id of a job or a vertex as 32 hex digits. Each generation of the job's state is another job to
them, and the vertices are the steps that a record takes through a worker.
"""

import hashlib
from collections.abc import Mapping

from portfolio_stream.observe.steps import Step

HEX_DIGITS = 32
JOB_NAME = "portfolio_stream"  # of every generation
#: a record takes these steps, in this order
SOURCE: Step = "source"
FOLD: Step = "fold"
COMMIT: Step = "commit"
STEPS: tuple[Step, ...] = (SOURCE, FOLD, COMMIT)


def job_id(group: str, generation: int) -> str:
    """Returns the id of a generation of the group's job."""
    return _hex(f"{group}/{generation}")


def vertex_id(job: str, step: Step) -> str:
    """Returns the id of a step of the job with this id."""
    return _hex(f"{job}/{step}")


def vertices(job: str) -> Mapping[str, Step]:
    """Returns the steps by their vertex ids, in the order of STEPS."""
    return {vertex_id(job, step): step for step in STEPS}


def slot_sharing_group_id(job: str) -> str:
    """Returns the id of the group of all vertices: they share each worker's process."""
    return _hex(f"{job}/slots")


def worker_id(instance_id: str, address: str) -> str:
    """Returns a worker's id, of the form host:port-6 hex digits, as Flink's task managers have it.

    An instance id may hold any printable character, so it is not part of a URL.
    """
    return f"{address}-{_hex(instance_id)[:6]}"


def _hex(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:HEX_DIGITS]

"""The exceptions of the job: what has gone wrong in its workers, from their events. Pure.

1. EXCEPTIONS names the events that an operator of Flink looks for there. The others are in GET /events.
2. A worker that died takes its events with it; the server remembers those that it has seen (flink/incidents.py).
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

#: the vertex in which an event belongs, and its event's action
EXCEPTIONS: Mapping[str, str] = {
    "partition stopped": "fold",
    "fold failed": "fold",
    "fetch failed": "source",
    "fetch out of range": "source",
    "changelog unreadable": "source",
    "membership lost": "commit",
    "dropping uncommitted work": "commit",
    "produce refused": "commit",
    "transaction unsettled": "commit",
    "stopped in doubt": "commit",
    "dead letter failed": "commit",
    "store wiped": "commit",
    "operation delayed": "commit",
    "control topic does not answer": "source",
    "start postponed": "source",
    "generation replaced": "source",
    "worker restarted": "source",
    "worker silent": "source",
}
MOST = 20  # Flink's default


class Incident(NamedTuple):
    #: milliseconds since 1970, by the worker's clock
    time: int
    worker: str
    address: str
    #: the worker's id
    task_manager: str
    #: one of EXCEPTIONS
    action: str
    #: the event, as the worker's log has it
    text: str
    partition: int | None = None


def exceptions(
    incidents: Sequence[Incident], names: Mapping[str, str], places: Mapping[str, str], most: int
) -> dict[str, Any]:
    """`names`: of vertices, by step. `places`: `(1/2)` for each worker that is a subtask. The newest first."""
    newest = sorted(incidents, key=lambda one: one.time, reverse=True)
    return {
        "exceptionHistory": {
            "entries": [_entry(one, names, places) for one in newest[:most]],
            "truncated": len(newest) > most,
        }
    }


def _entry(one: Incident, names: Mapping[str, str], places: Mapping[str, str]) -> dict[str, Any]:
    partition = {} if one.partition is None else {"partition": str(one.partition)}
    return {
        "exceptionName": one.action,
        "stacktrace": f"{one.text}\n\tat worker {one.worker} ({one.address})",
        "timestamp": one.time,
        "failureLabels": {"worker": one.worker, **partition},
        "taskName": " ".join((names[EXCEPTIONS[one.action]], places.get(one.task_manager, ""))).strip(),
        "endpoint": one.address,
        "taskManagerId": one.task_manager,
        "concurrentExceptions": [],
    }

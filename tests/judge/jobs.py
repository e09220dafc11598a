"""Judges the job: every record of the control topic, by what an operator may expect of it.

The judge reads the topic's JSON by itself, and has a table of its own of what may follow what.

1. The first record begins the job, which runs with generation 1. From then on the job's revision grows by one.
2. The job goes from a state to a state only as `STEPS` says. Whoever changes the job names the operation, and records
   the operation in the same transaction.
3. An operation begins once and ends once. A record of an operation that is over is never written again.
4. A generation's record does not change, but for what is known when the generation is over. The job belongs to a
   generation that has a record.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tests.judge.transactions import Anomaly

#: states in which no worker writes
AWAY = frozenset(("stopped", "cancelled", "migrating"))
#: states in which no partition is taken further
REST = AWAY | {"paused"}
#: the kinds of operations that make another generation
SWITCHES = frozenset(("restore", "fresh", "reset", "adopt", "rollback"))
_STOP, _START = frozenset(("stop",)), frozenset(("start",))
#: which kinds of operations may take the job from a state to a state
STEPS: Mapping[tuple[str, str], frozenset[str]] = {
    ("running", "paused"): frozenset(("pause",)),
    ("paused", "running"): frozenset(("resume",)),
    ("running", "stopped"): _STOP,
    ("paused", "stopped"): _STOP,
    ("running", "stopping"): _STOP,
    ("paused", "stopping"): _STOP,
    ("stopping", "stopped"): _STOP,
    ("stopping", "running"): _STOP,
    ("stopping", "paused"): _STOP,
    **{(state, "cancelled"): frozenset(("cancel",)) for state in ("running", "paused", "stopping", "stopped")},
    ("stopped", "running"): _START,
    ("cancelled", "running"): _START,
    **{(state, "migrating"): SWITCHES for state in ("running", "paused", *AWAY)},
    ("migrating", "running"): _START | SWITCHES,
    **{("migrating", state): SWITCHES for state in ("paused", "stopped", "cancelled")},
}
FINAL = frozenset(("done", "failed", "cancelled"))


class JobJudge:
    def __init__(self) -> None:
        self.job: Mapping[str, Any] | None = None
        self.generations: dict[int, Mapping[str, Any]] = {}
        self.operations: dict[str, Mapping[str, Any]] = {}
        #: operations whose record was deleted: none of them may come back
        self._gone: set[str] = set()
        #: how many operations ended, by kind and end
        self.ends: Counter[str] = Counter()

    @property
    def state(self) -> str:
        """ "" before the job begins."""
        return "" if self.job is None else str(self.job["state"])

    @property
    def generation(self) -> int:
        return 1 if self.job is None else int(self.job["generation"])

    @property
    def running(self) -> list[str]:
        """The operations that are not over."""
        return [name for name, operation in self.operations.items() if operation["state"] not in FINAL]

    def decided(self, records: Sequence[Any]) -> list[Mapping[str, Any]]:
        """Judge the records of one committed transaction. Returns the operations that it ends."""
        jobs, touched = [], set()
        for name, value in _read(records):
            kind, *parts = name.split("/")
            if name == "job":
                jobs.append(value)
            elif kind == "generation":
                self._generation(int(parts[0]), value)
            elif len(parts) == 1:
                touched.add(parts[0])
                self._operation(parts[0], value)
            elif value is not None and parts[0] not in self.operations:
                raise Anomaly(f"a part of operation {parts[0]}, which nobody asked for")
        if len(jobs) > 1:
            raise Anomaly(f"one transaction changes the job {len(jobs)} times")
        for job in jobs:
            self._job(job, touched)
        ended = (self.operations[name] for name in sorted(touched) if name in self.operations)
        return [operation for operation in ended if operation["state"] in FINAL]

    def _generation(self, number: int, value: Any) -> None:
        known = self.generations.get(number)
        if known is not None and value is not None and _lasting(value) != _lasting(known):
            raise Anomaly(f"generation {number} was {known}, and is now {value}")
        if known is None and value is not None and number <= max(self.generations, default=0):
            raise Anomaly(f"generation {number} comes after {max(self.generations)}")
        if value is None:
            self.generations.pop(number, None)
        else:
            self.generations[number] = value

    def _operation(self, name: str, value: Any) -> None:
        known = self.operations.get(name)
        if value is None:
            if known is not None and known["state"] not in FINAL:
                raise Anomaly(f"operation {name} is deleted, and was {known['state']}")
            self._gone.add(name)
            self.operations.pop(name, None)
            return
        if name in self._gone:
            raise Anomaly(f"operation {name} is back")
        if known is not None and known["state"] in FINAL:
            raise Anomaly(f"operation {name} was {known['state']}, and is now {value['state']}: carried out twice")
        if known is not None and known["kind"] != value["kind"]:
            raise Anomaly(f"operation {name} was {known['kind']}, and is now {value['kind']}")
        self.operations[name] = value
        if value["state"] in FINAL:
            self.ends[f"{value['kind']} {value['state']}"] += 1

    def _job(self, value: Any, touched: Iterable[str]) -> None:
        before, self.job = self.job, value
        if before is None:
            if (value["state"], value["revision"], value["generation"]) != ("running", 1, 1):
                raise Anomaly(f"the job begins with {value}")
        else:
            self._step(before, value, touched)
        if value["generation"] not in self.generations:
            raise Anomaly(f"the job has generation {value['generation']}, which has no record")

    def _step(self, before: Mapping[str, Any], value: Mapping[str, Any], touched: Iterable[str]) -> None:
        if value["revision"] != before["revision"] + 1:
            raise Anomaly(f"the job's revision goes from {before['revision']} to {value['revision']}")
        pair = before["state"], value["state"]
        operation = self.operations.get(value["operation"] or "")
        if operation is None or value["operation"] not in touched:
            raise Anomaly(f"the job goes from {pair[0]} to {pair[1]} without an operation")
        if operation["kind"] not in STEPS.get(pair, ()):
            raise Anomaly(f"the job goes from {pair[0]} to {pair[1]} by {operation['kind']}")
        if value["generation"] != before["generation"]:
            is_switched = operation["kind"] in SWITCHES and operation["state"] == "done"
            if not is_switched:
                raise Anomaly(f"the job's generation changes by {operation['kind']}, which is {operation['state']}")


def _lasting(generation: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is known only when the generation is over."""
    return {name: value for name, value in generation.items() if name not in ("left_outputs", "is_expired")}


def _read(records: Sequence[Any]) -> list[tuple[str, Any]]:
    return [(record.key.decode(), None if record.value is None else json.loads(record.value)) for record in records]

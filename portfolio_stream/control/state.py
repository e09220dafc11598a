"""The control topic's newest values, folded from its records. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from portfolio_stream.control.values import (
    JOB_KEY,
    Generation,
    Job,
    JobOperation,
    Part,
    decode,
    generation_key,
    operation_key,
    part_key,
)


class SavepointsInUse(NamedTuple):
    #: the one that the job's generation came from, and those that a switch loads
    bases: Sequence[str]
    #: those that are being written
    in_progress: Sequence[str]


class ControlState:
    """The newest value of each key. `apply` is the only way to change it."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}

    def apply(self, records: Iterable[Any]) -> bool:
        """Take records of the topic, in log order. Returns whether any of them was one of ours."""
        is_changed = False
        for record in records:
            key = record.key or b""
            name = key.decode(errors="replace")
            if record.value is None:
                is_changed |= self._values.pop(name, None) is not None
                continue
            value = decode(key, record.value)
            if value is not None:
                self._values[name] = value
                is_changed = True
        return is_changed

    @property
    def job(self) -> Job | None:
        """None before the first worker of the group has started."""
        found: Job | None = self._values.get(JOB_KEY)
        return found

    def generation(self, number: int) -> Generation | None:
        found: Generation | None = self._values.get(generation_key(number))
        return found

    @property
    def current(self) -> Generation | None:
        """The job's generation."""
        return None if self.job is None else self.generation(self.job.generation)

    @property
    def generations(self) -> list[Generation]:
        """All generations, the oldest first."""
        return sorted(self._all(Generation), key=lambda generation: generation.number)

    def operation(self, operation: str) -> JobOperation | None:
        found: JobOperation | None = self._values.get(operation_key(operation))
        return found

    @property
    def operations(self) -> list[JobOperation]:
        """All operations, the oldest first."""
        return sorted(self._all(JobOperation), key=lambda operation: (operation.asked_at, operation.id))

    @property
    def running(self) -> list[JobOperation]:
        """The operations that are not over, the oldest first."""
        return [operation for operation in self.operations if not operation.state.is_final]

    def parts(self, operation: str) -> Mapping[int, Part]:
        """What owners have done for the operation, by partition."""
        prefix = part_key(operation, 0)[:-1]
        found = [value for key, value in self._values.items() if key.startswith(prefix)]
        return {part.partition: part for part in found}

    @property
    def savepoints_in_use(self) -> SavepointsInUse:
        """The savepoints that nobody may delete now."""
        current = self.current
        bases = [] if current is None or current.savepoint is None else [current.savepoint]
        written = []
        for operation in self.running:
            bases += operation.arguments.get("savepoints", ())
            if "savepoint" in operation.arguments:
                written.append(operation.arguments["savepoint"])
        return SavepointsInUse(bases, written)

    def next_generation(self) -> int:
        """The next number that no generation and no attempt at one has used."""
        tried = [operation.arguments.get("generation", 0) for operation in self._all(JobOperation)]
        numbers: list[int] = [0, *(generation.number for generation in self._all(Generation)), *tried]
        return 1 + max(numbers)

    def _all(self, kind: type[Any]) -> list[Any]:
        return [value for value in self._values.values() if isinstance(value, kind)]

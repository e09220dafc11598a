"""A job's control topic in memory, in place of a `JobControl`. Every record is written as bytes."""

from collections.abc import Callable, Mapping
from inspect import isawaitable
from types import SimpleNamespace
from typing import Any

import msgspec

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JOB_KEY, ControlChange, Generation, Job, encode, generation_key


def control_record(key: str, value: msgspec.Struct | bytes | None) -> Any:
    data = encode(value) if isinstance(value, msgspec.Struct) else value
    return SimpleNamespace(key=key.encode(), value=data)


def generation(number: int = 1, partitions: int = 2) -> Generation:
    return Generation(
        number=number,
        changelog_topic="g-changelog" if number == 1 else f"g-changelog-g{number}",
        source_topic_id=None,
        partitions=partitions,
        first_offsets={},
        fold="f",
        origin="first start",
    )


class MemoryControl:
    """Stands in for JobControl: decisions come one after the other, and everybody sees them at once."""

    group = "g"
    source_topic = "in"
    client: Any = None

    def __init__(self) -> None:
        self.state = ControlState()
        self.listeners: list[Callable[[ControlState], None]] = []
        #: the records of each decision that wrote some
        self.written: list[Mapping[str, msgspec.Struct | None]] = []
        #: raised by the next decisions, before they are made
        self.errors: list[Exception] = []

    async def newest(self) -> ControlState:
        return self.state

    async def change(self, decide: Any) -> ControlState:
        if self.errors:
            raise self.errors.pop(0)
        decided = decide(self.state)
        change: ControlChange | None = await decided if isawaitable(decided) else decided
        if change is not None:
            self.put(change.records)
        return self.state

    def put(self, records: Mapping[str, msgspec.Struct | None]) -> None:
        self.written.append(records)
        self.state.apply([control_record(key, value) for key, value in records.items()])
        for listener in self.listeners:
            listener(self.state)

    @property
    def job(self) -> Job:
        assert self.state.job is not None
        return self.state.job


def begun(state: JobState = JobState.RUNNING) -> Any:
    """The connection to a job of generation 1, which is in this state."""
    control = MemoryControl()
    control.put({generation_key(1): generation(), JOB_KEY: Job(state=state, revision=1, generation=1)})
    control.written.clear()
    return control

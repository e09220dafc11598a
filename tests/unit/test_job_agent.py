"""A worker's part in savepoints and in stops with a savepoint: several workers, one control topic, one store."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import msgspec
import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY, JobOperation, OperationKind, OperationState, generation_key
from portfolio_stream.errors import ControlUnavailable, OffsetBehind, PartitionNotReady, SavepointStoreFailed
from portfolio_stream.exactly_once.operations import CopiedPartition, CopyState, Pause, Standing, StateCopy, StopAt
from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.jobs import agent as module
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.agent import JobAgent, SavepointHeads, SavepointPlace
from portfolio_stream.jobs.asking import asked
from portfolio_stream.observe.ring import EventRing
from portfolio_stream.savepoints.manifest import PartitionPart, new_id
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.savepoints.read import load
from portfolio_stream.savepoints.write import write_part
from tests.unit.control_stage import begun, generation
from tests.unit.engine_stage import CONFIGURATION
from tests.unit.savepoint_world import FOLD, PLAIN, ROWS, head

OFFSETS = {0: 50, 1: 60}


class Worker:
    """What the agent sees of an engine, with an exporter that writes to the shared place."""

    def __init__(self, name: str, owned: set[int], place: MemoryObjects) -> None:
        self.identity = SimpleNamespace(instance_id=name)
        self.events = EventRing()
        self.partition_count = 2
        self.owned = frozenset(owned)
        self.halted: dict[int, object] = {}
        self.place = place
        #: next source offsets
        self.offsets = dict(OFFSETS)
        #: what was asked of the engine
        self.asked: list[Any] = []
        #: raised by the next exports, each after it has written one part less
        self.errors: list[Exception] = []
        #: an export waits for this before each part
        self.may_write = asyncio.Event()
        self.may_write.set()
        #: exports that run
        self.exports = 0
        #: partitions that reach a drain's end only when a test says so
        self.slow: set[int] = set()

    @property
    def served(self) -> frozenset[int]:
        return self.owned - self.halted.keys()

    async def ask(self, operation: Any) -> Any:
        await asyncio.sleep(0)
        self.asked.append(operation)
        if isinstance(operation, CopyState):
            ready = operation.partitions & self.served
            return StateCopy(operation.folder, {partition: self.copied(partition) for partition in ready}, {})
        if operation.partition not in self.served:
            raise PartitionNotReady(operation.partition, "away")
        if isinstance(operation, StopAt) and operation.offset < self.offsets[operation.partition]:
            raise OffsetBehind(operation.partition, operation.offset, self.offsets[operation.partition])
        is_there = isinstance(operation, Pause) or operation.partition not in self.slow
        state = PartitionState.PAUSED if is_there else PartitionState.RUNNING
        return Standing(operation.partition, state, self.offsets[operation.partition])

    def copied(self, partition: int) -> CopiedPartition:
        return CopiedPartition(
            offset=self.offsets[partition], changelog_topic_id="33" * 16, changelog_offset=1, outputs={}, fold=FOLD
        )

    async def export(self, copied: StateCopy, savepoint: str, tell: Any = None) -> AsyncGenerator[PartitionPart, None]:
        self.exports += 1
        try:
            for partition, one in sorted(copied.parts.items()):
                await self.may_write.wait()
                if self.errors:
                    raise self.errors.pop(0)
                yield await write_part(
                    self.place, savepoint=savepoint, partition=partition, rows=ROWS[partition], form=PLAIN,
                    **asdict(one),
                )  # fmt: skip
        finally:
            self.exports -= 1

    def copies(self) -> list[list[int]]:
        return [sorted(one.partitions) for one in self.asked if isinstance(one, CopyState)]


@dataclass
class Stage:
    control: Any
    place: MemoryObjects
    folder: Path
    agents: list[JobAgent]
    interval: float | None = None

    def worker(self, name: str, *owned: int) -> Worker:
        """A worker's agent begins."""
        worker = Worker(name, set(owned), self.place)

        async def head_of(operation: JobOperation) -> Any:
            return head(operation.arguments["savepoint"])

        place = SavepointPlace(
            objects=self.place, exporter=worker, folder=self.folder / name, head=head_of, interval=self.interval
        )
        agent = JobAgent(self.control, worker, place)  # type: ignore[arg-type]
        agent.start()
        self.agents.append(agent)
        return worker

    async def die(self, number: int) -> None:
        await self.agents[number].stop()

    def operation(self, name: str) -> JobOperation:
        found: JobOperation = self.control.state.operation(name)
        return found

    async def over(self, operation: JobOperation) -> JobOperation:
        await until(lambda: self.operation(operation.id).state.is_final)
        return self.operation(operation.id)


@pytest.fixture
async def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    for name in ("LOOK_SECONDS", "RETRY_SECONDS", "COMPLETION_SECONDS"):
        monkeypatch.setattr(module, name, 0.001)
    made = Stage(begun(), MemoryObjects(), tmp_path, [])
    yield made
    for agent in made.agents:
        assert agent.task is not None
        assert not agent.task.done() or agent.task.cancelled()
        await agent.stop()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():  # noqa: ASYNC110  the agent tells no test of it
            await asyncio.sleep(0.001)


async def savepoint(stage: Stage, **arguments: Any) -> JobOperation:
    wanted = asked(OperationKind.SAVEPOINT, "me", savepoint=new_id(), **arguments)
    return await asking.begin_savepoint(stage.control, wanted)


async def stop(stage: Stage, **arguments: Any) -> JobOperation:
    wanted = asked(OperationKind.STOP, "me", savepoint=new_id(), **arguments)
    return await asking.begin_stop_with_savepoint(stage.control, wanted)


async def test_each_owner_writes_its_parts_and_one_worker_completes(stage: Stage) -> None:
    """The operation is done once, its parts are deleted, and no copy of the state remains."""
    one, two = stage.worker("one", 0), stage.worker("two", 1)
    done = await stage.over(await savepoint(stage))
    manifest = await load(stage.place, done.arguments["savepoint"])
    assert (OperationState.DONE, manifest.id) == (done.state, done.result["savepoint"])
    assert [50, 60] == [part.offset for part in manifest.parts]
    assert ([[0]], [[1]]) == (one.copies(), two.copies())
    assert ({}, []) == (stage.control.state.parts(done.id), [*stage.folder.iterdir()])
    assert 1 == sum(done.id in str(records.keys()) and len(records) > 1 for records in stage.control.written[1:])


async def test_the_owner_of_the_first_partition_completes_first(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others wait; if that owner is not there, one of them does it."""
    monkeypatch.setattr(module, "COMPLETION_SECONDS", 0.05)
    one = stage.worker("one", 0)
    two = stage.worker("two", 1)
    await stage.over(await savepoint(stage))
    told_by = [len([told for told in worker.events.latest(100) if told.event.action == "savepoint completed"])
               for worker in (one, two)]  # fmt: skip
    assert [1, 0] == told_by
    running = await savepoint(stage)
    await until(lambda: 1 in stage.control.state.parts(running.id) or stage.operation(running.id).state.is_final)
    one.owned = frozenset()
    assert OperationState.DONE is (await stage.over(running)).state


async def test_a_dead_owners_partition_is_copied_by_the_next_owner(stage: Stage) -> None:
    """The part belongs to the operation, not to the worker."""
    one, two = stage.worker("one", 0), stage.worker("two", 1)
    two.may_write.clear()
    running = await savepoint(stage)
    await until(lambda: two.exports == 1 and 0 in stage.control.state.parts(running.id))
    await stage.die(1)
    assert 0 == two.exports
    one.owned = frozenset((0, 1))
    assert OperationState.DONE is (await stage.over(running)).state
    assert [[0], [1]] == one.copies()


async def test_a_part_that_was_written_before_its_owner_died_counts(stage: Stage) -> None:
    """The next owner is further, but the first part of the partition is the savepoint's."""
    running = await savepoint(stage)
    first = Worker("dead", {0}, stage.place)
    async for _ in first.export(StateCopy(stage.folder, {0: first.copied(0)}, {}), running.arguments["savepoint"]):
        pass
    worker = stage.worker("one", 0, 1)
    worker.offsets[0] = 99
    await stage.over(running)
    manifest = await load(stage.place, running.arguments["savepoint"])
    assert [50, 60] == [part.offset for part in manifest.parts]


@pytest.mark.parametrize(
    "error", [SavepointStoreFailed("s3://x", "503"), OSError("gone"), ControlUnavailable("c", "x")]
)
async def test_a_part_that_fails_is_tried_again(stage: Stage, error: Exception) -> None:
    """The operator is told why the operation waits. What is written is not written again."""
    worker = stage.worker("one", 0, 1)
    worker.errors = [error]
    done = await stage.over(await savepoint(stage))
    told = [one.event for one in worker.events.latest(100) if one.event.action == "operation delayed"]
    assert (OperationState.DONE, 1, [[0, 1], [0, 1]]) == (done.state, len(told), worker.copies())
    assert getattr(told[0], "reason", "")


async def test_a_bug_that_ends_the_agent_is_logged(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    """Nobody awaits the agent's task: without this line a worker would take part in no savepoint, and say nothing."""
    worker = stage.worker("one", 0, 1)
    worker.errors = [ValueError("a bug")]
    await savepoint(stage)
    task = stage.agents.pop().task
    assert task is not None
    await asyncio.wait((task,))
    await until(lambda: "task failed task=job agent" in caplog.text)
    assert "ValueError: a bug" in caplog.text


async def test_an_outage_of_the_control_topic_is_waited_for(stage: Stage) -> None:
    """No decision is lost, and none is made twice."""
    stage.worker("one", 0, 1)
    running = await savepoint(stage)
    stage.control.errors = [ControlUnavailable("c", "no answer") for _ in range(3)]
    assert OperationState.DONE is (await stage.over(running)).state


@pytest.mark.parametrize("end", ["cancel", "deadline"])
async def test_an_operation_that_is_over_ends_its_export(stage: Stage, end: str) -> None:
    """Also one that hangs, and the copy of the state is removed."""
    worker = stage.worker("one", 0, 1)
    worker.may_write.clear()
    running = await savepoint(stage, **({"seconds": 0.05} if end == "deadline" else {}))
    await until(lambda: worker.exports == 1)
    if end == "cancel":
        await asking.cancel_operation(stage.control, running.id, "me")
    ended = await stage.over(running)
    await until(lambda: worker.exports == 0)
    assert ended.state is (OperationState.CANCELLED if end == "cancel" else OperationState.FAILED)
    worker.may_write.set()
    assert OperationState.DONE is (await stage.over(await savepoint(stage))).state


async def test_the_deadline_names_the_partitions_that_are_missing(stage: Stage) -> None:
    """And why, as far as the worker knows. The job goes on."""
    worker = stage.worker("one", 0)
    worker.halted = {0: "poisoned"}
    ended = await stage.over(await stop(stage, seconds=0.03))
    assert OperationState.FAILED is ended.state
    assert "0 (halted), 1 (not this worker's)" in (ended.reason or "")
    assert JobState.RUNNING is stage.control.job.state


async def test_a_manifest_that_cannot_be_written_fails_the_operation_at_its_deadline(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All parts are there. Nobody waits for ever, and the reason is the store's."""

    async def fail(*_: Any) -> Any:
        raise SavepointStoreFailed("s3://x", "the bucket is gone")

    monkeypatch.setattr(module, "complete", fail)
    worker = stage.worker("one", 0, 1)
    ended = await stage.over(await stop(stage, seconds=0.03))
    assert OperationState.FAILED is ended.state
    assert "the bucket is gone" in (ended.reason or "")
    assert JobState.RUNNING is stage.control.job.state
    assert any(told.event.action == "operation delayed" for told in worker.events.latest(100))


async def test_a_stop_pauses_what_it_copies_and_stops_the_job(stage: Stage) -> None:
    worker = stage.worker("one", 0, 1)
    done = await stage.over(await stop(stage))
    assert (OperationState.DONE, JobState.STOPPED) == (done.state, stage.control.job.state)
    assert [True] == [one.pauses for one in worker.asked if isinstance(one, CopyState)]


async def test_a_savepoint_pauses_nothing(stage: Stage) -> None:
    worker = stage.worker("one", 0, 1)
    await stage.over(await savepoint(stage))
    assert [False] == [one.pauses for one in worker.asked if isinstance(one, CopyState)]


async def test_a_drain_copies_each_partition_when_it_has_reached_its_end(stage: Stage) -> None:
    """A partition that is further already is paused where it is; one that is slow is waited for."""
    worker = stage.worker("one", 0, 1)
    worker.slow = {1}
    running = await stop(stage, drain={"0": 40, "1": 70})
    await until(lambda: 0 in stage.control.state.parts(running.id))
    assert {StopAt(0, 40), Pause(0), StopAt(1, 70)} == {one for one in worker.asked if not isinstance(one, CopyState)}
    assert all(copied == [0] for copied in worker.copies())
    worker.slow, worker.offsets[1] = set(), 70
    await stage.over(running)
    manifest = await load(stage.place, running.arguments["savepoint"])
    assert ([50, 70], JobState.STOPPED) == ([part.offset for part in manifest.parts], stage.control.job.state)


async def test_a_savepoint_fails_when_the_job_is_cancelled(stage: Stage) -> None:
    """Its export ends, and nobody completes it."""
    worker = stage.worker("one", 0, 1)
    worker.may_write.clear()
    running = await savepoint(stage)
    await until(lambda: worker.exports == 1)
    await asking.change_at_once(stage.control, asked(OperationKind.CANCEL, "me"))
    await until(lambda: worker.exports == 0)
    assert OperationState.FAILED is stage.operation(running.id).state


async def test_many_workers_ask_for_one_scheduled_savepoint(stage: Stage) -> None:
    """Only the owner of partition 0 asks, and if two think that they are, the second sees the first one's."""
    stage.interval = 3600.0
    stage.worker("one", 0, 1)
    stage.worker("two", 0, 1)
    stage.worker("three", 1)
    await until(lambda: any(one.state.is_final for one in stage.control.state.operations))
    await asyncio.sleep(0.02)
    (only,) = stage.control.state.operations
    assert (OperationState.DONE, "scheduled") == (only.state, only.arguments["reason"])
    assert only.by in ("the schedule of one", "the schedule of two")


async def test_without_an_interval_nothing_is_scheduled(stage: Stage) -> None:
    stage.worker("one", 0, 1)
    running = await savepoint(stage)
    await stage.over(running)
    assert [running.id] == [one.id for one in stage.control.state.operations]


async def test_a_savepoint_names_the_jobs_generation(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the worker that completes it has not joined with that generation yet."""

    async def describe(_: Any, topics: list[str]) -> Any:
        return {topic: SimpleNamespace(id=UUID(int=1), partitions=2) for topic in topics}

    async def cluster_id(_: Any) -> str:
        return "cluster"

    monkeypatch.setattr(module, "describe", describe)
    monkeypatch.setattr(module, "cluster_id", cluster_id)
    job = msgspec.structs.replace(stage.control.job, generation=2)
    stage.control.put({generation_key(2): generation(2), JOB_KEY: job})
    old: Any = SimpleNamespace(configuration=CONFIGURATION)
    made = await SavepointHeads(stage.control, old, "1").of(await savepoint(stage))
    assert (1, 2, "g-changelog-g2") == (old.configuration.generation, made.generation, made.changelog_topic)

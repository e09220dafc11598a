"""A worker's part in the operations that the workers carry out: a savepoint, and a stop with a savepoint.

1. The owner of a partition copies its state at a commit boundary, writes its part into the savepoint, and reports it.
2. A part belongs to an operation, not to a worker: if an owner dies, the next owner copies the partition.
3. Whoever sees all parts completes the savepoint and ends the operation. Any worker may do it; only one does.
4. No outage of the savepoint's store, of Kafka or of an export ends the worker. The operation waits, and fails at its
   deadline with the partition that is missing.
"""

import asyncio
import shutil
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import errors as kafka_errors

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState, Part
from portfolio_stream.errors import (
    JobNotBegun,
    OffsetBehind,
    OutcomeUnknown,
    PartitionNotReady,
    PortfolioStreamError,
    TopicMissing,
    cause_of,
)
from portfolio_stream.exactly_once.engine import Engine
from portfolio_stream.exactly_once.operations import CopyState, Pause, StateCopy, StopAt
from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.signals import cancelled
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.exporting import Exporter
from portfolio_stream.kafka.cluster_id import cluster_id
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.kafka.topic_watch import describe
from portfolio_stream.observe import events as told
from portfolio_stream.observe.beside import log_failure
from portfolio_stream.savepoints.manifest import Head, new_id, utc_text
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.write import complete

LOOK_SECONDS = 1.0  # between two looks at the operations, if nothing wakes the agent
RETRY_SECONDS = 2.0  # after a part that could not be written
OPERATION_SECONDS = 600.0  # then an operation fails, with the partitions that are missing
#: how long other workers leave the completion to the owner of the first partition
COMPLETION_SECONDS = 3.0

#: errors after which a part is tried again
PASSING = (PortfolioStreamError, kafka_errors.KafkaError, *LOST)


@dataclass(frozen=True, kw_only=True, slots=True)
class SavepointPlace:
    """Where the savepoints are, and what a savepoint says of the job."""

    objects: Objects
    exporter: Exporter
    #: for copies of the store: on the store's file system
    folder: Path
    #: describes the job for a savepoint that is complete
    head: Callable[[JobOperation], Awaitable[Head]]
    #: seconds between two scheduled savepoints; None: none are scheduled
    interval: float | None


class JobAgent:
    def __init__(self, control: JobControl, engine: Engine, place: SavepointPlace) -> None:
        self._control = control
        self._engine = engine
        self._place = place
        self._woken = asyncio.Event()
        control.listeners.append(lambda _: self._woken.set())
        #: when each operation had all its parts for the first time, in monotonic seconds
        self._whole: dict[str, float] = {}
        #: ends with `stop` only
        self.task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.task = asyncio.create_task(self._run(), name="job agent")
        self.task.add_done_callback(log_failure)

    async def stop(self) -> None:
        await cancelled(self.task)

    async def _run(self) -> None:
        while True:
            try:
                await self._look(self._control.state)
            except PASSING as error:
                self._engine.events.tell(_delayed(error))
                await asyncio.sleep(RETRY_SECONDS)
            await self._next_look()

    async def _next_look(self) -> None:
        """Wait for a change of the control topic, at most LOOK_SECONDS."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_SECONDS):
                await self._woken.wait()
        self._woken.clear()

    async def _look(self, state: ControlState) -> None:
        for operation in state.running:
            if operation.kind in asking.WITH_SAVEPOINT:
                await self._carry_out(operation, state)
                return
        await self._schedule(state)

    # -- an operation

    async def _carry_out(self, operation: JobOperation, state: ControlState) -> None:
        parts = state.parts(operation.id)
        missing = set(range(self._engine.partition_count)) - parts.keys()
        if not missing:
            await self._complete_or_fail(operation)
        elif _is_late(operation):
            waits = ", ".join(f"{partition} ({self._why_missing(partition)})" for partition in sorted(missing))
            reason = f"it took too long; these partitions had no part: {waits}"
            await asking.end(self._control, operation.id, OperationState.FAILED, reason=reason)
        else:
            await self._until_over(operation, self._do_parts(operation, frozenset(missing & self._engine.owned)))

    async def _until_over(self, operation: JobOperation, work: Coroutine[Any, Any, None]) -> None:
        """Work for an operation until somebody ends it, or its time is over: a store may hang for ever."""
        working = asyncio.create_task(work, name="savepoint parts")
        working.add_done_callback(lambda _: self._woken.set())
        try:
            while not (working.done() or self._is_over(operation.id) or _is_late(operation)):
                await self._next_look()
            if working.done():
                working.result()
        finally:
            await cancelled(working)

    def _why_missing(self, partition: int) -> str:
        engine = self._engine
        if partition in engine.halted:
            return "halted"
        return "not written yet" if partition in engine.owned else "not this worker's"

    async def _do_parts(self, operation: JobOperation, mine: frozenset[int]) -> None:
        ready = await self._drained(operation, mine) if operation.arguments.get("drain") else mine
        if not ready:
            return
        folder = self._place.folder / operation.id
        try:
            copied = await self._engine.ask(CopyState(ready, folder, operation.kind is OperationKind.STOP))
            if not copied.parts:
                return
            await self._write(operation, copied)
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def _drained(self, operation: JobOperation, mine: frozenset[int]) -> frozenset[int]:
        """Have the partitions folded up to where the source ended when the operator asked. Returns those that are."""
        ends: Mapping[str, int] = operation.arguments["drain"]
        drained = set()
        for partition in mine & self._engine.served:
            end = ends[str(partition)]
            try:
                standing = await self._engine.ask(StopAt(partition, end))
            except OffsetBehind:
                standing = await self._engine.ask(Pause(partition))
            except (PartitionNotReady, OutcomeUnknown):
                continue
            if standing.state is PartitionState.PAUSED:
                drained.add(partition)
        return frozenset(drained)

    async def _write(self, operation: JobOperation, copied: StateCopy) -> None:
        """Write the parts and report them, as they come: a worker that dies loses only what was not written."""
        savepoint, worker = operation.arguments["savepoint"], self._engine.identity.instance_id
        async with aclosing(self._place.exporter.export(copied, savepoint)) as parts:
            async for part in parts:
                if self._is_over(operation.id):
                    return
                done = Part(partition=part.partition, worker=worker, offset=part.offset, at=time.time())
                await asking.report(self._control, operation.id, done)

    def _is_over(self, operation: str) -> bool:
        known = self._control.state.operation(operation)
        return known is None or known.state.is_final

    async def _complete_or_fail(self, operation: JobOperation) -> None:
        try:
            await self._complete(operation)
        except PASSING as error:
            if not _is_late(operation):
                raise
            reason = f"it took too long; all parts are written, but not the manifest: {cause_of(error)}"
            await asking.end(self._control, operation.id, OperationState.FAILED, reason=reason)

    async def _complete(self, operation: JobOperation) -> None:
        """Complete the savepoint and end the operation. The owner of partition 0 comes first."""
        since = self._whole.setdefault(operation.id, time.monotonic())
        if 0 not in self._engine.owned and time.monotonic() - since < COMPLETION_SECONDS:
            return
        manifest = await complete(self._place.objects, await self._place.head(operation))
        ended = await asking.end(
            self._control,
            operation.id,
            OperationState.DONE,
            result={"savepoint": manifest.id, "bytes": manifest.bytes, "rows": sum(manifest.rows.values())},
        )
        self._whole.pop(operation.id, None)
        self._engine.events.tell(told.SavepointCompleted(savepoint=manifest.id, state=ended.state.value))

    # -- scheduled savepoints

    async def _schedule(self, state: ControlState) -> None:
        """Ask for the next scheduled savepoint, if it is time. The owner of partition 0 asks."""
        interval = self._place.interval
        if interval is None or 0 not in self._engine.served:
            return
        if time.time() < asking.newest_savepoint(state) + interval:
            return
        by = f"the schedule of {self._engine.identity.instance_id}"
        wanted = asking.asked(OperationKind.SAVEPOINT, by, savepoint=new_id(), reason="scheduled")
        await asking.begin_scheduled_savepoint(self._control, wanted, interval)


def _is_late(operation: JobOperation) -> bool:
    return time.time() > operation.asked_at + float(operation.arguments.get("seconds", OPERATION_SECONDS))


def _delayed(error: BaseException) -> told.OperationDelayed:
    remedy = error.action if isinstance(error, PortfolioStreamError) else "Wait: the worker tries again."
    return told.OperationDelayed(reason=cause_of(error), remedy=remedy)


class SavepointHeads:
    """Describes the job for its savepoints: the names of topics, and their ids as the cluster has them now."""

    def __init__(self, control: JobControl, engine: Engine, writer: str) -> None:
        """`writer` is the program's version."""
        self._control = control
        self._engine = engine
        self._writer = writer

    async def of(self, operation: JobOperation) -> Head:
        """Raises one of LOST or a KafkaError, TopicMissing, and JobNotBegun."""
        generation = self._control.state.current  # this worker's engine may not have joined yet with this generation
        if generation is None:
            raise JobNotBegun(self._control.group)
        conf, client, source = self._engine.configuration, self._control.client, self._control.source_topic
        known = await describe(client, [source, *conf.output_topics])
        for topic in (source, *conf.output_topics):
            if topic not in known:
                raise TopicMissing(topic)
        return Head(
            id=operation.arguments["savepoint"],
            reason=operation.arguments.get("reason", "asked"),
            generation=generation.number,
            cluster_id=await cluster_id(client),
            group=conf.group,
            source_topic=source,
            source_topic_id=known[source].id.hex,
            partitions=known[source].partitions,
            changelog_topic=generation.changelog_topic,
            output_topics={topic: known[topic].id.hex for topic in conf.output_topics},
            fold=conf.fold,
            writer=self._writer,
            created_at=utc_text(operation.asked_at),
        )

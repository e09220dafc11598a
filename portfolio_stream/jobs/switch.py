"""Makes the next generation of a job's state, and switches the job to it.

1. Plan, for the operator's eyes (`Switcher.preview`). Nothing is changed.
2. The job becomes MIGRATING, and the next generation's number is reserved. The workers commit and leave by themselves.
3. Wait until the group has no member and no pending transaction. Plan again: now nothing moves any more.
4. Make the next generation's changelog, and load the state into it (`building`). META goes last.
5. Read the changelog back, and compare row counts and state hashes with what was to be loaded.
6. Switch in one transaction: the group's offsets, the generation, the job and the operation. The decision is made on
   the newest values (`ControlWriter.change`): the operation still runs, and the group's offsets are those of step 3.
   Once the new offsets are pending, the group is looked at again. A worker that joins later waits for them, and finds
   that its generation is replaced; one that joined before is seen, and nothing is switched.

Before 6 nothing has happened to the old generation, after it everything has. An error or Ctrl-C before it ends the
operation and lets the job be what it was. A process that is killed leaves an operation that is running and a job that
is migrating: the next switch, or `job start`, ends it. A process that is overtaken like this and wakes up can do no
harm: its builder is fenced, and the decision sees that its operation is over.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import NamedTuple

import msgspec
from aiokafka import errors as kafka_errors

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobEvent, JobState, after
from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import (
    JOB_KEY,
    ControlChange,
    Generation,
    Job,
    JobOperation,
    OperationState,
    generation_key,
    operation_key,
)
from portfolio_stream.errors import (
    ControlUnavailable,
    JobNotSettled,
    KafkaRefused,
    OperationUnknown,
    PortfolioStreamError,
    StateDiffers,
    Superseded,
    SwitchOvertaken,
    cause_of,
)
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.exactly_once.protocol import Doubt
from portfolio_stream.exactly_once.store import META_KEY, Meta, encode_meta, read_meta
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.building import Builder, RowSource
from portfolio_stream.jobs.cluster import JobCluster
from portfolio_stream.jobs.contents import ChangelogContent, CountRead, contents_of, decisions_of, ignored, state_of
from portfolio_stream.jobs.gathering import Gathering, Wanted, settled_wanted
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.jobs.plans import PartitionPlan, Plan
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.kafka.offset_lookup import GroupPosition
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.parquet import ChangelogRow
from portfolio_stream.savepoints.read import load
from portfolio_stream.savepoints.read import rows as savepoint_rows

#: for the workers to leave: the longest session of a dead member (Kafka's default is 45 s), and a transaction's end
SETTLED_SECONDS = 90.0
SETTLED_POLL_SECONDS = 0.1
STABLE_SECONDS = 10.0  # an aborted transaction's markers take milliseconds
BUILD_TRIES = 3  # a doubt about a transaction, e.g. while a broker dies, makes the build begin again
CHUNK_ROWS = 8_192  # of a state that is in memory
LOADED_AT_ONCE = 4  # savepoint parts that are read side by side: each holds a file in memory


class SwitchProgress(NamedTuple):
    """How far a switch is."""

    #: waiting, reading, loading, checking, switching
    step: str
    done: int
    #: None if nobody knows
    of: int | None
    #: for people
    text: str


TellSwitch = Callable[[SwitchProgress], None]


def unreported(_: SwitchProgress) -> None:
    """For a caller who wants no progress."""


class Expected(NamedTuple):
    """What a partition of the new changelog has to hold."""

    rows: Mapping[str, int]
    hashes: Mapping[str, str]
    #: META and the operators' decisions
    own: dict[bytes, bytes]


class Switcher:
    """Plans and carries out switches of one job. Use it as `async with Switcher(...)`."""

    def __init__(
        self,
        control: JobControl,
        connections: Connections,
        cluster: JobCluster,
        objects: Objects,
        configuration: Configuration,
        report: TellSwitch = unreported,
    ) -> None:
        """`control` is open. `configuration` names the group, the source, the outputs and the fold."""
        self._control = control
        self._cluster = cluster
        self._objects = objects
        self._report = report
        self._seen = Observation(connections, configuration)
        self._gathering = Gathering(self._seen, objects)

    async def __aenter__(self) -> "Switcher":
        await self._seen.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._seen.__aexit__(*error)

    async def preview(self, wanted: Wanted) -> Plan:
        """What the switch would do now. Changes nothing. Raises SwitchRefused and the errors of `Gathering.plan`."""
        return await self._gathering.plan(wanted, await self._control.newest())

    async def abandoned(self) -> list[JobOperation]:
        """The switches that are not over: this one makes them fail. Raises ControlUnavailable."""
        return [other for other in (await self._control.newest()).running if other.kind.is_switch]

    async def carry_out(
        self,
        wanted: Wanted,
        plan: Plan,
        *,
        by: str,
        carrier: str | None = None,
        then: JobState | None = None,
        overtakes: bool = True,
        begun: Callable[[JobOperation], None] = lambda _: None,
    ) -> JobOperation:
        """Switch as `plan`, the preview of `wanted`, says. Returns the operation, which is done.

        `carrier`: see `BackgroundSwitches`. `then` is the job's state afterwards; None: what it was before.
        `overtakes`: see `asking.begin_switch`. `begun` is called with the operation when it has begun. Raises
        PortfolioStreamError: then nothing was switched, and the job is what it was before. Only after
        ControlUnavailable nobody knows.
        """
        for other in await self.abandoned() if overtakes else ():
            said = f"operation {other.id} ({other.kind.value}, {other.by}) was begun and never ended: it fails now"
            self._report(SwitchProgress("abandoned", 0, None, said))
        arguments = {
            "plan": plan.lines,
            "savepoints": list(plan.savepoints),
            "offsets": {str(partition): offset for partition, offset in plan.offsets.items()},
        }
        if carrier is not None:
            arguments["carrier"] = carrier
        asked = asking.asked(wanted.kind, by, **arguments)
        positions = await self._seen.positions(is_stable=False)
        committed = max((position.generation or 0 for position in positions.values()), default=0)
        try:
            operation = await asking.begin_switch(self._control, asked, overtakes=overtakes, committed=committed)
            begun(operation)
            return await self._carry_out(wanted, plan, operation, then)
        except asyncio.CancelledError:
            ended = await self._end(asked.id, OperationState.CANCELLED, "interrupted")
            self._report(SwitchProgress("interrupted", 0, None, _after_interruption(ended)))
            raise
        except ControlUnavailable:
            raise
        except Exception as error:
            ended = await self._end(asked.id, OperationState.FAILED, cause_of(error))
            if ended is not None and ended.state is OperationState.DONE:  # it took effect, and its answer was lost
                return ended
            raise

    async def _carry_out(
        self, wanted: Wanted, plan: Plan, operation: JobOperation, then: JobState | None
    ) -> JobOperation:
        state = await self._control.newest()
        await self._delete_leftovers(state)
        positions = await self._when_settled(state, operation.id)
        final = await self._gathering.plan(settled_wanted(wanted, plan), state, again=True)
        return await self._make(operation, final, positions, then)

    # -- the old generation comes to rest

    async def _when_settled(self, state: ControlState, operation: str) -> dict[int, GroupPosition]:
        """Wait until the group is empty and nothing is pending. Returns the group's offsets.

        Raises JobNotSettled, and SwitchOvertaken: the workers stay then.
        """
        deadline = time.monotonic() + SETTLED_SECONDS
        while True:
            waits = [f"member {member}" for member in await self._seen.members()]
            positions = await self._seen.positions(is_stable=True)
            pending = sorted(set(self._seen.partitions) - positions.keys())
            waits += [f"a transaction with an offset of partition {partition}" for partition in pending]
            waits += await self._open_logs(state)
            if not waits:
                return positions
            self._require_ours(await self._control.newest(), operation)
            if time.monotonic() > deadline:
                raise JobNotSettled(waits, SETTLED_SECONDS)
            self._report(SwitchProgress("waiting", 0, len(waits), f"waiting for {'; '.join(waits)}"))
            await asyncio.sleep(SETTLED_POLL_SECONDS)

    async def _open_logs(self, state: ControlState) -> list[str]:
        """Partitions in which a transaction is open: their exact ends are not known yet."""
        current = state.current
        names = [*self._seen.outputs]
        if current is not None and await self._has(current.changelog_topic):
            names.append(current.changelog_topic)
        return [
            f"a transaction in {name}-{partition}"
            for name in names
            for partition, bounds in (await self._seen.bounds(name)).items()
            if bounds.stable < bounds.end
        ]

    async def _has(self, changelog: str) -> bool:
        """The changelog is there, with as many partitions as the source."""
        found = (await self._seen.topics(changelog)).get(changelog)
        return found is not None and found.partitions == len(self._seen.partitions)

    async def _delete_leftovers(self, state: ControlState) -> None:
        """Delete the changelogs of attempts that died: no generation has their numbers."""
        tried = {
            other.arguments["generation"]
            for other in state.operations
            if other.kind.is_switch and other.state in (OperationState.FAILED, OperationState.CANCELLED)
        }
        unused = [changelog_name(self._control.group, number) for number in tried if state.generation(number) is None]
        if unused:
            await self._cluster.delete(unused)

    # -- the next generation is made

    async def _make(
        self,
        operation: JobOperation,
        plan: Plan,
        positions: Mapping[int, GroupPosition],
        then: JobState | None,
    ) -> JobOperation:
        topic = changelog_name(self._control.group, operation.arguments["generation"])
        state = await self._control.newest()
        parent = state.generation(plan.parent)
        assert parent is not None  # noqa: S101  the plan was made of it
        decisions = await self._decisions(plan, parent)
        if plan.kept_changelog is not None:
            topic = plan.kept_changelog
            await self._mark_meta(operation, plan, topic, decisions)
        else:
            await self._build(operation, plan, parent, topic, decisions)
        generation = Generation(
            number=operation.arguments["generation"],
            changelog_topic=topic,
            source_topic_id=self._seen.source.id.hex,
            partitions=len(plan.partitions),
            first_offsets=plan.offsets,
            fold=self._seen.configuration.fold,
            origin=plan.kind.value,
            parent=plan.target or plan.parent,
            savepoint=plan.savepoint,
            created_at=time.time(),
        )
        return await self._switch(operation, plan, generation, positions, then)

    async def _decisions(self, plan: Plan, parent: Generation) -> dict[int, dict[bytes, bytes]]:
        """The operators' decisions about records after the bases: they must be made again when these are folded again.

        A generation that began with an earlier base has decisions about records that it has not reached yet.
        """
        since = {one.partition: one.offset for one in plan.partitions if one.base != "current"}
        if not await self._has(parent.changelog_topic):
            return {}
        return await decisions_of(
            self._seen, parent.changelog_topic, since, lambda read: self._tell("reading", read, None, "records")
        )

    async def _builder(self, operation: JobOperation, topic: str, count: CountRead = ignored) -> Builder:
        """A builder that has fenced every older one, of an operation that nobody has overtaken until then.

        So what an overtaken process writes comes before everything of its successor, or never. Raises SwitchOvertaken.
        """
        builder = Builder(self._seen.client, group=self._control.group, topic=topic, count=count)
        await builder.start()
        self._require_ours(await self._control.newest(), operation.id)
        return builder

    async def _mark_meta(
        self, operation: JobOperation, plan: Plan, topic: str, decisions: Mapping[int, Mapping[bytes, bytes]]
    ) -> None:
        """Write what a changelog that is kept lacks. Its own generation may have it too: its offsets stay."""
        changed = [one for one in plan.partitions if one.base != "current"]
        if not changed:
            return
        topic_id = await self._topic_id(topic)
        try:
            builder = await self._builder(operation, topic)
            await builder.describe({one.partition: self._own_rows(one, topic_id, decisions) for one in changed})
        except (Doubt, Superseded) as error:
            raise KafkaRefused(f"a transaction in {topic} has no known outcome: {error}") from error

    async def _build(
        self,
        operation: JobOperation,
        plan: Plan,
        parent: Generation,
        topic: str,
        decisions: Mapping[int, Mapping[bytes, bytes]],
    ) -> None:
        """Make the changelog, load it and check it. A doubt makes it begin again. Raises PortfolioStreamError."""
        for tries in range(1, BUILD_TRIES + 1):
            try:
                await self._build_once(operation, plan, parent, topic, decisions)
                break
            except (Doubt, Superseded) as error:
                if tries == BUILD_TRIES:
                    raise KafkaRefused(f"the state cannot be written to {topic}: {error}") from error

    async def _build_once(
        self,
        operation: JobOperation,
        plan: Plan,
        parent: Generation,
        topic: str,
        decisions: Mapping[int, Mapping[bytes, bytes]],
    ) -> None:
        self._require_ours(await self._control.newest(), operation.id)
        await self._cluster.make_changelog(topic)
        topic_id = await self._topic_id(topic)
        total = plan.rows or None
        builder = await self._builder(operation, topic, lambda rows: self._tell("loading", rows, total, "rows"))
        expected = {one.partition: self._own_rows(one, topic_id, decisions) for one in plan.partitions}
        wanted = await self._load(builder, plan, parent, expected)
        await builder.describe(expected)
        count = sum(sum(one.rows.values()) for one in wanted.values())
        found = await contents_of(self._seen, topic, lambda rows: self._tell("checking", rows, count, "rows"))
        for partition, content in found.items():
            check(topic, partition, content, wanted[partition])
        if await self._topic_id(topic) != topic_id:
            raise KafkaRefused(f"the topic {topic} was made again while it was loaded")

    async def _topic_id(self, topic: str) -> str:
        """Raises KafkaRefused for a topic that is gone: a command that overtakes this one deletes what was built."""
        found = (await self._seen.topics(topic)).get(topic)
        if found is None:
            action = "Look with `portfolio-stream job describe` which command came between, then run this one again."
            raise KafkaRefused(f"the topic {topic} is gone", action)
        return found.id.hex

    async def _load(
        self, builder: Builder, plan: Plan, parent: Generation, own: Mapping[int, list[ChangelogRow]]
    ) -> dict[int, Expected]:
        """Load every partition's rows. Returns what the changelog has to hold then, with the rows `own`."""
        wanted: dict[int, Expected] = {
            one.partition: Expected({}, {}, dict(own[one.partition])) for one in plan.partitions
        }
        parts = [one for one in plan.partitions if one.base == "savepoint"]
        for first in range(0, len(parts), LOADED_AT_ONCE):
            sources: dict[int, RowSource] = {}
            for one in parts[first : first + LOADED_AT_ONCE]:
                manifest = await load(self._objects, one.savepoint or "")
                part = manifest.parts[one.partition]
                mine = wanted[one.partition]
                wanted[one.partition] = Expected(part.rows, part.state_hash, dict(part.moved) | mine.own)
                sources[one.partition] = savepoint_rows(self._objects, manifest, one.partition)
            await builder.load(sources)
        for one in plan.partitions:
            if one.base == "current":
                state = await state_of(
                    self._seen,
                    parent.changelog_topic,
                    one.partition,
                    lambda read, at=one.partition: self._tell("reading", read, None, f"records of partition {at}"),  # type: ignore[misc]
                )
                meta = read_meta(state.pop(META_KEY, None))
                if meta is None or meta.offset != one.offset:
                    place = f"{parent.changelog_topic}-{one.partition}"
                    raise KafkaRefused(f"the broker of {place} does not know its end: it has just started")
                content = ChangelogContent()
                for key, value in state.items():
                    content.add(key, value)
                mine = wanted[one.partition]
                wanted[one.partition] = Expected(content.state.rows, content.state.hashes, content.own | mine.own)
                await builder.load({one.partition: _chunks(state)})
        return wanted

    def _own_rows(
        self, one: PartitionPlan, topic_id: str, decisions: Mapping[int, Mapping[bytes, bytes]]
    ) -> list[ChangelogRow]:
        """The decisions and META with which the partition begins. META goes last."""
        meta = Meta(
            topic_id=self._seen.source.id.hex,
            offset=one.offset,
            partitions=len(self._seen.partitions),
            changelog=topic_id,
            fold=self._seen.configuration.fold,
            repeat=one.repeat or None,
        )
        return [*decisions.get(one.partition, {}).items(), (META_KEY, encode_meta(meta))]

    # -- the switch

    async def _switch(
        self,
        operation: JobOperation,
        plan: Plan,
        generation: Generation,
        positions: Mapping[int, GroupPosition],
        then: JobState | None,
    ) -> JobOperation:
        """Make the new generation the job's. Raises SwitchOvertaken, JobNotSettled, ControlUnavailable."""
        self._tell("switching", 0, None, "")
        left = await self._output_ends()
        for one in plan.partitions:
            for topic, (_, until) in one.repeat.items():
                if one.base != "current" and left[topic][one.partition] != until:  # a broker did not know its end
                    raise JobNotSettled([f"{topic}-{one.partition}, which has other outputs than were planned with"], 0)

        async def confirm() -> None:
            if await self._seen.positions(is_stable=False) != positions:
                raise JobNotSettled(["somebody who has just committed an offset of the group"], 0)

        async def decide(state: ControlState) -> ControlChange | None:
            known = state.operation(operation.id)
            if known is not None and known.state is OperationState.DONE:
                return None
            job = self._require_ours(state, operation.id)
            await confirm()
            await self._until_stable(len(positions))
            return self._change(state, job, operation, plan, generation, left, then, confirm)

        done = (await self._control.change(decide)).operation(operation.id)
        assert done is not None  # noqa: S101  decide has seen it
        return done

    async def _output_ends(self) -> dict[str, list[int]]:
        """Where the output topics end, by partition."""
        outputs = {topic: await self._seen.bounds(topic) for topic in self._seen.outputs}
        return {topic: [bounds[p].end for p in self._seen.partitions] for topic, bounds in outputs.items()}

    async def _until_stable(self, partitions: int) -> None:
        """Wait for the end of an earlier try to switch, whose outcome was not known. Raises JobNotSettled."""
        deadline = time.monotonic() + STABLE_SECONDS
        while len(await self._seen.positions(is_stable=True)) < partitions:
            if time.monotonic() > deadline:
                raise JobNotSettled(["a transaction with an offset of the group"], STABLE_SECONDS)
            await asyncio.sleep(SETTLED_POLL_SECONDS)

    def _change(
        self,
        state: ControlState,
        job: Job,
        operation: JobOperation,
        plan: Plan,
        generation: Generation,
        left: dict[str, list[int]],
        then: JobState | None,
        confirm: Callable[[], Awaitable[None]],
    ) -> ControlChange:
        parent = state.generation(plan.parent)
        assert parent is not None  # noqa: S101
        now = time.time()
        following = after(job.state, JobEvent.SWITCHED, then or JobState(operation.arguments["before"]))
        assert following is not None  # noqa: S101
        done = msgspec.structs.replace(
            operation,
            state=OperationState.DONE,
            ended_at=now,
            result={
                "generation": generation.number,
                "changelog": generation.changelog_topic,
                "savepoints": list(plan.savepoints),
                "folded_again": plan.folded_again,
                "job": following.value,
            },
        )
        return ControlChange(
            records={
                generation_key(parent.number): msgspec.structs.replace(parent, left_outputs=left),
                generation_key(generation.number): generation,
                operation_key(operation.id): done,
                JOB_KEY: msgspec.structs.replace(
                    job,
                    state=following,
                    revision=job.revision + 1,
                    generation=generation.number,
                    operation=operation.id,
                    since=now,
                ),
            },
            offsets=plan.offsets,
            generation=generation.number,
            confirm=confirm,
        )

    def _require_ours(self, state: ControlState, operation: str) -> Job:
        """The job, which this operation migrates. Raises SwitchOvertaken."""
        known, job = state.operation(operation), state.job
        if known is None or known.state.is_final:
            raise SwitchOvertaken(operation, "gone" if known is None else known.state.value)
        if job is None or job.state is not JobState.MIGRATING or job.operation != operation:
            raise SwitchOvertaken(operation, "no more what the job waits for")
        return job

    # -- the end of an operation that is not done

    async def _end(self, operation: str, state: OperationState, reason: str) -> JobOperation | None:
        """Let the job be what it was, and delete what was built.

        Returns the operation as it ended; None if it was never begun.
        """
        try:
            ended = await asking.end(self._control, operation, state, reason=reason)
        except OperationUnknown:
            return None
        if ended.state is not OperationState.DONE:
            try:
                await self._cluster.delete([changelog_name(self._control.group, ended.arguments["generation"])])
            except (PortfolioStreamError, kafka_errors.KafkaError, *LOST) as error:  # the next switch deletes it
                self._report(SwitchProgress("leaving", 0, None, f"what was built is not deleted yet: {error}"))
        return ended

    def _tell(self, step: str, done: int, of: int | None, what: str) -> None:
        counted = f"{done:,}" if of is None else f"{done:,} of {of:,}"
        self._report(SwitchProgress(step, done, of, f"{step} {counted} {what}" if what else step))


def _after_interruption(ended: JobOperation | None) -> str:
    if ended is None:
        return "interrupted before anything was begun"
    if ended.state is OperationState.DONE:
        return f"interrupted, but operation {ended.id} was done already: see `portfolio-stream job describe`"
    return f"interrupted: operation {ended.id} is {ended.state.value}, nothing was switched, the job is as it was"


def changelog_name(group: str, generation: int) -> str:
    """The changelog of a generation that a switch makes."""
    return f"{group}-changelog-g{generation}"


def check(topic: str, partition: int, found: ChangelogContent, wanted: Expected) -> None:
    """Raises StateDiffers."""
    if found.state.rows != dict(wanted.rows):
        raise StateDiffers(topic, partition, f"it has the rows {found.state.rows} instead of {dict(wanted.rows)}")
    for table, expected in wanted.hashes.items():
        if found.state.hashes.get(table) != expected:
            raise StateDiffers(topic, partition, f"the state hash of table {table} is another one")
    if found.own != wanted.own:
        raise StateDiffers(topic, partition, "META or an operator's decision is another one")


async def _chunks(state: Mapping[bytes, bytes]) -> AsyncIterator[list[ChangelogRow]]:
    items = list(state.items())
    for first in range(0, len(items), CHUNK_ROWS):
        yield items[first : first + CHUNK_ROWS]

"""A switch on the simulated Kafka: killed, interrupted or left without an answer at every step.

Afterwards everything has happened or nothing: never offsets without their state, never two generations' parts mixed.
The next command finishes what was asked for.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from itertools import count
from random import Random
from typing import Any, NamedTuple

import msgspec
import pytest

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JOB_KEY, ControlChange, Job, OperationKind, generation_key
from portfolio_stream.errors import PortfolioStreamError, SourceHasGrown
from portfolio_stream.exactly_once.store import META_KEY, Meta, encode_meta, read_meta, skip_key, skip_value
from portfolio_stream.jobs.building import Builder
from portfolio_stream.jobs.contents import state_of
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.jobs.switch import Switcher, changelog_name
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import MemoryObjects
from portfolio_stream.savepoints.write import complete, write_part
from tests.judge.ledger import CHANGELOG, CONTROL, DEAD, OUTPUT, SOURCE
from tests.simulation.kafka.cluster import SimulatedKafka
from tests.simulation.ledger import FOLD, GROUP
from tests.simulation.loop import Process, SimulatedLoop, simulate
from tests.simulation.worker import CONFIGURATION, first_generation
from tests.unit.savepoint_world import PlainForm, head

PARTITIONS = 2
STATE = 10  # the offset of the state
SAVED = 6  # the offset of the savepoint
RECORDS = 12  # of the source
MOVED = 8  # the source record that an operator moved to the dead letters, behind the savepoint
NEW = changelog_name(GROUP, 2)
FAULT_FREE_SECONDS = 20.0  # longer than any time-out of the product's

OLD_ROWS = {b"table\x00a": b"new", b"table\x00b": b"new", skip_key(MOVED): skip_value(None)}
SAVED_ROWS = {b"table\x00a": b"old"}


class Topics:
    """The switch's port for topics."""

    def __init__(self, kafka: SimulatedKafka) -> None:
        self._kafka = kafka

    async def make_changelog(self, topic: str) -> None:
        await self.delete((topic,))
        self._kafka.create_topic(topic, PARTITIONS)
        await asyncio.sleep(0.01)

    async def delete(self, topics: Collection[str]) -> None:
        await asyncio.sleep(0.01)
        for topic in topics:
            if (topic, 0) in self._kafka.logs:
                self._kafka.delete_topic(topic)


class World(NamedTuple):
    kafka: SimulatedKafka
    objects: MemoryObjects
    manifest: Manifest


async def prepared(brokers: int = 1) -> World:
    """A stopped world: a job that has folded ten records a partition, with a savepoint of the first six."""
    kafka = SimulatedKafka(Random(1), brokers)
    for topic, partitions in ((SOURCE, PARTITIONS), (OUTPUT, PARTITIONS), (DEAD, PARTITIONS), (CHANGELOG, PARTITIONS)):
        kafka.create_topic(topic, partitions)
    kafka.create_topic(CONTROL, 1)
    for partition in range(PARTITIONS):
        kafka.append(SOURCE, partition, [(b"k", b"v")] * RECORDS)
        kafka.append(OUTPUT, partition, [(b"k", b"%d" % number) for number in range(STATE)])
    control = JobControl(kafka.connections("first"), group=GROUP, source_topic=SOURCE)
    await control.open()
    async with Observation(kafka.connections("first"), CONFIGURATION) as seen:
        ids = {name: found.id.hex for name, found in (await seen.topics(SOURCE, OUTPUT, DEAD, CHANGELOG)).items()}
        cluster = await seen.cluster_id()
        builder = Builder(seen.client, group=GROUP, topic=CHANGELOG)
        await builder.start()
        meta = Meta(topic_id=ids[SOURCE], offset=STATE, partitions=PARTITIONS, changelog=ids[CHANGELOG], fold=FOLD)
        rows = [*OLD_ROWS.items(), (META_KEY, encode_meta(meta))]
        await builder.describe({partition: rows for partition in range(PARTITIONS)})

    def begin(_: object) -> ControlChange:
        job = Job(state=JobState.RUNNING, revision=1, generation=1)
        offsets = dict.fromkeys(range(PARTITIONS), STATE)
        return ControlChange(
            records={generation_key(1): first_generation(PARTITIONS), JOB_KEY: job}, offsets=offsets, generation=1
        )

    await control.change(begin)
    await control.stop()
    objects = MemoryObjects()
    return World(kafka, objects, await saved(objects, ids, cluster))


async def saved(objects: MemoryObjects, ids: dict[str, str], cluster: str) -> Manifest:
    name = "20261129T203512Z-00000a"
    for partition in range(PARTITIONS):
        await write_part(
            objects,
            savepoint=name,
            partition=partition,
            offset=SAVED,
            changelog_topic_id=ids[CHANGELOG],
            changelog_offset=1,
            outputs={OUTPUT: SAVED, DEAD: 0},
            fold=FOLD,
            rows=sorted(SAVED_ROWS.items()),
            form=PlainForm(),
        )
    of = msgspec.structs.replace(
        head(name, PARTITIONS),
        cluster_id=cluster,
        group=GROUP,
        source_topic=SOURCE,
        source_topic_id=ids[SOURCE],
        output_topics={topic: ids[topic] for topic in (OUTPUT, DEAD)},
        fold=FOLD,
    )
    return await complete(objects, of)


async def switch(world: World, client: str, wanted: Wanted | None = None) -> str:
    """A command that restores the savepoint. Returns the state of its operation, or the name of its error."""
    connections = world.kafka.connections(client)
    control = JobControl(connections, group=GROUP, source_topic=SOURCE)
    asked = wanted or Wanted(OperationKind.RESTORE, savepoint="latest")
    try:
        await control.open()
        async with Switcher(control, connections, Topics(world.kafka), world.objects, CONFIGURATION) as switcher:
            plan = await switcher.preview(asked)
            return (await switcher.carry_out(asked, plan, by=client)).state.value
    except PortfolioStreamError as error:
        return type(error).__name__
    finally:
        await control.stop()


class Found(NamedTuple):
    job: str
    generation: int
    #: by partition: offset and generation
    offsets: list[tuple[int, int | None]]
    #: rows of the generation's changelog, by partition
    rows: list[dict[bytes, bytes]]
    metas: list[tuple[int, Any]]
    operations: list[str]
    topics: set[str]


async def found(world: World, client: str = "judge") -> Found:
    """How the job stands, as a reader sees it."""
    connections = world.kafka.connections(client)
    control = JobControl(connections, group=GROUP, source_topic=SOURCE)
    state = await control.open()
    job, current = state.job, state.current
    assert job is not None and current is not None
    async with Observation(connections, CONFIGURATION) as seen:
        positions = await seen.positions(is_stable=True)
        topic = current.changelog_topic
        rows = [await state_of(seen, topic, partition) for partition in seen.partitions]
        for one in rows:
            del one[META_KEY]
        metas = await seen.metas(topic)
        topic_id = (await seen.topics(topic))[topic].id.hex
    assert {topic_id} == {meta.changelog for meta in metas.values()}
    await control.stop()
    return Found(
        job.state.value,
        job.generation,
        [(positions[p].offset, positions[p].generation) for p in range(PARTITIONS)],
        rows,
        [(metas[p].offset, metas[p].repeat) for p in range(PARTITIONS)],
        [operation.state.value for operation in state.operations],
        {name for name, _ in world.kafka.logs if name.startswith(f"{GROUP}-changelog-g")},
    )


def is_old(one: Found) -> bool:
    assert [(STATE, 1)] * PARTITIONS == one.offsets
    assert [OLD_ROWS] * PARTITIONS == one.rows
    assert [(STATE, None)] * PARTITIONS == one.metas
    return True


def is_new(one: Found) -> bool:
    assert [(SAVED, one.generation)] * PARTITIONS == one.offsets
    assert [SAVED_ROWS | {skip_key(MOVED): skip_value(None)}] * PARTITIONS == one.rows
    assert [(SAVED, {OUTPUT: (SAVED, STATE)})] * PARTITIONS == one.metas
    return True


def all_or_nothing(one: Found) -> None:
    assert is_old(one) if one.generation == 1 else is_new(one)


def in_world(work: Callable[[World, SimulatedLoop], Awaitable[Any]], seed: int = 1, brokers: int = 1) -> Any:
    async def main(loop: SimulatedLoop) -> Any:
        return await work(await prepared(brokers), loop)

    return simulate(main, Random(seed))


def test_a_restore_without_faults() -> None:
    """State, offsets and where outputs stand move together, and an operator's later decision goes along."""

    async def work(world: World, _: SimulatedLoop) -> Found:
        assert "done" == await switch(world, "one")
        return await found(world)

    one = in_world(work)
    assert ("running", 2, ["done"], {NEW}) == (one.job, one.generation, one.operations, one.topics)
    assert is_new(one)


def steps_of_a_switch() -> int:
    """How many steps the process of a switch takes."""

    async def work(world: World, loop: SimulatedLoop) -> int:
        process = Process("one")
        await process.run(loop.create_task, switch(world, "one"))
        return process.steps

    steps: int = in_world(work)
    return steps


STEPS = steps_of_a_switch()
EVERY = 17  # step; a campaign of all steps takes minutes


@pytest.mark.parametrize("dies_at", range(2, STEPS + 1, EVERY))
def test_a_process_that_is_killed_at_any_step_leaves_everything_or_nothing(dies_at: int) -> None:
    """kill -9 of the command. The next command finishes, and nothing of the dead attempt is left."""

    async def work(world: World, loop: SimulatedLoop) -> None:
        process = Process("one")
        process.dies_at = dies_at
        process.run(loop.create_task, switch(world, "one"))
        await process.died.wait()
        await asyncio.sleep(FAULT_FREE_SECONDS)
        between = await found(world)
        all_or_nothing(between)
        assert "done" == await switch(world, "two")
        after = await found(world, "judge 2")
        assert is_new(after)
        assert "running" == after.job
        assert "running" not in after.operations
        kept = {changelog_name(GROUP, number) for number in {between.generation, after.generation} - {1}}
        assert kept == after.topics

    in_world(work)


async def reached(process: Process, step: int, task: "asyncio.Task[str]") -> None:
    """Return when the process has taken so many steps, or its task is over."""
    for _ in count():
        if process.steps >= step or task.done():
            return
        await asyncio.sleep(0.0001)


@pytest.mark.parametrize("step", range(2, STEPS + 1, EVERY))
def test_an_interrupted_switch_lets_the_job_be_what_it_was(step: int) -> None:
    """Ctrl-C at any step: the operation is cancelled, the old generation runs, or the switch was done already."""

    async def work(world: World, loop: SimulatedLoop) -> None:
        process = Process("one")
        task = process.run(loop.create_task, switch(world, "one"))
        await reached(process, step, task)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(FAULT_FREE_SECONDS)
        after = await found(world)
        all_or_nothing(after)
        assert "running" == after.job
        assert after.operations in ([], ["cancelled"], ["done"])
        assert ({NEW} if after.generation == 2 else set()) == after.topics

    in_world(work)


LOST = (
    "EndTxn",
    "Produce",
    "InitProducerId",
    "TxnOffsetCommit",
    "OffsetFetch",
    "ConsumerGroupDescribe",
    "ListOffsets",
    "Metadata",
)


@pytest.mark.parametrize("api", LOST)
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_lost_answers_change_nothing(api: str, at: int) -> None:
    """The request took effect, and the answer is lost: the switch asks again, or begins its build again."""

    async def work(world: World, loop: SimulatedLoop) -> None:
        link, seen = world.kafka.link("one"), [0]

        def lose(_: int) -> None:
            seen[0] += 1
            if seen[0] == at:
                link.lose_reply_of(api)
            else:
                link.at_replies[api] = lose

        link.at_replies[api] = lose
        said = await switch(world, "one")
        await asyncio.sleep(FAULT_FREE_SECONDS)
        after = await found(world)
        all_or_nothing(after)
        assert (said == "done") == (after.generation == 2)
        assert "done" == said

    in_world(work)


@pytest.mark.parametrize("seed", range(1, 9))
def test_a_switch_over_bad_links_is_done_or_not_done(seed: int) -> None:
    """Requests and answers are lost at random; what the command says at its end is true."""

    async def work(world: World, loop: SimulatedLoop) -> None:
        link = world.kafka.link("one")
        link.reply_loss = link.request_loss = 0.05
        said = await switch(world, "one")
        link.heal()
        await asyncio.sleep(FAULT_FREE_SECONDS)
        after = await found(world)
        all_or_nothing(after)
        if said == "done":
            assert is_new(after)
        if said not in ("done", "ControlUnavailable"):
            assert (1, "running") == (after.generation, after.job)

    in_world(work, seed)


def test_a_process_that_is_overtaken_and_wakes_up_does_no_harm() -> None:
    """It stood still while it loaded; another command switched; it wakes, and finds its operation ended."""

    async def work(world: World, loop: SimulatedLoop) -> None:
        for pause_at in range(100, STEPS, 101):
            process = Process(f"slow-{pause_at}")
            task = process.run(loop.create_task, switch(world, process.name))
            await reached(process, pause_at, task)
            process.pause()
            assert "done" == await switch(world, f"fast-{pause_at}")
            before = await found(world, f"judge-{pause_at}")
            process.wake(loop)
            said = await task
            await asyncio.sleep(FAULT_FREE_SECONDS)
            after = await found(world, f"judge-{pause_at}-after")
            is_new(after)
            if said == "done":  # it had switched before it stood still
                continue
            assert (before.generation, before.offsets, before.rows) == (after.generation, after.offsets, after.rows)
            assert "running" == after.job

    in_world(work)


@pytest.mark.parametrize("pause_at", range(20, STEPS, 13))
def test_an_overtaken_rollback_writes_nothing_into_a_changelog_that_runs_again(pause_at: int) -> None:
    """A rollback stood still; another one switched, and workers went on; it wakes: their META stays the newest."""
    back = Wanted(OperationKind.ROLLBACK, generation=1)

    async def work(world: World, loop: SimulatedLoop) -> None:
        assert "done" == await switch(world, "one")
        process = Process("slow")
        task = process.run(loop.create_task, switch(world, "slow", back))
        await reached(process, pause_at, task)
        process.pause()
        fast = await switch(world, "fast", back)
        assert fast in ("done", "SwitchRefused")  # the switch of the slow one may have been decided already
        await go_on(world)
        process.wake(loop)
        await task
        await asyncio.sleep(FAULT_FREE_SECONDS)
        values = [record.value for record in world.kafka.read_committed(CHANGELOG, 0) if record.key == META_KEY]
        meta = read_meta(values[-1])
        assert meta is not None and STATE + 1 == meta.offset
        state = await found(world, "judge")
        assert "running" == state.job

    in_world(work)


async def go_on(world: World) -> None:
    """Write what a worker of the first changelog writes when it has folded one more record."""
    async with Observation(world.kafka.connections("worker"), CONFIGURATION) as seen:
        ids = {name: known.id.hex for name, known in (await seen.topics(SOURCE, CHANGELOG)).items()}
        builder = Builder(seen.client, group="worker", topic=CHANGELOG)
        await builder.start()
        meta = Meta(topic_id=ids[SOURCE], offset=STATE + 1, partitions=PARTITIONS, changelog=ids[CHANGELOG], fold=FOLD)
        await builder.describe({0: [(META_KEY, encode_meta(meta))]})


def test_metas_that_are_read_back_are_metas() -> None:
    """Of the world that the tests begin with."""

    async def work(world: World, _: SimulatedLoop) -> None:
        values = [record.value for record in world.kafka.read_committed(CHANGELOG, 0) if record.key == META_KEY]
        meta = read_meta(values[-1])
        assert meta is not None and STATE == meta.offset

    in_world(work)


def test_a_source_that_has_grown() -> None:
    """The switch ends with the two topics' names, instead of waiting for leaders of partitions that do not exist."""

    async def main(_: SimulatedLoop) -> None:
        kafka = SimulatedKafka(Random(1), 1)
        for topic, partitions in ((SOURCE, PARTITIONS + 1), (OUTPUT, PARTITIONS), (DEAD, PARTITIONS)):
            kafka.create_topic(topic, partitions)
        with pytest.raises(SourceHasGrown, match=f"Topic {SOURCE} has 3 partitions, but {OUTPUT} has 2"):
            async with Observation(kafka.connections("first"), CONFIGURATION):
                pass

    simulate(main, Random(1))

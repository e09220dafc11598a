"""Gathers the facts of a plan, and makes the plan: what was asked for becomes offsets of partitions."""

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from portfolio_stream.control.state import ControlState
from portfolio_stream.control.values import Generation, OperationKind
from portfolio_stream.errors import GenerationUnknown, JobNotBegun, KafkaRefused, SavepointTampered, SavepointTorn
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.jobs import plans
from portfolio_stream.jobs.facts import Facts, PartitionFacts, state_problem
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.jobs.plans import Plan
from portfolio_stream.kafka.offset_lookup import NO_OFFSET, NO_POSITION
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.read import load, savepoints


class Wanted(NamedTuple):
    """What an operator asks for."""

    kind: OperationKind
    #: restore: id of a savepoint, or `latest`
    savepoint: str | None = None
    #: rollback: number of a generation
    generation: int | None = None
    #: reset: offsets by partition; of an adopt that was planned: the moved offsets
    offsets: Mapping[int, int] = {}
    #: reset: every partition to the source's start
    to_earliest: bool = False
    #: reset: every partition to its first record that is not older, in milliseconds since 1970
    to_time_ms: int | None = None
    #: reset: every partition by so many records; negative
    by: int | None = None


class Gathering:
    def __init__(self, observation: Observation, objects: Objects) -> None:
        self._observation = observation
        self._objects = objects

    async def plan(self, wanted: Wanted, state: ControlState, *, again: bool = False) -> Plan:
        """What the switch would do. With `again`, of an operation that was planned before the job was stopped.

        Raises SwitchRefused, GenerationUnknown, JobNotBegun, KafkaRefused and the errors of savepoints.
        """
        current = state.current
        if current is None:
            raise JobNotBegun(self._observation.configuration.group)
        facts = await self.facts(current)
        match wanted.kind:
            case OperationKind.RESTORE:
                return plans.restore(facts, await load(self._objects, wanted.savepoint or "latest"))
            case OperationKind.FRESH:
                return plans.fresh(facts)
            case OperationKind.RESET:
                targets = await self._targets(wanted, facts)
                return plans.reset(facts, targets, await self._manifests())
            case OperationKind.ADOPT:
                moved = wanted.offsets if again else plans.moved_offsets(facts)
                return plans.adopt_at(facts, moved, await self._manifests() if moved else [])
            case OperationKind.ROLLBACK:
                target = last_holder(state, wanted.generation or 0)
                return plans.rollback(facts, target, await self._metas_of(target, facts))
            case _:
                raise AssertionError(f"{wanted.kind.value} makes no generation")

    async def facts(self, current: Generation) -> Facts:
        """Raises KafkaRefused."""
        seen, conf = self._observation, self._observation.configuration
        positions = await seen.positions(is_stable=False)
        facts = Facts(
            cluster_id=await seen.cluster_id(),
            group=conf.group,
            source_topic=conf.source_topic,
            source_topic_id=seen.source.id.hex,
            output_topics={name: found.id.hex for name, found in seen.outputs.items()},
            fold=conf.fold,
            older_folds=conf.older_folds,
            generation=current,
            source_partitions=len(seen.partitions),
            partitions=[],
        )
        source = await seen.bounds(conf.source_topic)
        outputs = {topic: await seen.bounds(topic) for topic in conf.output_topics}
        partitions = [
            PartitionFacts(
                partition=partition,
                source=source[partition],
                outputs={topic: bounds[partition] for topic, bounds in outputs.items()},
                group=positions.get(partition, NO_POSITION),
            )
            for partition in seen.partitions
        ]
        metas = await self._metas(current.changelog_topic, facts)
        for index, at in enumerate(partitions):
            meta, problem = metas[at.partition]
            is_strange = meta is not None and meta.topic_id != facts.source_topic_id
            partitions[index] = replace(at, meta=meta, problem=problem, is_of_another_source=is_strange)
        return replace(facts, partitions=partitions)

    async def _metas(self, topic: str, facts: Facts) -> dict[int, tuple[Meta | None, str | None]]:
        """META of a changelog, and why its state cannot be used, by partition."""
        every = self._observation.partitions
        found = (await self._observation.topics(topic)).get(topic)
        if found is None:
            return dict.fromkeys(every, (None, None))
        if found.partitions != len(every):
            problem = f"its changelog {topic} has {found.partitions} partitions, the source has {len(every)}"
            return dict.fromkeys(every, (None, problem))
        bounds = await self._observation.bounds(topic)
        try:
            metas = await self._observation.metas(topic)
        except KafkaRefused as error:
            return dict.fromkeys(every, (None, error.cause))
        described: dict[int, tuple[Meta | None, str | None]] = dict.fromkeys(every, (None, None))
        for partition, meta in metas.items():
            place, start = f"{topic}-{partition}", bounds[partition].start
            described[partition] = meta, state_problem(facts, meta, changelog=found.id.hex, place=place, start=start)
        return described

    async def _metas_of(self, target: Generation, facts: Facts) -> dict[int, Meta | str | None]:
        """META of an earlier generation's changelog, or why its state cannot be used, by partition.

        None: nothing was ever written there, because that generation had no record of the partition.
        """
        topic = target.changelog_topic
        found = await self._metas(topic, facts)
        if all(meta is None for meta, _ in found.values()):  # the topic was deleted, or deleted and made again
            missing = f"the changelog {topic} of generation {target.number} has no state of any partition"
            return {partition: problem or missing for partition, (_, problem) in found.items()}
        ends = {partition: bounds.end for partition, bounds in (await self._observation.bounds(topic)).items()}
        missing = f"the changelog {topic} of generation {target.number} has no state of it"
        return {
            partition: problem or meta or (missing if ends[partition] else None)
            for partition, (meta, problem) in found.items()
        }

    async def _targets(self, wanted: Wanted, facts: Facts) -> dict[int, int]:
        """Where a reset goes, by partition."""
        if wanted.to_earliest:
            return {at.partition: at.source.start for at in facts.partitions}
        if wanted.by is not None:
            if wanted.by > 0:
                return {at.partition: at.current + wanted.by for at in facts.partitions}
            return {at.partition: max(at.source.start, at.current + wanted.by) for at in facts.partitions}
        if wanted.to_time_ms is not None:
            since = await self._observation.offsets_since(wanted.to_time_ms)
            found = {at.partition: since[at.partition] for at in facts.partitions}
            # a partition without a record since then, or that has folded none of them, stays where it is
            return {
                at.partition: at.current if found[at.partition] == NO_OFFSET else min(found[at.partition], at.current)
                for at in facts.partitions
            }
        return dict(wanted.offsets)

    async def _manifests(self) -> list[Manifest]:
        """All savepoints that are complete."""
        found = []
        for summary in await savepoints(self._objects):
            if summary.state == "complete":
                try:
                    found.append(await load(self._objects, summary.id))
                except (SavepointTampered, SavepointTorn):
                    continue
        return found


def settled_wanted(wanted: Wanted, plan: Plan) -> Wanted:
    """The same with everything decided that depends on the moment: for the plan of the stopped job."""
    return wanted._replace(savepoint=plan.savepoint, offsets=plan.asked, to_earliest=False, to_time_ms=None, by=None)


def last_holder(state: ControlState, number: int) -> Generation:
    """The newest generation with the changelog of this generation: it knows where the outputs stood at its end.

    Raises GenerationUnknown.
    """
    named = state.generation(number)
    if named is None:
        raise GenerationUnknown(number)
    return max(
        (one for one in state.generations if one.changelog_topic == named.changelog_topic), key=lambda one: one.number
    )

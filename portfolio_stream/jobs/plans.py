"""What a switch to the next generation will do, as a value: pure functions of facts. No I/O, no clock.

A generation's state begins, in each partition, with one of these bases:

| base | what it is |
| --- | --- |
| `savepoint` | the part of a savepoint |
| `current` | the state as it is |
| `empty` | no state, from the source's start |
| `generation` | the state that an earlier generation left |

1. Nothing is ever skipped: no partition begins after the offset up to which its state holds the source.
2. Nothing is written twice: if outputs stand already that the fold will give again, `repeat` says where they stand. The
   engine compares them (`exactly_once.repeat`). If some of them are deleted, the switch is refused.
3. The source still has every record from a base's offset on. Otherwise the switch is refused.
4. A plan is made twice: for the operator's eyes while the job may run, and again when the job has stopped.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from portfolio_stream.control.values import Generation, OperationKind
from portfolio_stream.errors import SavepointForeign, SwitchRefused
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.jobs.facts import Facts, PartitionFacts, foreign
from portfolio_stream.kafka.offset_lookup import NO_OFFSET
from portfolio_stream.savepoints.manifest import Manifest

FOLD_RATE = 20_000  # records/s that are folded again, by one worker with the outputs compared; for an estimate only
LOAD_RATE = 100_000  # rows/s that are loaded and checked; for an estimate only
START_SECONDS = 5.0  # the workers leave, and join again

StateBase = Literal["savepoint", "current", "empty", "generation"]
#: offsets [next, until] of an output partition, by topic
StandingSpans = dict[str, tuple[int, int]]

VERBS: Mapping[OperationKind, str] = {
    OperationKind.RESTORE: "be restored",
    OperationKind.FRESH: "start afresh",
    OperationKind.RESET: "reset its offsets",
    OperationKind.ADOPT: "adopt the group's offsets",
    OperationKind.ROLLBACK: "go back",
}


class PartitionPlan(msgspec.Struct, frozen=True, kw_only=True):
    partition: int
    base: StateBase
    #: the next source offset with which the partition begins
    offset: int
    #: the job's next source offset now
    before: int
    #: the offset that was asked for, if one was
    asked: int | None = None
    savepoint: str | None = None
    #: outputs that stand already, and are given once more
    repeat: StandingSpans = {}
    #: rows to load; None if they are not counted yet
    rows: int | None = None
    note: str | None = None

    @property
    def folded_again(self) -> int:
        """At most how many records are folded again."""
        return max(0, self.before - self.offset)

    def __str__(self) -> str:
        words = {
            "savepoint": f"savepoint {self.savepoint} at {self.offset}",
            "current": f"its state as it is, at {self.offset}",
            "empty": f"empty, at {self.offset}",
            "generation": f"the earlier generation's state, at {self.offset}",
        }
        asked = "" if self.asked is None or self.asked == self.offset else f"asked {self.asked}, base "
        again = f": {self.offset}..{self.before} are folded again" if self.folded_again else ""
        ahead = f": it goes on {self.offset - self.before} records ahead" if self.offset > self.before else ""
        note = "" if self.note is None else f" ({self.note})"
        return f"partition {self.partition}: {asked}{words[self.base]}{again}{ahead}{note}"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    kind: OperationKind
    #: the job's generation, from which the next one is made
    parent: int
    partitions: tuple[PartitionPlan, ...]
    #: the changelog that holds the state already; None: a new one is made
    kept_changelog: str | None = None
    #: of a rollback: the generation to go back to
    target: int | None = None
    #: of a restore: the savepoint
    savepoint: str | None = None

    @property
    def folded_again(self) -> int:
        """At most how many records are folded again."""
        return sum(partition.folded_again for partition in self.partitions)

    @property
    def rows(self) -> int:
        """Rows to load, as far as they are counted."""
        return sum(partition.rows or 0 for partition in self.partitions)

    @property
    def seconds(self) -> float:
        """About how long it takes until the job is where it is now, with one worker."""
        return START_SECONDS + self.rows / LOAD_RATE + self.folded_again / FOLD_RATE

    @property
    def savepoints(self) -> tuple[str, ...]:
        """The savepoints that are bases."""
        return tuple(sorted({one.savepoint for one in self.partitions if one.savepoint is not None}))

    @property
    def offsets(self) -> dict[int, int]:
        """The group's next offsets after the switch."""
        return {partition.partition: partition.offset for partition in self.partitions}

    @property
    def asked(self) -> dict[int, int]:
        """The offsets that were asked for, by partition."""
        return {one.partition: one.asked for one in self.partitions if one.asked is not None}

    @property
    def lines(self) -> list[str]:
        """For people: a line for each partition, and one for all."""
        return [*map(str, self.partitions), self.summary]

    @property
    def summary(self) -> str:
        compared = "; outputs that stand are compared and not written again" if self.folded_again else ""
        again = f"{self.folded_again:,} records are folded again" if self.folded_again else "no record is folded again"
        return f"{again}{compared}; about {self.seconds:,.0f} s"


def plan_json(plan: Plan) -> dict[str, object]:
    """The plan for `-o json --dry-run` and for ?dry_run=true."""
    built: dict[str, object] = msgspec.to_builtins(plan)
    return built | {"folded_again": plan.folded_again, "seconds": plan.seconds}


def restore(facts: Facts, manifest: Manifest) -> Plan:
    """Every partition begins with its part of one savepoint. Raises SavepointForeign, SwitchRefused."""
    if reasons := foreign(facts, manifest):
        raise SavepointForeign(manifest.id, reasons)
    return _plan(
        facts,
        OperationKind.RESTORE,
        [_from_savepoint(at, manifest) for at in facts.partitions],
        f"Name another savepoint: `portfolio-stream savepoint list` shows them. {_LATER}",
        savepoint=manifest.id,
    )


def fresh(facts: Facts) -> Plan:
    """Every partition begins without a state at the source's start. Raises SwitchRefused."""
    return _plan(
        facts,
        OperationKind.FRESH,
        [_empty(at) for at in facts.partitions],
        "Start from a savepoint instead: `portfolio-stream job start --from latest`. To give up the outputs, delete "
        "and make again the output topics first.",
    )


def reset(facts: Facts, targets: Mapping[int, int], manifests: Iterable[Manifest]) -> Plan:
    """The named partitions begin with the newest base at or before their targets. Raises SwitchRefused."""
    bases = [manifest for manifest in manifests if not foreign(facts, manifest)]
    partitions = [
        _based(at, targets[at.partition], bases) if at.partition in targets else _current(at) for at in facts.partitions
    ]
    unknown = sorted(targets.keys() - {at.partition for at in facts.partitions})
    action = (
        "Ask for an offset that a base covers: `portfolio-stream savepoint list` and `portfolio-stream savepoint "
        f"describe` show the offsets of each savepoint. {_LATER}"
    )
    if unknown:
        raise SwitchRefused(VERBS[OperationKind.RESET], [f"the source has no partition {unknown[0]}"], action)
    plan = _plan(facts, OperationKind.RESET, partitions, action)
    if not any(one.base != "current" for one in plan.partitions):
        raise SwitchRefused(
            VERBS[OperationKind.RESET],
            ["every partition that was asked for stands at its target already"],
            "Nothing is to be done. `portfolio-stream lag` shows where the group stands.",
        )
    return plan


def adopt(facts: Facts, manifests: Iterable[Manifest]) -> Plan:
    """Partitions whose group offset somebody moved go back to it, or on from their state. Raises SwitchRefused."""
    return adopt_at(facts, moved_offsets(facts), manifests)


def moved_offsets(facts: Facts) -> dict[int, int]:
    """The group's offsets that differ from the state's, and that no worker has committed."""
    return {
        at.partition: at.group.offset
        for at in facts.partitions
        if at.state_offset is not None
        and at.group.offset not in (NO_OFFSET, at.state_offset)
        and at.group.generation is None
    }


def adopt_at(facts: Facts, moved: Mapping[int, int], manifests: Iterable[Manifest]) -> Plan:
    """As `adopt`, with the offsets that somebody was seen to have moved."""
    if not moved:
        raise SwitchRefused(
            VERBS[OperationKind.ADOPT],
            ["nobody has moved an offset of the group away from the state"],
            "Nothing is to be done. To move the offsets, use `portfolio-stream offsets reset`.",
        )
    bases = [manifest for manifest in manifests if not foreign(facts, manifest)]
    partitions: list[PartitionPlan | str] = []
    for at in facts.partitions:
        target = moved.get(at.partition)
        if target is None:
            partitions.append(_current(at))
        elif target < at.current:
            partitions.append(_based(at, target, bases))
        else:
            note = f"the group's offset was moved to {target}: the state goes on from where it is, nothing is skipped"
            partitions.append(_noted(_current(at), asked=target, note=note))
    is_forward = all(not isinstance(one, str) and one.base == "current" for one in partitions)
    return _plan(
        facts,
        OperationKind.ADOPT,
        partitions,
        "Move the group's offset to one that a base covers, or give the moved offset up with `portfolio-stream "
        f"partitions retry P --from-state`. {_LATER}",
        kept_changelog=facts.generation.changelog_topic if is_forward else None,
    )


def rollback(facts: Facts, target: Generation, metas: Mapping[int, Meta | str | None]) -> Plan:
    """Every partition goes on from the state that an earlier generation left. Raises SwitchRefused.

    `metas` has, for each partition, META of that generation's changelog, or why its state cannot be used; None: the
    generation had no record of the partition.
    """
    action = "Restore a savepoint instead: `portfolio-stream job start --from latest`."
    if target.changelog_topic == facts.generation.changelog_topic:
        reason = f"generation {target.number} has the same state as the job's generation {facts.generation.number}"
        raise SwitchRefused(VERBS[OperationKind.ROLLBACK], [reason], "Nothing is to be done.")
    if target.is_expired:
        reason = f"the changelog of generation {target.number} was deleted by `generations expire`"
        raise SwitchRefused(VERBS[OperationKind.ROLLBACK], [reason], action)
    partitions = [_left_by(at, target, metas[at.partition]) for at in facts.partitions]
    return _plan(
        facts,
        OperationKind.ROLLBACK,
        partitions,
        action,
        kept_changelog=target.changelog_topic,
        target=target.number,
    )


# -- one partition: a plan, or the reason why there is none

_LATER = "Nothing was changed."


def _plan(
    facts: Facts,
    kind: OperationKind,
    partitions: Sequence[PartitionPlan | str],
    action: str,
    **fields: str | int | None,
) -> Plan:
    """Raises SwitchRefused with the reasons of all partitions."""
    reasons = [one for one in partitions if isinstance(one, str)]
    if reasons:
        raise SwitchRefused(VERBS[kind], reasons, action)
    whole = tuple(one for one in partitions if isinstance(one, PartitionPlan))
    return Plan(kind=kind, parent=facts.generation.number, partitions=whole, **fields)  # type: ignore[arg-type]


def _noted(found: PartitionPlan | str, *, asked: int, note: str) -> PartitionPlan | str:
    return found if isinstance(found, str) else msgspec.structs.replace(found, asked=asked, note=note)


def _from_savepoint(at: PartitionFacts, manifest: Manifest, asked: int | None = None) -> PartitionPlan | str:
    part = manifest.parts[at.partition]
    if not at.source.start <= part.offset <= at.source.end:
        return _outside(at, f"savepoint {manifest.id} ends at", part.offset)
    found = _repeated(at, part.outputs, f"savepoint {manifest.id}")
    if isinstance(found, str):
        return found
    return PartitionPlan(
        partition=at.partition,
        base="savepoint",
        savepoint=manifest.id,
        asked=asked,
        offset=part.offset,
        before=at.current,
        repeat=found,
        rows=sum(part.rows.values()) + len(part.moved),
    )


def _empty(at: PartitionFacts, asked: int | None = None) -> PartitionPlan | str:
    """Without a state. The records before the source's start had outputs, if there are any outputs."""
    has_outputs = any(bounds.end > 0 for bounds in at.outputs.values())
    if at.is_of_another_source and has_outputs:
        return f"partition {at.partition}: its outputs are of another source topic, which was deleted and made again"
    if at.source.start > 0 and has_outputs:
        return (
            f"partition {at.partition}: the source begins at {at.source.start}, and outputs stand of records before "
            "it: a state without these records would differ from them"
        )
    found = _repeated(at, dict.fromkeys(at.outputs, 0), "the empty state")
    if isinstance(found, str):
        return found
    return PartitionPlan(
        partition=at.partition,
        base="empty",
        asked=asked,
        offset=at.source.start,
        before=at.current,
        repeat=found,
        rows=0,
    )


def _current(at: PartitionFacts) -> PartitionPlan | str:
    if at.problem is not None:
        return f"partition {at.partition}: its state cannot be used: {at.problem}"
    if at.meta is None:
        if at.group.offset != NO_OFFSET:
            return f"partition {at.partition}: the changelog has no state, although the group is at {at.group.offset}"
        return _empty(at)
    if not at.source.start <= at.meta.offset <= at.source.end:
        return _outside(at, "its state ends at", at.meta.offset)
    if at.group.generation is not None and at.meta.offset < at.group.offset:  # META was read after the group's offset
        return (
            f"partition {at.partition}: the changelog's state ends at {at.meta.offset}, before the group's offset "
            f"{at.group.offset}: a broker that has just started may not know its end yet; if it stays so, records of "
            "the changelog or the control topic are lost, and `portfolio-stream job start --from latest` makes a whole "
            "state"
        )
    return PartitionPlan(
        partition=at.partition,
        base="current",
        offset=at.meta.offset,
        before=at.meta.offset,
        repeat=dict(at.meta.repeat or {}),
    )


def _based(at: PartitionFacts, target: int, bases: Sequence[Manifest]) -> PartitionPlan | str:
    """The newest base at or before the target."""
    if target > at.current:
        return (
            f"partition {at.partition}: offset {target} is after the job's offset {at.current}, and no record is ever "
            "skipped (`portfolio-stream dlq` and `partitions dead-letter` pass a single record)"
        )
    if target == at.state_offset:
        return _current(at)
    if target < at.source.start:
        return f"partition {at.partition}: offset {target} is gone, the source begins at {at.source.start}"
    known = sorted((base.parts[at.partition].offset, base.id, base) for base in bases)
    usable = [(offset, base) for offset, _, base in known if at.source.start <= offset]
    reasons: list[str] = []
    for offset, base in reversed(usable):
        if offset <= target:
            found = _from_savepoint(at, base, target)
            if not isinstance(found, str):
                return found
            reasons.append(found)
    if at.source.start == 0:
        return _empty(at, target)
    later = f"; the first savepoint after it is {usable[0][1].id}, at {usable[0][0]}" if usable else ""
    why = f"; {reasons[0]}" if reasons else ""
    return (
        f"partition {at.partition}: the source begins at {at.source.start}, and no savepoint has a state between "
        f"{at.source.start} and {target}{later}{why}"
    )


def _left_by(at: PartitionFacts, target: Generation, meta: Meta | str | None) -> PartitionPlan | str:
    if meta is None:
        return _empty(at)
    if isinstance(meta, str):
        return f"partition {at.partition}: {meta}"
    if not at.source.start <= meta.offset <= at.source.end:
        return _outside(at, f"generation {target.number} ended at", meta.offset)
    left = {topic: ends[at.partition] for topic, ends in target.left_outputs.items() if at.partition < len(ends)}
    standing = left | {topic: span[0] for topic, span in (meta.repeat or {}).items()}
    found = _repeated(at, standing, f"generation {target.number}")
    if isinstance(found, str):
        return found
    return PartitionPlan(
        partition=at.partition, base="generation", offset=meta.offset, before=at.current, repeat=found, rows=0
    )


def _repeated(at: PartitionFacts, standing: Mapping[str, int], base: str) -> StandingSpans | str:
    """The outputs that the fold gives once more, where the base's outputs end at `standing`."""
    repeat: StandingSpans = {}
    for topic, bounds in at.outputs.items():
        place = f"{topic}-{at.partition}"
        following = standing.get(topic)
        if following is None:
            return f"partition {at.partition}: {base} does not say where {topic} stood"
        if following > bounds.end:
            lost = f"but the log ends at {bounds.end}"
            return f"partition {at.partition}: {base} had outputs up to {place}@{following}, {lost}"
        if following == bounds.end:
            continue
        if bounds.start > following:
            return (
                f"partition {at.partition}: the outputs from {place}@{following} on have to be compared, but the log "
                f"begins at {bounds.start}: somebody deleted records"
            )
        repeat[topic] = (following, bounds.end)
    return repeat


def _outside(at: PartitionFacts, words: str, offset: int) -> str:
    missing = "what stood before is gone" if offset < at.source.start else "the source has lost records"
    return (
        f"partition {at.partition}: {words} offset {offset}, outside of the source log {at.source.start}.."
        f"{at.source.end}: {missing}"
    )

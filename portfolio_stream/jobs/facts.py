"""What a plan is made from: what Kafka, the control topic and the savepoints say of a job at one moment. Values."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from portfolio_stream.control.values import Generation
from portfolio_stream.exactly_once.store import Meta
from portfolio_stream.kafka.offset_lookup import NO_OFFSET, NO_POSITION, GroupPosition
from portfolio_stream.savepoints.manifest import Manifest


class LogBounds(NamedTuple):
    """Of a partition's log."""

    start: int
    #: the last stable offset
    stable: int
    #: the high watermark
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PartitionFacts:
    partition: int
    source: LogBounds
    #: by output topic, of its partition with the same number
    outputs: Mapping[str, LogBounds]
    group: GroupPosition = NO_POSITION
    #: of the generation's changelog; None if there is none
    meta: Meta | None = None
    #: why the state in the changelog cannot be used; None if it can, or if there is none
    problem: str | None = None
    #: META belongs to another source topic than the one that exists now
    is_of_another_source: bool = False

    @property
    def state_offset(self) -> int | None:
        """The next source offset of the state; None if there is no state that can be used."""
        return None if self.meta is None or self.problem is not None else self.meta.offset

    @property
    def current(self) -> int:
        """The next source offset of the job."""
        if self.state_offset is not None:
            return self.state_offset
        return self.source.start if self.group.offset == NO_OFFSET else self.group.offset


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    cluster_id: str
    group: str
    source_topic: str
    #: 32 hex digits
    source_topic_id: str
    #: topic id by name
    output_topics: Mapping[str, str]
    fold: str
    older_folds: Collection[str]
    #: the job's generation
    generation: Generation
    #: how many partitions the source has
    source_partitions: int
    #: in their order
    partitions: Sequence[PartitionFacts]

    @property
    def readable_folds(self) -> frozenset[str]:
        return frozenset((self.fold, *self.older_folds))


def foreign(facts: Facts, manifest: Manifest) -> list[str]:
    """Why the savepoint's state does not fit to the job; empty if it does."""
    compared = [
        ("its cluster id is", manifest.cluster_id, facts.cluster_id),
        ("it is of the group", manifest.group, facts.group),
        ("it is of the source topic", manifest.source_topic, facts.source_topic),
        ("the id of its source topic is", manifest.source_topic_id, facts.source_topic_id),
        ("the number of its partitions is", manifest.partitions, facts.source_partitions),
    ]
    compared += [
        (f"the id of its output topic {name} is", topic_id, facts.output_topics[name])
        for name, topic_id in sorted(manifest.output_topics.items())
        if name in facts.output_topics
    ]
    reasons = [f"{words} {theirs}, the job's is {ours}" for words, theirs, ours in compared if theirs != ours]
    folds = {manifest.fold, *(part.fold for part in manifest.parts)}
    strange = sorted(folds - facts.readable_folds)
    return [*reasons, *(f"it was folded with {fold!r}, this program folds with {facts.fold!r}" for fold in strange)]


def state_problem(facts: Facts, meta: Meta, *, changelog: str, place: str, start: int) -> str | None:
    """Why the state that META describes cannot be used; None if it can.

    `changelog` is the id of the topic in which META stands. `place` is its topic and partition; it begins at `start`.
    """
    if meta.fold not in facts.readable_folds:
        return f"it was folded with {meta.fold!r}, this program folds with {facts.fold!r}"
    if meta.changelog != changelog:
        return f"it was written to another topic than that of {place}, which was deleted and made again"
    if (meta.topic_id, meta.partitions) != (facts.source_topic_id, facts.source_partitions):
        return f"it belongs to a source topic with id {meta.topic_id} and {meta.partitions} partitions"
    if start > 0:
        return f"{place} begins at {start}: what stood before is gone"
    return None

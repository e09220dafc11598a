"""Judges a simulated cluster while it runs: every transaction, every write to a disk and every answer, by the replay.

The judge sees the cluster from outside, at the moment at which a coordinator's log decides a transaction. From then on
the transaction's records and offsets count together, or not at all.

1. A committed transaction takes each of its source partitions from the offset that was committed before to a later
   one. It carries exactly what the replay of the records in between gives: outputs, dead letters, and in the changelog
   the changed values of the tables and META.
2. A worker whose membership is fresh serves no partition that another worker has taken further.
3. A store holds only values of committed transactions. META of a partition never goes back in a store, except after a
   wipe.
4. A generation begins with one transaction that has the group's offsets. By then its changelog holds, for each
   partition, the fold of the source up to the partition's offset, and every decision of an operator. From then on a
   transaction of an older generation is an anomaly. The new generation may begin before the outputs that stand: it
   writes none of them again, and all that follow.
5. The end comes a bounded time after the last fault. By then everything is committed. The read_committed readers, the
   compacted changelog, the group's offsets and the owners' stores agree with the replay.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tests.judge.ledger import CHANGELOG, DEAD, FATAL, OUTPUT, SOURCE, Passed, Replay, values_of
from tests.judge.tables import META_KEY, SKIP_KEY, skipped

OWN_PREFIX = b"\xff\xff"  # of the keys in a store that belong to no partition
KEPT_STATES = 8  # of a partition: a copy is judged some steps after it was taken
Place = tuple[str, int]
Item = tuple[bytes, bytes | None]


class Meta(msgspec.Struct):
    """What the judge reads of META."""

    offset: int


decode_meta = msgspec.msgpack.Decoder(Meta).decode


class Anomaly(Exception):
    """Exactly-once does not hold."""


@dataclass
class _Changelog:
    """The committed content of a partition of a changelog topic."""

    tables: dict[bytes, bytes] = field(default_factory=dict)
    #: META, and the decisions of operators
    own: dict[bytes, bytes] = field(default_factory=dict)

    def apply(self, records: Sequence[Any]) -> None:
        for record in records:
            of_key = self.own if record.key.startswith(b"\x00") else self.tables
            if record.value is None:
                of_key.pop(record.key, None)
            else:
                of_key[record.key] = record.value

    @property
    def decisions(self) -> set[int]:
        return {int.from_bytes(key[len(SKIP_KEY) :], "big") for key in self.own if key.startswith(SKIP_KEY)}


@dataclass
class _Partition:
    #: up to the furthest offset that any generation has committed
    replay: Replay = field(default_factory=Replay)
    #: up to the offset of the job's generation; `replay` itself, unless the generation folds records again
    state: Replay = field(init=False)
    #: next source offset of the job's generation
    committed: int = 0
    #: the owner of the last commit
    owner: str = ""
    #: how many of the replay's outputs and dead letters were committed
    outputs: int = 0
    dead: int = 0
    #: every key and value that was ever committed: a replay of a changelog writes them in turn
    values: set[tuple[bytes, bytes | None]] = field(default_factory=set)
    #: how many outputs and dead letters the replay had after each transaction, by next source offset
    counts: dict[int, tuple[int, int]] = field(default_factory=lambda: {0: (0, 0)})
    #: the tables after each of the newest transactions, by next source offset
    states: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state = self.replay

    @property
    def furthest(self) -> int:
        return max(self.committed, self.replay.offset)


class Judge:
    def __init__(self, source: Callable[[int, int, int], Sequence[Any]], tell: Callable[[str], None]) -> None:
        """`source(partition, start, end)` gives the committed source records of [start, end)."""
        self._source = source
        self._tell = tell
        self.partitions: defaultdict[int, _Partition] = defaultdict(_Partition)
        self.transactions = 0
        self.events = 0
        #: the job's generation, and the topic of its changelog
        self.generation, self.changelog = 1, CHANGELOG
        self._changelogs: defaultdict[Place, _Changelog] = defaultdict(_Changelog)
        #: the source offset of each partition in each worker's store
        self._metas: dict[tuple[str, int], int] = {}

    def decided(
        self, owner: str, batches: Mapping[Place, Sequence[Any]], offsets: Mapping[int, int], generation: int | None = 1
    ) -> None:
        """Judge a transaction of `owner` that is committed now. Its offsets name `generation`."""
        self.transactions += 1
        strays = {partition for _, partition in batches} - offsets.keys()
        if strays:
            raise Anomaly(f"{owner} committed records of partitions {sorted(strays)} without their offsets")
        if generation != self.generation:
            raise Anomaly(f"{owner} commits for generation {generation}, the job has generation {self.generation}")
        foreign = {topic for topic, _ in batches} - {OUTPUT, DEAD, self.changelog}
        if foreign:
            raise Anomaly(f"{owner} writes to {sorted(foreign)}, the job's changelog is {self.changelog}")
        for partition, offset in sorted(offsets.items()):
            self._tell(f"committed by {owner} partition={partition} offset={offset}")
            found = {topic: batches.get((topic, partition), ()) for topic in (OUTPUT, DEAD, self.changelog)}
            self._judge(owner, partition, offset, found)

    def _judge(self, owner: str, number: int, offset: int, found: Mapping[str, Sequence[Any]]) -> None:
        known = self.partitions[number]
        changelog = found[self.changelog]
        place = f"partition {number}, {known.committed} to {offset}, by {owner}"
        is_put_back = offset == known.committed and [record.key for record in changelog] == [META_KEY]
        if offset <= known.committed and known.state.offset and not is_put_back:
            raise Anomaly(f"{place}: the offset went back, or nothing moved")
        moved = skipped(changelog)
        known.replay.skipped |= moved
        known.state.skipped |= moved
        records = self._source(number, known.committed, offset)
        given_up = [record.offset for record in records if record.offset in moved and record.value not in FATAL]
        if given_up:
            raise Anomaly(f"{place}: records {given_up} were given up, which a fold takes")
        furthest = known.furthest
        known.committed, known.owner = offset, owner
        try:
            known.state.add(records)
            if known.state is not known.replay and offset >= furthest:
                known.replay.add(self._source(number, furthest, offset))
                known.state = known.replay
        except Passed as passed:
            raise Anomaly(f"{place}: it passes {passed}") from None
        self.events += len(records)
        expected = known.replay.outputs[known.outputs :], known.replay.dead[known.dead :]
        known.outputs, known.dead = len(known.replay.outputs), len(known.replay.dead)
        known.counts[offset] = len(known.state.outputs), len(known.state.dead)
        for name, right, records in zip((OUTPUT, DEAD), expected, (found[OUTPUT], found[DEAD]), strict=True):
            if values_of(records) != right:
                raise Anomaly(f"{place}: {name} has {values_of(records)}, the replay gives {right}")
        self._judge_changelog(place, number, offset, changelog)

    def _judge_changelog(self, place: str, number: int, offset: int, records: Sequence[Any]) -> None:
        known, content = self.partitions[number], self._changelogs[self.changelog, number]
        self._written(self.changelog, number, records)
        right = known.state.tables()
        if content.tables != right:
            raise Anomaly(f"{place}: the changelog's tables differ: {difference(content.tables, right)}")
        known.states[offset] = dict(content.tables)
        for old in list(known.states)[:-KEPT_STATES]:
            del known.states[old]
        metas = [decode_meta(record.value) for record in records if record.key == META_KEY]
        if [meta.offset for meta in metas] != [offset]:
            raise Anomaly(f"{place}: META says {[meta.offset for meta in metas]}")

    def _written(self, changelog: str, number: int, records: Sequence[Any]) -> None:
        self._changelogs[changelog, number].apply(records)
        self.partitions[number].values.update(
            (record.key, record.value) for record in records if not record.key.startswith(b"\x00")
        )

    # -- generations

    def built(self, owner: str, batches: Mapping[Place, Sequence[Any]], offsets: Collection[int]) -> None:
        """Judge a transaction that loads the changelog of a generation that is not the job's yet."""
        if offsets:
            raise Anomaly(f"{owner} committed offsets of the partitions {sorted(offsets)}")
        for (topic, partition), records in batches.items():
            if topic in (OUTPUT, DEAD, SOURCE, self.changelog):
                raise Anomaly(f"{owner} wrote to {topic}, the job's changelog is {self.changelog}")
            self._written(topic, partition, records)

    def forget(self, topic: str) -> None:
        """A changelog topic was deleted."""
        for place in [place for place in self._changelogs if place[0] == topic]:
            del self._changelogs[place]

    def switched(self, generation: int, changelog: str, offsets: Mapping[int, int]) -> None:
        """Judge the beginning of a generation: of each partition, the content of the changelog."""
        self._tell(f"generation {generation} begins in {changelog} at {dict(offsets)}")
        if offsets.keys() != self.partitions.keys() | offsets.keys():
            raise Anomaly(f"generation {generation} begins without the offsets of some partitions: {dict(offsets)}")
        self.generation, self.changelog = generation, changelog
        for number, offset in sorted(offsets.items()):
            self._judge_base(f"generation {generation}, partition {number} at {offset}", number, offset)

    def _judge_base(self, place: str, number: int, offset: int) -> None:
        known, content = self.partitions[number], self._changelogs[self.changelog, number]
        if offset > known.furthest:
            raise Anomaly(f"{place}: committed up to {known.furthest}")
        state = self.folded(number, offset)
        if content.tables != state.tables():
            raise Anomaly(f"{place}: its changelog differs: {difference(content.tables, state.tables())}")
        meta = content.own.get(META_KEY)
        at = None if meta is None else decode_meta(meta).offset
        if at != offset and (at, offset) != (None, 0):
            raise Anomaly(f"{place}: META says {at}")
        if content.decisions != known.replay.skipped:
            missing, more = known.replay.skipped - content.decisions, content.decisions - known.replay.skipped
            raise Anomaly(f"{place}: of the operators' decisions {sorted(missing)} are missing, {sorted(more)} are new")
        known.state = known.replay if offset == known.replay.offset else state
        known.committed, known.owner = offset, ""

    def folded(self, number: int, offset: int) -> Replay:
        """The fold of the source up to the offset."""
        replay = Replay(skipped=self.partitions[number].replay.skipped)
        replay.add(self._source(number, 0, offset))
        return replay

    def stored(self, worker: str, items: list[Item] | None) -> None:
        """Judge a write to a worker's disk; None stands for a wipe."""
        if items is None:
            self.opened(worker)
            return
        for key, value in items:
            number, name = int.from_bytes(key[:2], "big"), key[2:]
            if key[:2] == OWN_PREFIX or name.startswith(SKIP_KEY):
                continue
            if name == META_KEY:
                assert value is not None
                self._stored_meta(worker, number, decode_meta(value).offset)
            elif (name, value) not in self.partitions[number].values:
                raise Anomaly(f"{worker} stored {name!r} of partition {number}, as no committed transaction has it")

    def opened(self, worker: str) -> None:
        """A worker starts. Its store may be another one: copied, torn or wiped."""
        for known in [known for known in self._metas if known[0] == worker]:
            del self._metas[known]

    def _stored_meta(self, worker: str, number: int, offset: int) -> None:
        furthest = self.partitions[number].furthest
        if offset > furthest:
            raise Anomaly(f"{worker} stored partition {number} up to {offset}, which is committed up to {furthest}")
        if offset < self._metas.get((worker, number), 0):
            raise Anomaly(f"{worker}'s store of partition {number} went back to {offset}")
        self._metas[worker, number] = offset

    def served(self, worker: str, transactional_id: str, number: int, offset: int) -> None:
        """Judge the answer of a worker whose membership is fresh. The worker's own newest commit may be on its way."""
        known = self.partitions[number]
        if offset < known.committed and known.owner != transactional_id:
            raise Anomaly(
                f"{worker} serves partition {number} up to {offset}, {known.owner} has committed {known.committed}"
            )

    def check_copy(self, worker: str, number: int, offset: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """A worker copied a partition. The copy must hold the tables exactly as of its offset."""
        known = self.partitions[number]
        if offset > known.furthest:
            raise Anomaly(f"{worker}'s copy of {number} is at {offset}, which is committed up to {known.furthest}")
        found = {key: value for key, value in rows if not key.startswith(b"\x00")}
        right = known.states.get(offset, {} if offset == 0 else None)
        if right is not None and found != right:
            raise Anomaly(f"{worker}'s copy of {number} at {offset} differs: {difference(found, right)}")

    def check_ends(self, worker: str, number: int, offset: int, outputs: int, dead: int) -> None:
        """So many committed outputs and dead letters stand before the ends that a copy names.

        They must be the outputs and dead letters of the source records before the copy's offset.
        """
        right = self.partitions[number].counts.get(offset)
        if right != (outputs, dead):
            raise Anomaly(f"{worker}'s copy of {number} at {offset} counts {outputs, dead}, the replay gives {right}")

    # -- at the end

    def check_log(self, partition: int, topic: str, records: Sequence[Any]) -> None:
        """Judge all records of an output topic that a read_committed reader finds."""
        replay = self.partitions[partition].replay
        right = replay.outputs if topic == OUTPUT else replay.dead
        if values_of(records) != right:
            at = next(
                (i for i, pair in enumerate(zip(values_of(records), right, strict=False)) if pair[0] != pair[1]), -1
            )
            raise Anomaly(
                f"{topic}-{partition} reads {len(records)} records, the replay gives {len(right)}; first at {at}"
            )

    def check_changelog(self, partition: int, records: Sequence[Any]) -> None:
        found: dict[bytes, bytes] = {}
        apply(found, records)
        right = self.partitions[partition].replay.tables()
        if found != right:
            raise Anomaly(f"the changelog of {partition} compacts to another state: {difference(found, right)}")

    def check_store(self, worker: str, partition: int, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """Judge the store of the partition's owner, by the changelog's keys."""
        found = {key: value for key, value in rows if not key.startswith(b"\x00")}
        right = self.partitions[partition].replay.tables()
        if found != right:
            raise Anomaly(f"{worker}'s store of {partition} differs: {difference(found, right)}")

    def check_end(self, partition: int, group: int, end: int) -> None:
        """Judge that everything is committed."""
        committed = self.partitions[partition].committed
        if group not in (committed, -1) or committed < end:
            raise Anomaly(f"{SOURCE}-{partition} ends at {end}, the group is at {group}, the judge at {committed}")


def apply(tables: dict[bytes, bytes], records: Sequence[Any]) -> None:
    for record in records:
        if record.key.startswith(b"\x00"):
            continue
        if record.value is None:
            tables.pop(record.key, None)
        else:
            tables[record.key] = record.value


def difference(found: Mapping[bytes, bytes], right: Mapping[bytes, bytes]) -> str:
    keys = sorted(key for key in found.keys() | right.keys() if found.get(key) != right.get(key))
    shown = ", ".join(f"{key!r}: {found.get(key)!r} for {right.get(key)!r}" for key in keys[:3])
    return f"{len(keys)} keys, {shown}"

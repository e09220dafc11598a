"""One `Partition` for each partition of the source: its place in its life, and what the engine knows of it.

1. Only `happened` changes a state, as the table in `partition_life` says.
2. Only `happened` tells the reader which partitions to fetch, and from which offset.
3. An incarnation number stands for one unbroken stretch of reading. Records that were read under an older number are
   void.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from portfolio_stream.exactly_once.failures import Suspicion
from portfolio_stream.exactly_once.partition_life import (
    TRAITS,
    Life,
    OperatorWish,
    PartitionEvent,
    PartitionState,
    Traits,
    after,
)
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.observe.kafka_counts import KafkaCounts, PartitionMove

#: events after which the partition starts afresh: its earlier failures are forgotten
_FORGIVING = (PartitionEvent.RETRY, PartitionEvent.MOVED, PartitionEvent.OUT_OF_RANGE)
#: events after which this worker owns other partitions than before
_MOVES: Mapping[PartitionEvent, PartitionMove] = {
    PartitionEvent.ASSIGNED: "assigned",
    PartitionEvent.RELEASED: "revoked",
    PartitionEvent.LOST: "lost",
}


class ReadsPartitions(Protocol):
    """The reader of the source topic, as `Partitions` needs it."""

    def resume(self, partition: int, offset: int) -> None: ...
    def pause(self, partitions: Iterable[int]) -> None: ...


@dataclass(slots=True)
class Partition:
    """What the engine knows of one partition. `Partitions` alone changes the fields."""

    number: int
    life: Life = Life()  # noqa: RUF009  a NamedTuple is immutable
    incarnation: int = 0
    #: the source offset up to which everything is committed; None until the recovery has found the offset
    committed: int | None = None
    #: the source offset behind the last record that was handed to the fold; None until the recovery has found an offset
    handed_out: int | None = None
    #: which records failed and are not committed yet; outlives a drop
    suspicion: Suspicion | None = None
    #: why the partition is HALTED
    halt: Halted | None = None
    #: the first source offset that an operator does not want folded
    stop_at: int | None = None
    #: the reader fetches the partition
    is_reading: bool = False

    @property
    def state(self) -> PartitionState:
        return self.life.state

    @property
    def traits(self) -> Traits:
        return TRAITS[self.life.state]


class Partitions:
    def __init__(self, count: int, reader: ReadsPartitions, counts: KafkaCounts | None = None) -> None:
        self._reader = reader
        self._counts = KafkaCounts() if counts is None else counts
        #: what the job wants of a partition that this worker gets
        self.wish_when_assigned = OperatorWish.RUN
        self._records = [Partition(number) for number in range(count)]
        #: what an operator wants of the whole job: the wish of each partition that is assigned from now on
        self.wish_when_assigned = OperatorWish.RUN
        self._look_again()

    def __getitem__(self, partition: int) -> Partition:
        return self._records[partition]

    def __len__(self) -> int:
        return len(self._records)

    # -- what happens

    def happened(
        self,
        event: PartitionEvent,
        partitions: Collection[int],
        *,
        offset: int | None = None,
        halt: Halted | None = None,
    ) -> None:
        """Change the state of each of `partitions` as `event` says. Raises IllegalTransition.

        `offset` is the next source offset for RECOVERED, and for an EXHAUSTED that ends a recovery. For STOP_AT it is
        the offset to stop at. `halt` belongs to REFUSED and EXHAUSTED.
        """
        for partition in partitions:
            self._happened(self._records[partition], event, offset, halt)
        if event in _MOVES:
            self._counts.moves[_MOVES[event]] += len(partitions)
        self._look_again()

    def _happened(self, known: Partition, event: PartitionEvent, offset: int | None, halt: Halted | None) -> None:
        if event in _FORGIVING:
            known.suspicion = None
        if event in (PartitionEvent.RECOVERED, PartitionEvent.EXHAUSTED) and offset is not None:
            self._advance(known, offset)
        step = after(
            known.life, event, is_suspect=known.suspicion is not None, wish_when_assigned=self.wish_when_assigned
        )
        known.life = step.life
        if event is PartitionEvent.ASSIGNED:
            known.life = known.life._replace(wish=self.wish_when_assigned)
        known.incarnation += step.is_void
        if event is PartitionEvent.RECOVERED:
            known.handed_out = offset
        if event is PartitionEvent.STOP_AT:
            known.stop_at = offset
        elif known.life.wish is not OperatorWish.DRAIN:
            known.stop_at = None
        if known.state is not PartitionState.HALTED:
            known.halt = None
        elif halt is not None:
            known.halt = halt
        if known.state in (PartitionState.RECOVERING, PartitionState.UNOWNED):
            known.committed = None
        if known.state is PartitionState.UNOWNED:
            known.suspicion = None
        self._read(known, is_void=step.is_void)

    def _read(self, known: Partition, *, is_void: bool) -> None:
        """Resume or pause the reader, as the partition's state says. After a void event: pause until the next event."""
        must_read = known.traits.is_read and not is_void
        if must_read and not known.is_reading:
            assert known.committed is not None  # noqa: S101  a state that is read follows a recovery
            self._reader.resume(known.number, known.committed)
        elif not must_read:
            self._reader.pause((known.number,))
        known.is_reading = must_read

    def committed(self, positions: Mapping[int, int]) -> None:
        """Take over the committed offset of each partition in `positions`.

        Failed records before the offset are overcome. A drain ends if the offset has reached `stop_at`.
        """
        for partition, offset in positions.items():
            known = self._records[partition]
            if not known.traits.is_owned or known.state is PartitionState.RECOVERING:
                continue
            self._advance(known, offset)
            if not known.is_reading:  # a later slice of the partition has failed; the engine clears it next
                continue
            if known.state is PartitionState.SUSPECT and known.suspicion is None:
                self.happened(PartitionEvent.OVERCOME, (partition,))
            if known.stop_at is not None and offset >= known.stop_at:
                self.happened(PartitionEvent.REACHED, (partition,))

    def read_behind(self, partition: int, offset: int, incarnation: int) -> None:
        """Read on at `offset`, behind a batch that cannot be read, unless `incarnation` is over."""
        known = self._records[partition]
        if known.is_reading and known.incarnation == incarnation:
            self._reader.resume(partition, offset)

    def suspect(self, partition: int, suspicion: Suspicion) -> None:
        """Keep `suspicion` until the failed records are committed."""
        self._records[partition].suspicion = suspicion

    def _advance(self, known: Partition, offset: int) -> None:
        known.committed = offset
        if known.suspicion is not None and offset > known.suspicion.until:
            known.suspicion = None

    # -- sets of partitions, by state: each event makes them anew, because the main loop reads them all the time

    def _look_again(self) -> None:
        records = self._records
        #: partitions that this worker tells the coordinator it owns
        self.owned = frozenset(one.number for one in records if one.traits.is_owned)
        #: partitions whose tables are served: RUNNING, SUSPECT, PAUSED and DRAINING ones
        self.served = frozenset(one.number for one in records if one.traits.is_served)
        #: partitions that an operator paused
        self.paused = frozenset(one.number for one in records if one.state is PartitionState.PAUSED)
        #: partitions that wait for an operator, with the reason
        self.halted: Mapping[int, Halted] = {one.number: one.halt for one in records if one.halt is not None}
        #: partitions that a recovery has not decided yet
        self.recovering = frozenset(one.number for one in records if one.state is PartitionState.RECOVERING)
        #: partitions that are read up to `stop_at`: DRAINING ones, and SUSPECT ones on their way to `stop_at`
        self.draining = frozenset(one.number for one in records if one.stop_at is not None and one.traits.is_read)

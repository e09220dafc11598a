"""Hands slices out to the fold, and learns from the agent's side how each of them ended.

1. A slice is acknowledged when its fold is done. A failure never acknowledges.
2. A slice that became void on its way changes nothing.
3. A failure in one partition makes void what was read of that partition alone.
4. A slice of an earlier start of the engine counts no more: its fold may end after the engine has joined again.
5. A record that an operator had moved to the dead letters before, in a state that began later, goes there again. No
   fold sees it.
"""

from collections.abc import Sequence
from typing import Any

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.boundary import Boundary
from portfolio_stream.exactly_once.equipment import Equipment
from portfolio_stream.exactly_once.partition_life import PartitionEvent
from portfolio_stream.exactly_once.repeat import apart
from portfolio_stream.exactly_once.slices import Deliver, Handout, Slice, cut
from portfolio_stream.kafka.record_batches import UnreadableBatch, next_offset


class Folding:
    def __init__(self, equipment: Equipment, boundary: Boundary) -> None:
        self._outputs = equipment.configuration.output_topics
        self._partitions = equipment.partitions
        self._views = equipment.views
        self._commits = equipment.commits
        self._signals = equipment.signals
        self._repeats = equipment.repeats
        self._write_dead_letter = equipment.write_dead_letter
        self._boundary = boundary
        self._work = equipment.statistics.work
        self._handout = Handout()
        #: records of the last fetch that are not handed out yet
        self._fetched = 0

    async def hand_out_all(self, deliver: Deliver, partition: int, batches: list[list[Any]], incarnation: int) -> None:
        """Hand out what was fetched of a partition in `incarnation`.

        Ends early when the worker stops, and when the partition is not read any more or its records became void.
        """
        known = self._partitions[partition]
        if known.stop_at is not None:
            batches = before(batches, known.stop_at)
        decided = self._decided(partition)
        if decided:
            batches = apart(batches, decided)
        for records, size in cut(batches, lambda: self.slice_records(partition)):
            if self._signals.is_stopping or not known.is_reading or known.incarnation != incarnation:
                return
            self._fetched -= len(records)
            if records[0].offset in decided:
                await self.move_again(partition, records[0], incarnation, size)
            else:
                await self.hand_out(deliver, partition, records, size)

    def fetched(self, records: int) -> None:
        """So many records of a fetch are to be handed out from now on."""
        self._fetched = records

    def queues(self) -> dict[str, int]:
        """Records that wait for the fold, and records that are at the fold."""
        return {"fetched": self._fetched, "folding": self._handout.waiting}

    def _decided(self, partition: int) -> frozenset[int]:
        """Offsets of records that go to the dead letters again, as an operator decided."""
        return frozenset() if self._write_dead_letter is None else self._repeats.decided(partition)

    async def move_again(self, partition: int, record: Any, incarnation: int, size: int = 0) -> None:
        """Move a record, or a batch that cannot be read, to the dead letters, as an operator decided once.

        The dead letter is one more record of the open share. Its place in the share is behind all earlier records.
        """
        await self.settle()
        known = self._partitions[partition]
        if not known.is_reading or known.incarnation != incarnation:
            return
        assert self._write_dead_letter is not None  # noqa: S101  `_decided` names no record otherwise
        piece = self.slice(partition, [record], size)
        try:
            self._write_dead_letter(piece)
        except StoreFailed:
            raise
        except Exception as error:  # noqa: BLE001  the app's code may raise anything
            self._fail(piece, error)
            await self.settle()
            return
        piece.acknowledge()
        self._commits.set_aside(partition, record)
        await self._boundary.close_if_due(now=known.traits.is_folded_with_care)

    async def passes(self, batch: UnreadableBatch) -> bool:
        """Pass a batch that cannot be read, if an operator moved it to the dead letters once. False: nobody did."""
        known = self._partitions[batch.partition]
        is_wanted = known.stop_at is None or batch.offset < known.stop_at
        if not (known.is_reading and is_wanted and batch.offset in self._decided(batch.partition)):
            return False
        await self.move_again(batch.partition, batch, known.incarnation)
        self._partitions.read_behind(batch.partition, next_offset(batch), known.incarnation)
        return True

    async def hand_out(self, deliver: Deliver, partition: int, records: list[Any], size: int) -> None:
        """Hand out one slice of `size` bytes, and wait for the slices on their way if there are enough of them."""
        piece = self.slice(partition, records, size)
        self._partitions[partition].handed_out = records[-1].offset + 1
        self._handout.add(len(records), size)
        await deliver(piece)
        with_care = self._partitions[partition].traits.is_folded_with_care
        if with_care or self._handout.is_full:
            await self.settle()
            await self._boundary.close_if_due(now=with_care)

    def slice(self, partition: int, records: Sequence[Any], size: int = 0) -> Slice:
        """A slice of `size` bytes in the partition's share of the open transaction."""
        return Slice(
            self._partitions[partition],
            self._views,
            self._commits.share(partition),
            records,
            partition_count=len(self._partitions),
            outputs=self._outputs,
            size=size,
        )

    def slice_records(self, partition: int) -> int:
        """How many records the next slice of the partition may have."""
        suspicion = self._partitions[partition].suspicion
        limit = self._handout.limit
        return limit if suspicion is None else min(limit, suspicion.slice_records)

    async def settle(self) -> None:
        """Wait until every slice that was handed out is acknowledged, or its partition's share is dropped."""
        self._commits.handed_out(await self._handout.settled())
        self._work.fold_seconds += self._handout.take_seconds()
        failures = self._handout.take_failures()
        if failures:
            await self._boundary.finish()
        for failure in failures:
            self._boundary.clear(failure)

    def forget_failures(self) -> None:
        """Everything was dropped, and with it the slices that failed."""
        self._fetched = 0
        self._handout.take_failures()

    # -- what the agent's side reports

    def acknowledged(self, piece: Slice) -> None:
        """The fold is done with the slice."""
        if not self._handed_out(piece):
            return
        if piece.is_current:
            piece.acknowledge()
        self._handout.release(len(piece.records))

    def discarded(self, piece: Slice) -> None:
        """The slice became void before its fold began."""
        if self._handed_out(piece):
            self._handout.release(len(piece.records))

    def failed(self, piece: Slice, error: BaseException) -> None:
        """The fold raised `error`. Nothing of this slice may be committed; no later slice of its partition counts."""
        if not self._handed_out(piece):
            return
        try:
            if piece.is_current:
                self._fail(piece, error)
        finally:  # the main loop waits for the release, also if a bug makes the event illegal
            self._handout.release(len(piece.records))

    def _handed_out(self, piece: Slice) -> bool:
        """This start of the engine handed the slice out."""
        return piece.is_of(self._partitions[piece.partition])

    def _fail(self, piece: Slice, error: BaseException) -> None:
        self._partitions.happened(PartitionEvent.FAILED, (piece.partition,))
        self._handout.failures.append(piece.failure(error))


def before(batches: list[list[Any]], offset: int) -> list[list[Any]]:
    """The records before `offset`."""
    return [[record for record in batch if record.offset < offset] for batch in batches]

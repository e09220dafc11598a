"""The commit boundary: the one place where what `Commits` found out reaches the partitions.

1. Committed positions come first, failures second: a partition that failed is read again from its committed offset.
2. A failure drops its own partition's open share and nothing else.
3. A failure is taken only while no share of its partition is in flight: the store does not have that share yet.
"""

from portfolio_stream.errors import StoreFailed
from portfolio_stream.exactly_once.commits import CommitOutcome, Commits
from portfolio_stream.exactly_once.failures import AGENT_TRIES, Failure, Suspicion
from portfolio_stream.exactly_once.partition_life import PartitionEvent, PartitionState
from portfolio_stream.exactly_once.partitions import Partitions
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.slices import SLICE_RECORDS
from portfolio_stream.kafka.record_batches import UnreadableBatch
from portfolio_stream.observe import events as told
from portfolio_stream.observe.ring import Tell
from portfolio_stream.observe.statistics import Statistics


class Boundary:
    def __init__(self, commits: Commits, partitions: Partitions, statistics: Statistics, tell: Tell) -> None:
        self._commits = commits
        self._partitions = partitions
        self._statistics = statistics
        self._tell = tell

    # -- commits, and what follows from them

    async def close_if_due(self, *, now: bool = False, is_gathered: bool = False) -> None:
        """See Commits.close_if_due."""
        self._digest(await self._commits.close_if_due(now=now, is_gathered=is_gathered))

    async def close(self) -> None:
        """See Commits.close."""
        self._digest(await self._commits.close())

    async def finish(self) -> None:
        """See Commits.finish."""
        self._digest(await self._commits.finish())

    async def commit(self) -> None:
        """Commit everything that is acknowledged, and wait until the store has it."""
        await self.close()
        await self.finish()

    def _digest(self, outcome: CommitOutcome) -> None:
        self._partitions.committed(outcome.committed)
        for failure in outcome.failures:
            self._partitions.happened(PartitionEvent.FAILED, (failure.partition,))
            self.clear(failure)

    # -- failures

    def clear(self, failure: Failure) -> None:
        """Drop the open share of a partition that FAILED, and read its records again in smaller slices.

        So the records before the bad one are committed. Raises StoreFailed: then the disk failed, and not a record.
        """
        if isinstance(failure.error, StoreFailed):
            raise failure.error
        partition = failure.partition
        self._commits.discard((partition,))
        suspicion = self.count(failure)
        if suspicion.halt is not None and self._partitions[partition].state is not PartitionState.REVOKING:
            self.halt(PartitionEvent.EXHAUSTED, suspicion.halt)
        else:
            self._partitions.happened(PartitionEvent.CLEARED, (partition,))

    def count(self, failure: Failure) -> Suspicion:
        """Count the failure. Returns what is known of the partition's failures, this one included."""
        partition = failure.partition
        known = self._partitions[partition].suspicion or Suspicion(SLICE_RECORDS, failure.last)
        suspicion = known.with_failure(failure)
        self._partitions.suspect(partition, suspicion)
        self._statistics.agent_failures += 1
        first = failure.last if failure.first is None else failure.first.offset
        failed = told.FoldFailed(
            partition=partition,
            offsets=told.Span(first, failure.last),
            tries=suspicion.tries,
            error=type(failure.error).__name__,
            reason=f"{failure.what}: {failure.detail}",
        )
        self._tell(failed, failure.error if suspicion.tries == 1 else None)
        return suspicion

    def unreadable(self, batch: UnreadableBatch) -> None:
        """A batch could not be read. Corrupt bytes may be so on the wire only: try again before the partition halts."""
        partition, stop_at = batch.partition, self._partitions[batch.partition].stop_at
        if not self._partitions[partition].is_reading:
            return
        if stop_at is not None and batch.offset >= stop_at:  # an operator does not want it read
            return
        known = self._partitions[partition].suspicion or Suspicion(SLICE_RECORDS, batch.last_offset)
        suspicion = known.failing_at(batch.offset)
        self._partitions.suspect(partition, suspicion)
        self._partitions.happened(PartitionEvent.UNREADABLE, (partition,))
        self._tell(told.FetchFailed(partition=partition, offset=batch.offset, tries=suspicion.tries, reason=str(batch)))
        if batch.reason != "corrupt" or suspicion.tries >= AGENT_TRIES:
            halt = Halted(partition=partition, offset=batch.offset, reason=str(batch), record=batch)
            self.halt(PartitionEvent.EXHAUSTED, halt)

    def halt(self, event: PartitionEvent, halt: Halted, *, offset: int | None = None) -> None:
        """The partition waits for an operator from now on."""
        self._partitions.happened(event, (halt.partition,), halt=halt, offset=offset)
        self._tell(told.PartitionStopped(partition=halt.partition, offset=halt.offset, reason=halt.reason))

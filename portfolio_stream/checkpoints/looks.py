"""What the tracker needs to know of the engine: a look at each partition that this worker owns."""

from collections.abc import Mapping

from portfolio_stream.checkpoints.state_size import StateSize
from portfolio_stream.checkpoints.tracker import Condition, PartitionLook
from portfolio_stream.exactly_once.partition_life import PartitionState
from portfolio_stream.exactly_once.partitions import Partition
from portfolio_stream.exactly_once.started_engine import StartedEngine
from portfolio_stream.observe.statistics import Statistics

#: what a state means for a checkpoint; a partition without a row is not this worker's
CONDITIONS: Mapping[PartitionState, Condition] = {
    PartitionState.RECOVERING: Condition.RECOVERS,
    PartitionState.RUNNING: Condition.READS,
    PartitionState.SUSPECT: Condition.READS,
    PartitionState.DRAINING: Condition.READS,
    PartitionState.REVOKING: Condition.READS,  # what was read is committed before another worker gets the partition
    PartitionState.HALTED: Condition.HALTED,
    PartitionState.PAUSED: Condition.PAUSED,
}


def looks_at(engine: StartedEngine, statistics: Statistics, sizes: Mapping[int, StateSize]) -> dict[int, PartitionLook]:
    """By partition. `sizes` are those of the partitions whose size is known.

    While the membership is not fresh, nothing can be read or committed. So a checkpoint that begins then has no offset
    yet, as if the partitions recovered: what the worker read last would be reached at once.
    """
    looks, is_fresh = {}, engine.membership.is_fresh
    for partition in sorted(engine.partitions.owned):
        known, done = engine.partitions[partition], statistics.committed[partition]
        size = sizes.get(partition)
        looks[partition] = PartitionLook(
            condition=CONDITIONS[known.state] if is_fresh else Condition.RECOVERS,
            committed=known.committed,
            read=_read(known) if is_fresh else None,
            end=engine.end(partition),
            records=done.records,
            changelog_bytes=done.changelog_bytes,
            state_rows=None if size is None else size.rows,
            state_bytes=None if size is None else size.bytes,
        )
    return looks


def _read(known: Partition) -> int | None:
    """The offset behind the last record that was read. The record that halts a partition counts as read."""
    if known.halt is not None:
        return None if known.halt.offset is None else known.halt.offset + 1
    if known.committed is None:
        return None
    return known.committed if known.handed_out is None else max(known.handed_out, known.committed)

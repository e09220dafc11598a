"""Checks, before a worker joins the group, that the worker's fold made the group's state.

A worker with another fold must not take partitions from workers that run.

1. META is the last record of each transaction in a changelog partition, and compaction keeps the newest META. So the
   check reads the partition's end. Aborted transactions and markers may follow the newest META. So the check steps back
   until it finds a META.
2. A fold that cannot be read now is no error: recovery checks the fold again before a partition runs.
3. A worker with another fold is refused at its start, so one fold makes all partitions. If some partitions have this
   worker's fold and one has another, a stranger wrote that partition's META. Recovery then halts that partition, and
   the other partitions go on.
4. An older fold whose state this worker's fold can read counts as this worker's fold.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import FoldMismatch, StateUnreadable
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, read_meta
from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, READ_COMMITTED, log_offsets
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.observe.events import FoldNotChecked
from portfolio_stream.observe.ring import Tell, write

STEPS = (4, 64, 1_024, 16_384)  # offsets before the end: for META and its marker, then for long aborted transactions
CHECK_SECONDS = 2.0
FETCH_WAIT_MS = 50


async def check_fold(
    client: Client,
    reader: Reader,
    store: Store,
    *,
    topic: str,
    topic_id: str,
    partitions: int,
    fold: str,
    older_folds: Collection[str] = (),
    tell: Tell = write,
) -> bool:
    """Whether some partition is known to have this worker's `fold`, or one of `older_folds`. Raises FoldMismatch.

    `reader` reads the changelog `topic`. All its partitions are paused before and after the check.
    """
    every = range(partitions)
    stored = {partition: _meta(partial(store.meta, partition)) for partition in every}
    found = {partition: meta for partition, meta in stored.items() if meta and meta.changelog == topic_id}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found |= await newest_metas(client, reader, topic, every)
    except (TimeoutError, *LOST, kafka_errors.KafkaError) as error:
        tell(FoldNotChecked(error=type(error).__name__))
    finally:
        reader.pause(every)
    readable = {fold, *older_folds}
    is_known = any(meta.fold in readable for meta in found.values())
    for partition, meta in sorted(found.items()):
        if meta.fold not in readable and not is_known:
            raise FoldMismatch(partition, meta.fold, fold)
    return is_known


async def newest_metas(
    client: Client, reader: Reader, topic: str, partitions: Collection[int], steps: Sequence[int] = STEPS
) -> dict[int, Meta]:
    """The newest committed META of each partition that has one at most so many offsets before its end.

    Raises one of LOST or a KafkaError.
    """
    firsts = await log_offsets(client, topic, partitions, EARLIEST)
    ends = await log_offsets(client, topic, firsts, LATEST, READ_COMMITTED)
    found: dict[int, Meta] = {}
    left = {partition for partition, end in ends.items() if firsts[partition] < end}
    for step in steps:
        starts = {partition: max(firsts[partition], ends[partition] - step) for partition in left}
        found |= await _read(reader, starts, ends)
        left = {partition for partition in left - found.keys() if starts[partition] > firsts[partition]}
        if not left:
            break
    return found


async def _read(reader: Reader, starts: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, Meta]:
    """The last META of each partition between the partition's start and its end."""
    found: dict[int, Meta] = {}
    for partition, start in starts.items():
        reader.resume(partition, start)
    left = set(starts)
    while left:
        for partition, batches in (await reader.fetch(FETCH_WAIT_MS)).items():
            metas = [record.value for batch in batches for record in batch if record.key == META_KEY]
            if metas and (meta := _meta(partial(read_meta, metas[-1]))) is not None:
                found[partition] = meta
        for partition in list(left):
            if await reader.position(partition) >= ends[partition]:
                left.discard(partition)
                reader.pause((partition,))
    return found


def _meta(read: Callable[[], Meta | None]) -> Meta | None:
    """The META that `read` reads; None if its bytes are unreadable."""
    try:
        return read()
    except StateUnreadable:
        return None

"""Looks how the state was folded before this worker joins the group: one that folds otherwise must take nothing from
workers that run.

1. META is the last record of each transaction in a changelog partition, and compaction keeps the newest. So a look at
   the partition's end finds it; aborted transactions and markers may lie behind it, so the look steps back.
2. What cannot be told now is no error: recovery looks again before it lets a partition run.
3. A worker that differs is refused at its start, so all partitions are folded alike. Where some are folded as this
   worker folds and one is not, somebody else wrote that one's META: recovery halts it, and the others go on.
"""

import asyncio
from collections.abc import Callable, Collection, Mapping
from functools import partial

from aiokafka import errors as kafka_errors

from portfolio_stream.errors import FoldMismatch, StateUnreadable
from portfolio_stream.exactly_once.store import META_KEY, Meta, Store, read_meta
from portfolio_stream.kafka.connections import Client, Reader
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, READ_COMMITTED, log_offsets
from portfolio_stream.kafka.reach import LOST
from portfolio_stream.observe.events import FoldNotChecked
from portfolio_stream.observe.ring import Tell, write

STEPS = (4, 64, 1_024, 16_384)  # offsets before the end: META and its marker, and ever longer aborted transactions
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
    tell: Tell = write,
) -> bool:
    """Whether some partition is known to be folded as here. Raises FoldMismatch.

    `reader` reads the changelog `topic`; it is paused before and after.
    """
    every = range(partitions)
    stored = {partition: _meta(partial(store.meta, partition)) for partition in every}
    found = {partition: meta for partition, meta in stored.items() if meta and meta.changelog == topic_id}
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            found |= await _newest(client, reader, topic, every)
    except (TimeoutError, *LOST, kafka_errors.KafkaError) as error:
        tell(FoldNotChecked(error=type(error).__name__))
    finally:
        reader.pause(every)
    is_known = any(meta.fold == fold for meta in found.values())
    for partition, meta in sorted(found.items()):
        if meta.fold != fold and not is_known:
            raise FoldMismatch(partition, meta.fold, fold)
    return is_known


async def _newest(client: Client, reader: Reader, topic: str, partitions: Collection[int]) -> dict[int, Meta]:
    """The newest committed META of each partition that has one near its end. Raises one of LOST or a KafkaError."""
    firsts = await log_offsets(client, topic, partitions, EARLIEST)
    ends = await log_offsets(client, topic, firsts, LATEST, READ_COMMITTED)
    found: dict[int, Meta] = {}
    left = {partition for partition, end in ends.items() if firsts[partition] < end}
    for step in STEPS:
        starts = {partition: max(firsts[partition], ends[partition] - step) for partition in left}
        found |= await _read(reader, starts, ends)
        left = {partition for partition in left - found.keys() if starts[partition] > firsts[partition]}
        if not left:
            break
    return found


async def _read(reader: Reader, starts: Mapping[int, int], ends: Mapping[int, int]) -> dict[int, Meta]:
    """The last META of each partition from its start to its end."""
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
    """None for what is no META of ours."""
    try:
        return read()
    except StateUnreadable:
        return None

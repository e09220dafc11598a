"""Checks at a recovery that the outputs still stand that a partition has to repeat.

A log that begins behind the next output was trimmed. A log that ends before the last output was deleted and made again,
or its leader has just woken and does not know its end: the recovery asks again before such a partition halts.
"""

from collections.abc import Collection, Mapping

from portfolio_stream.errors import StateUnreadable
from portfolio_stream.exactly_once.repeat import Repeat, repeat_of
from portfolio_stream.exactly_once.replay import Replayed
from portfolio_stream.exactly_once.store import Store
from portfolio_stream.kafka.connections import Client
from portfolio_stream.kafka.offset_lookup import EARLIEST, LATEST, log_offsets

WAY_OUT = "start the job from a savepoint behind these outputs, or roll it back to its former generation"


async def with_repeat_problems(
    client: Client, store: Store, outputs: Collection[str], replayed: Mapping[int, Replayed]
) -> Mapping[int, Replayed]:
    """Returns `replayed`, with the problems of partitions that repeat. Raises one of LOST or a KafkaError.

    A partition is left out if Kafka cannot tell now where its outputs begin and end.
    """
    repeats = {partition: repeat for partition in replayed if (repeat := _repeat(store, partition)) is not None}
    if not repeats:
        return replayed
    asked = {topic for repeat in repeats.values() for topic in repeat}
    firsts, ends = {}, {}
    for topic in asked.intersection(outputs):
        partitions = [partition for partition, repeat in repeats.items() if topic in repeat]
        firsts[topic] = await log_offsets(client, topic, partitions, EARLIEST)
        ends[topic] = await log_offsets(client, topic, partitions, LATEST)
    checked = dict(replayed)
    for partition, repeat in repeats.items():
        known = {
            topic: (firsts[topic][partition], ends[topic][partition])
            for topic in repeat
            if topic in firsts and partition in firsts[topic] and partition in ends[topic]
        }
        problem = problem_of(partition, repeat, known, outputs)
        if problem is None and len(known) < len(repeat):
            del checked[partition]
        elif problem is not None and checked[partition].problem is None:
            checked[partition] = checked[partition]._replace(problem=problem)
    return checked


def _repeat(store: Store, partition: int) -> Repeat | None:
    """What META says is left; None also for a META that the recovery refuses."""
    try:
        meta = store.meta(partition)
    except StateUnreadable:
        return None
    return None if meta is None else repeat_of(meta.repeat)


def problem_of(
    partition: int, repeat: Repeat, bounds: Mapping[str, tuple[int, int]], outputs: Collection[str]
) -> str | None:
    """Why the outputs cannot be compared; None if they can be. `bounds` are first offset and end, by topic."""
    for topic, span in sorted(repeat.items()):
        if topic not in outputs:
            return f"the outputs to compare are in {topic}, which is no output topic of this worker"
        if topic not in bounds:
            continue
        first, end = bounds[topic]
        if first > span.next:
            return (
                f"the outputs to compare begin at {topic}-{partition}@{span.next}, but the log begins at {first}: "
                f"somebody deleted records; {WAY_OUT}"
            )
        if end < span.until:
            return (
                f"the outputs to compare end at {topic}-{partition}@{span.until}, but the log ends at {end}: "
                f"it lost records, or was deleted and made again; {WAY_OUT}"
            )
    return None

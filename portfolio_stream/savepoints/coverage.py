"""Which source records and outputs a savepoint makes dispensable. Pure.

A savepoint covers a record if the savepoint's state holds what came of it: a source record before the partition's
offset, and an output before the partition's position in the output topic. Whoever deletes covered records can still
verify from that savepoint and go back to it, but not to an older one.
"""

from collections.abc import Mapping
from typing import NamedTuple

from portfolio_stream.savepoints.manifest import Manifest

#: offsets by topic and partition
LogOffsets = Mapping[str, Mapping[int, int]]


class LogRange(NamedTuple):
    """What a log has: the records from `start` to before `end`."""

    start: int
    end: int


#: by topic and partition
Logs = Mapping[str, Mapping[int, LogRange]]


class Place(NamedTuple):
    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"offset {self.offset} of partition {self.partition} of {self.topic}"


def covered(manifest: Manifest) -> dict[str, dict[int, int]]:
    """Returns the offsets before which the savepoint covers all records: of the source and of the output topics."""
    found = {manifest.source_topic: manifest.offsets}
    for topic in manifest.output_topics:
        found[topic] = {part.partition: part.outputs[topic] for part in manifest.parts if topic in part.outputs}
    return found


def outside(manifest: Manifest, logs: Logs) -> Place | None:
    """Returns an offset of the savepoint that is not in its log: the records behind it are deleted, or never came.

    None: the savepoint and the logs have the whole history together. Logs of other topics do not matter.
    """
    for topic, offsets in covered(manifest).items():
        for partition, offset in offsets.items():
            log = logs.get(topic, {}).get(partition)
            if log is None or not log.start <= offset <= log.end:
                return Place(topic, partition, offset)
    return None


def uncovered(starts: LogOffsets, manifest: Manifest | None) -> list[Place]:
    """Returns the log starts whose deleted records the savepoint does not cover: these records are in no state.

    `starts` are where logs begin, or where they would begin after records are deleted. Without a savepoint nothing
    before them is covered.
    """
    known = {} if manifest is None else covered(manifest)
    return [
        Place(topic, partition, start)
        for topic, partitions in starts.items()
        for partition, start in partitions.items()
        if start > known.get(topic, {}).get(partition, 0)
    ]

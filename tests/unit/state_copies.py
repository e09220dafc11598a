"""A copy of a store, as a worker makes it for an export."""

from pathlib import Path

from portfolio_stream.exactly_once.operations import CopiedPartition, StateCopy
from portfolio_stream.exactly_once.recent import Written
from portfolio_stream.exactly_once.store import (
    META_KEY,
    ChangelogPosition,
    Meta,
    Store,
    encode_meta,
    prefix_of,
    skip_key,
)
from portfolio_stream.savepoints.manifest import PartitionPart

SAVEPOINT = "20261129T203512Z-4f2a9c"


async def copied(folder: Path, partitions: int = 2, rows: int = 3) -> StateCopy:
    """A copy of a store with some rows, an operator's decision and META in each partition."""
    store = Store(folder / "store")
    try:
        for partition in range(partitions):
            prefix, meta = prefix_of(partition), Meta(topic_id="s", offset=50, partitions=2, changelog="c", fold="f")
            stored: dict[bytes, bytes | None] = {prefix + b"unknown\x00%09d" % n: b"%d" % n for n in range(rows)}
            stored |= {prefix + META_KEY: encode_meta(meta), prefix + skip_key(7): b"moved"}
            position = ChangelogPosition(topic_id="c", offset=90, written_at=1.0)
            await store.commit({partition: Written(stored, 100)}, {partition: position})
        await store.prepare_copy(folder / "copy")
        await store.copy(folder / "copy")
    finally:
        store.close()
    parts = {p: CopiedPartition(50, "c", 90, {"out": 40 + p}, "f") for p in range(partitions)}
    return StateCopy(folder / "copy", parts, {})


def check(part: PartitionPart) -> None:
    number = part.partition
    assert (SAVEPOINT, 50, "c", 90, {"out": 40 + number}, "f") == (
        part.savepoint, part.offset, part.changelog_topic_id, part.changelog_offset, part.outputs, part.fold,
    )  # fmt: skip
    assert ({"unknown": 3}, ((skip_key(7), b"moved"),)) == (part.rows, part.moved)

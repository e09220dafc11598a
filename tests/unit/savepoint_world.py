"""Savepoints for tests: a small job with two partitions, whose tables look as simple as can be."""

from collections.abc import Callable, Iterable, Sequence

from portfolio_stream.savepoints.manifest import Head, Manifest, PartitionPart
from portfolio_stream.savepoints.objects import Objects
from portfolio_stream.savepoints.parquet import RowForm
from portfolio_stream.savepoints.write import complete, write_part

ID = "20261129T203512Z-4f2a9c"
LATER = "20261130T203512Z-000000"
FOLD = "version=3 deduplication_window=10000"
ChangelogRow = tuple[bytes, bytes]


class PlainForm:
    """Each part of a key is a column, and a value is the JSON text of its hexadecimal digits."""

    def columns(self, table: str) -> tuple[str, ...]:
        return ("portfolio_id", "symbol") if table == "positions" else ("portfolio_id",)

    def form(self, table: str, key: bytes, value: bytes) -> tuple[tuple[str, ...], bytes]:
        parts = key.decode(errors="replace").split("\x00", len(self.columns(table)) - 1)
        return tuple(parts), b'"%b"' % value.hex().encode()


PLAIN = PlainForm()


def head(savepoint: str = ID, partitions: int = 2) -> Head:
    return Head(
        id=savepoint,
        reason="asked",
        generation=1,
        cluster_id="cluster",
        group="portfolio-stream",
        source_topic="portfolio-events",
        source_topic_id="11" * 16,
        partitions=partitions,
        changelog_topic="portfolio-stream-changelog",
        output_topics={"processed-events": "22" * 16},
        fold=FOLD,
        writer="0.1.0",
        created_at="2026-11-29T20:35:12Z",
    )


def position(portfolio: str, symbol: str, value: bytes = b"one") -> ChangelogRow:
    return f"positions\x00{portfolio}\x00{symbol}".encode(), value


def portfolio(name: str, value: bytes = b"one") -> ChangelogRow:
    return f"portfolios\x00{name}".encode(), value


def decision(offset: int) -> ChangelogRow:
    return b"\x00SKIP" + offset.to_bytes(8, "big"), b"decided"


ROWS: Sequence[Sequence[ChangelogRow]] = (
    (decision(7), portfolio("a"), position("a", "X"), position("a", "Y", b"two")),
    (portfolio("b"), position("b", "X")),
)


async def part(
    objects: Objects,
    partition: int,
    rows: Iterable[ChangelogRow],
    savepoint: str = ID,
    *,
    offset: int = 100,
    in_order: bool = True,
    form: RowForm = PLAIN,
    progress: Callable[[int], None] = lambda _rows: None,
) -> PartitionPart:
    return await write_part(
        objects,
        savepoint=savepoint,
        partition=partition,
        offset=offset,
        changelog_topic_id="33" * 16,
        changelog_offset=200,
        outputs={"processed-events": 50},
        fold=FOLD,
        rows=sorted(rows) if in_order else rows,
        form=form,
        progress=progress,
    )


async def savepoint(
    objects: Objects, rows: Sequence[Iterable[ChangelogRow]] = ROWS, name: str = ID, offset: int = 100
) -> Manifest:
    for number, some in enumerate(rows):
        await part(objects, number, some, name, offset=offset)
    return await complete(objects, head(name, len(rows)))

"""Which records a savepoint covers."""

import msgspec
import pytest

from portfolio_stream.savepoints.coverage import LogRange, Place, covered, outside, uncovered
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.unit.savepoint_world import savepoint

SOURCE, OUTPUT = "portfolio-events", "processed-events"
WHOLE = LogRange(0, 900)


def logs(source: LogRange = WHOLE, output: LogRange = WHOLE) -> dict[str, dict[int, LogRange]]:
    """The logs of partition 1; those of partition 0 are whole."""
    return {SOURCE: {0: WHOLE, 1: source}, OUTPUT: {0: WHOLE, 1: output}}


@pytest.fixture
async def manifest() -> Manifest:
    """Both partitions at source offset 100 and output offset 50."""
    return await savepoint(MemoryObjects())


async def test_everything_before_its_offsets_is_covered(manifest: Manifest) -> None:
    """Source records and outputs, by partition."""
    assert {SOURCE: {0: 100, 1: 100}, OUTPUT: {0: 50, 1: 50}} == covered(manifest)


@pytest.mark.parametrize(
    ("range_", "is_inside"),
    [((0, 900), True), ((100, 900), True), ((101, 900), False), ((100, 100), True), ((0, 99), False)],
)
async def test_a_savepoint_is_a_base_if_nothing_behind_it_is_gone(
    manifest: Manifest, range_: tuple[int, int], is_inside: bool
) -> None:
    """Its offset may be the log's first one, or the next that comes. A log that ends before it is another log."""
    assert (None if is_inside else Place(SOURCE, 1, 100)) == outside(manifest, logs(source=LogRange(*range_)))


async def test_outputs_that_are_gone_matter_too(manifest: Manifest) -> None:
    """And a log that nobody found."""
    assert Place(OUTPUT, 1, 50) == outside(manifest, logs(output=LogRange(51, 900)))
    assert Place(OUTPUT, 0, 50) == outside(manifest, {SOURCE: logs()[SOURCE]})


async def test_deleting_more_than_a_savepoint_covers_is_named(manifest: Manifest) -> None:
    """By each place that would be gone and in no state; without a savepoint that is every deleted record."""
    assert [] == uncovered({SOURCE: {0: 100, 1: 0}, OUTPUT: {1: 50}}, manifest)
    assert [Place(SOURCE, 1, 101)] == uncovered({SOURCE: {0: 100, 1: 101}}, manifest)
    assert [Place(OUTPUT, 0, 1)] == uncovered({SOURCE: {0: 0}, OUTPUT: {0: 1}}, None)
    assert "offset 1 of partition 0 of processed-events" == str(Place(OUTPUT, 0, 1))


async def test_outputs_of_a_partition_that_a_savepoint_does_not_name_are_not_covered(manifest: Manifest) -> None:
    """A topic that the job got later."""
    parts = tuple(msgspec.structs.replace(part, outputs={}) for part in manifest.parts)
    other = msgspec.structs.replace(manifest, parts=parts)
    assert [Place(OUTPUT, 0, 1)] == uncovered({OUTPUT: {0: 1}}, other)

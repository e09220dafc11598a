"""A savepoint is judged by a replay of the source: its rows, and its positions in the topics of effects."""

from collections.abc import Callable
from typing import Any

import pytest

from portfolio_stream.audit.base import start_of
from portfolio_stream.audit.partition import WAITING_RECORDS
from portfolio_stream.audit.savepoint import SavepointAudit
from portfolio_stream.audit.start import Start
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.unit.audit_histories import encode, kinds
from tests.unit.audit_world import SETTINGS, AuditWorld
from tests.unit.savepoint_world import LATER
from tests.unit.test_savepoint_base import PORTFOLIO, settled

Change = Callable[[AuditWorld], dict[str, Any]]


async def judged(world: AuditWorld, start: Start | None = None, **change: Any) -> tuple[set[str], SavepointAudit]:
    """Save the settled state, let the job go on, and judge the savepoint."""
    objects = MemoryObjects()
    manifest = await world.savepoint(objects, LATER, **change)
    world.finish()
    reader: Any = world
    audit = SavepointAudit(SETTINGS, reader, manifest, 0)
    return kinds(await audit.run(start, await start_of(objects, manifest, 0))), audit


@pytest.mark.parametrize("seed", range(20))
async def test_a_savepoint_of_the_fold_holds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever came after it; also if effects are read in small pieces."""
    if seed % 2:
        monkeypatch.setattr("portfolio_stream.audit.savepoint.WAITING_RECORDS", 3)
    assert 3 < WAITING_RECORDS
    world = settled(seed, 1 + seed)
    offset = world.replay.position
    found, audit = await judged(world)
    assert (set(), offset, 0) == (found, audit.result.cut, audit.result.start)
    assert 0 < audit.result.figures["records"] <= offset


async def test_it_is_judged_from_an_older_savepoint_on() -> None:
    """Whose state is taken as given, and before which nothing is read."""
    world = settled()
    start = world.start()
    while len(world.served) <= 14:
        world.tick()
    world.settle()
    for topic, offset in ({"in": start.offset} | dict(start.effects)).items():
        world.logs[topic].trim(offset)
    found, audit = await judged(world, Start(offset=start.offset, effects=start.effects, values=dict(start.values)))
    assert (set(), start.offset) == (found, audit.result.start)


def rows_of(world: AuditWorld) -> dict[bytes, bytes]:
    return {key: encode(value) for key, value in world.replay.values.items()}


def changed_row(world: AuditWorld) -> dict[str, Any]:
    rows = rows_of(world)
    return {"rows": sorted((rows | {PORTFOLIO: rows[b"portfolios\x00B"]}).items())}


def lost_row(world: AuditWorld) -> dict[str, Any]:
    return {"rows": sorted(item for item in rows_of(world).items() if item[0] != PORTFOLIO)}


def foreign_row(world: AuditWorld) -> dict[str, Any]:
    rows = rows_of(world)
    return {"rows": sorted((rows | {b"portfolios\x00Z": rows[PORTFOLIO]}).items())}


def positions(world: AuditWorld, **shift: int) -> dict[str, Any]:
    return {"outputs": {topic: world.logs[topic].high_watermark + shift.get(topic, 0) for topic in ("out", "dlq")}}


def earlier_outputs(world: AuditWorld) -> dict[str, Any]:
    newest = world.logs["out"].records[-1].offset
    return positions(world, out=newest - world.logs["out"].high_watermark)


def later_offset(world: AuditWorld) -> dict[str, Any]:
    """Offsets without the state: the records up to there are in no row."""
    return {"offset": world.replay.position + 6}


WRONG: dict[str, tuple[Change, set[str]]] = {
    "a changed row": (changed_row, {"savepoint_value_wrong"}),
    "a lost row": (lost_row, {"savepoint_key_missing"}),
    "a row of nobody": (foreign_row, {"savepoint_key_unexpected"}),
    "outputs end too early": (earlier_outputs, {"missing_output"}),
    "outputs end too late": (lambda world: positions(world, out=2), {"unexpected_output"}),
    "an offset that is too late": (later_offset, {"missing_output", "savepoint_value_wrong"}),
}


@pytest.mark.parametrize("name", WRONG)
async def test_a_wrong_savepoint_is_caught(name: str) -> None:
    """By what is wrong with it."""
    change, expected = WRONG[name]
    world = settled()
    found, _ = await judged(world, **change(world))
    assert expected <= found
    assert {kind for kind in found if kind.startswith("savepoint")} <= expected | {"savepoint_key_missing"}


async def test_a_row_outside_its_window_is_no_part_of_the_table() -> None:
    """The store may still have it, and so may a savepoint."""
    world = settled(2, 12)
    gone = b"seen_events\x00A\x00e-gone"
    value = next(v for key, v in world.replay.values.items() if key.startswith(b"seen_events\x00A"))
    rows = rows_of(world) | {gone: encode(type(value)(0, 0, b"x" * 16, b""))}
    found, _ = await judged(world, rows=sorted(rows.items()))
    assert set() == found

"""A partition's audit that begins with a savepoint: what stands before it may be gone, and what stands behind it is
judged as ever."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portfolio_stream.audit.base import start_of
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.start import Start
from portfolio_stream.audit.tables import AuditedSeen
from portfolio_stream.domain.deduplication import older_fingerprint
from portfolio_stream.errors import CannotVerify, SavepointTampered
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.objects import MemoryObjects
from tests.unit.audit_histories import MOVED, cash, decision_key, encode, kinds, record
from tests.unit.audit_world import CHANGELOG, AuditWorld
from tests.unit.savepoint_world import ID
from tests.unit.test_partition_audit import ask, passes

EVENTS = 120
PORTFOLIO = b"portfolios\x00A"
Act = Callable[[AuditWorld], None]
Change = Callable[[AuditWorld], dict[str, Any]]


def settled(seed: int = 2, transactions: int = 8) -> AuditWorld:
    """A world after some transactions."""
    world = AuditWorld(seed, EVENTS)
    while len(world.served) <= transactions:
        world.tick()
    world.settle()
    return world


async def saved(seed: int, transactions: int) -> tuple[AuditWorld, Any, Manifest]:
    """A world with a savepoint after some transactions."""
    world = settled(seed, transactions)
    objects = MemoryObjects()
    manifest = await world.savepoint(objects)

    async def find_start(partition: int) -> Start:
        return await start_of(objects, manifest, partition)

    return world, find_start, manifest


def trim(world: AuditWorld, manifest: Manifest, *, with_effects: bool = True) -> None:
    world.logs["in"].trim(manifest.parts[0].offset)
    for topic, offset in manifest.parts[0].outputs.items():
        world.logs[topic].trim(offset if with_effects else 0)
    world.logs[CHANGELOG].clean()


@pytest.mark.parametrize("seed", range(60))
async def test_a_good_system_gives_no_alarm_from_a_savepoint_on(seed: int) -> None:
    """Duplicates of events before the savepoint, sequences and windows that go on across it: all are judged right."""
    world, find_start, manifest = await saved(seed, 1 + seed % 20)
    trim(world, manifest, with_effects=seed % 2 == 0)
    audit = world.audit(find_start)
    while world.tick():
        assert [] == await audit.run(None)
        ask(world, audit)
        if world.random.random() < 0.5:
            world.logs[CHANGELOG].clean()
    assert [] == await passes(audit, 2)
    offset = manifest.parts[0].offset
    figures = audit.result.figures
    assert (False, 0, offset) == (audit.is_undecided, audit.result.lag, audit.result.start)
    assert len([record for record in world.logs["in"].records if record.offset >= offset]) == figures["records"]
    assert figures["duplicates"] and figures["outputs"] and figures["served"]
    assert audit.replay.values == world.replay.values


async def judged(world: AuditWorld, find_start: Any, manifest: Manifest) -> set[str]:
    """The anomalies of the finished system, from the savepoint on."""
    world.finish()
    trim(world, manifest)
    audit = world.audit(find_start)
    found = kinds(await passes(audit, 3))
    assert [] == await passes(audit, 2)
    return found


def nothing(_: AuditWorld) -> None:
    pass


def first_lost(world: AuditWorld, topic: str) -> None:
    """The first record of a topic from now on is not written."""
    rest = iter([[]])
    world.change = lambda to, key, value: next(rest, [(key, value)]) if to == topic else [(key, value)]


def repeated(world: AuditWorld) -> None:
    """The newest output of before the savepoint is written again, behind the savepoint."""
    newest = world.logs["out"].records[-1]
    copies = iter([[(newest.key, newest.value)]])
    world.change = lambda to, key, value: [*next(copies, []), (key, value)] if to == "out" else [(key, value)]


def first_changed(world: AuditWorld) -> None:
    added = iter([b"100"])

    def change(to: str, key: bytes | None, value: bytes | None) -> list[Any]:
        if to == "out":
            value = (value or b"").replace(b'"balance":"', b'"balance":"' + next(added, b""))
        return [(key, value)]

    world.change = change


def decided(world: AuditWorld) -> None:
    """A decision about a record before the savepoint, which the savepoint does not know."""
    world.logs[CHANGELOG].append(decision_key(0), MOVED)
    world.logs[CHANGELOG].mark()


def stale(world: AuditWorld) -> None:
    """No value of the portfolio is written any more: the changelog keeps the value that the savepoint has too."""
    world.change = lambda to, key, value: [] if (to, key) == (CHANGELOG, PORTFOLIO) else [(key, value)]


BEHIND: dict[str, tuple[Act, set[str]]] = {
    "nothing": (nothing, set()),
    "the first output is lost": (lambda world: first_lost(world, "out"), {"missing_output", "sequence_gap"}),
    "the first dead letter is lost": (lambda world: first_lost(world, "dlq"), {"missing_dead_letter"}),
    "an output of before comes again": (repeated, {"duplicate_output", "sequence_gap"}),
    "the first output is another one": (first_changed, {"wrong_value_output"}),
    "a key that is not written any more": (stale, {"changelog_value_wrong"}),
    "a decision that the savepoint does not know": (decided, {"decision_wrong"}),
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", BEHIND)
async def test_a_fault_right_behind_the_savepoint_is_caught(name: str, seed: int) -> None:
    """By its name, as if the whole history were there."""
    act, expected = BEHIND[name]
    world, find_start, manifest = await saved(seed, 8)
    act(world)
    assert expected == await judged(world, find_start, manifest)


async def test_a_decision_that_the_savepoint_knows_is_right() -> None:
    """Its record stands before the savepoint, so no replay meets it."""
    world = settled()
    objects = MemoryObjects()
    rows = [(decision_key(0), MOVED), *((key, encode(value)) for key, value in world.replay.values.items())]
    manifest = await world.savepoint(objects, rows=sorted(rows))
    decided(world)
    assert set() == await judged(world, lambda partition: start_of(objects, manifest, partition), manifest)


def lost_key(world: AuditWorld) -> None:
    log = world.logs[CHANGELOG]
    log.records = [record for record in log.records if record.key != PORTFOLIO]


def wrong_key(world: AuditWorld) -> None:
    world.logs[CHANGELOG].append(PORTFOLIO, encode(world.replay.values[b"portfolios\x00B"]))
    world.logs[CHANGELOG].mark()


def foreign_key(world: AuditWorld) -> None:
    world.logs[CHANGELOG].append(b"portfolios\x00Z", encode(world.replay.values[PORTFOLIO]))
    world.logs[CHANGELOG].mark()


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (lost_key, {"changelog_key_missing"}),
        (wrong_key, {"changelog_value_wrong"}),
        (foreign_key, {"changelog_key_unexpected"}),
    ],
)
async def test_keys_that_did_not_change_since_the_savepoint_are_compared_too(act: Act, expected: set[str]) -> None:
    """All keys of the changelog are, once: a compacted changelog has the whole state, whenever it was written."""
    world = settled()
    world.finish()
    objects = MemoryObjects()
    manifest = await world.savepoint(objects)
    act(world)
    assert expected == await judged(world, lambda partition: start_of(objects, manifest, partition), manifest)


def changed_row(world: AuditWorld) -> dict[str, Any]:
    """The savepoint's portfolio is that of another one."""
    rows = {key: encode(value) for key, value in world.replay.values.items()}
    rows[PORTFOLIO] = rows[b"portfolios\x00B"]
    return {"rows": sorted(rows.items())}


def lost_row(world: AuditWorld) -> dict[str, Any]:
    return {"rows": sorted((key, encode(v)) for key, v in world.replay.values.items() if key != PORTFOLIO)}


def later(world: AuditWorld) -> dict[str, Any]:
    """The savepoint says that the first output behind it belongs to it."""
    return {"outputs": {topic: world.logs[topic].high_watermark + (topic == "out") for topic in ("out", "dlq")}}


def earlier(world: AuditWorld) -> dict[str, Any]:
    """The savepoint's outputs end before its last output."""
    newest = world.logs["out"].records[-1].offset
    return {"outputs": {"out": newest, "dlq": world.logs["dlq"].high_watermark}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (changed_row, {"wrong_value_output", "sequence_gap", "changelog_value_wrong"}),
        (lost_row, {"wrong_value_output", "sequence_gap", "changelog_value_wrong"}),
        (later, {"missing_output", "sequence_gap"}),
        (earlier, {"duplicate_output", "sequence_gap"}),
    ],
)
async def test_a_wrong_savepoint_does_not_hold(change: Change, expected: set[str]) -> None:
    """Its state and its positions contradict what stands behind it. Nobody takes its word for that."""
    world = settled()
    objects = MemoryObjects()
    manifest = await world.savepoint(objects, **change(world))
    assert expected == await judged(world, lambda partition: start_of(objects, manifest, partition), manifest)


async def test_a_damaged_savepoint_is_not_believed() -> None:
    """The file's SHA-256 refuses a changed byte, and the state hash refuses rows that are not the manifest's."""
    world = settled()
    objects = MemoryObjects()
    part = await world.savepoint(objects)
    path = f"{ID}/{part.parts[0].files[0].path}"
    content = await objects.get(path) or b""
    await objects.put(path, content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(SavepointTampered, match="SHA-256"):
        await start_of(objects, part, 0)
    await objects.put(path, content)
    parts = (msgspec.structs.replace(part.parts[0], state_hash=dict.fromkeys(part.parts[0].state_hash, "0" * 64)),)
    with pytest.raises(CannotVerify, match="state hash"):
        await start_of(objects, msgspec.structs.replace(part, parts=parts), 0)


async def test_a_row_that_is_no_value_is_not_passed_over() -> None:
    """The audit would judge without it."""
    world = settled()
    objects = MemoryObjects()
    manifest = await world.savepoint(objects, rows=[(b"positions\x00A\x00ACME", b"nothing")])
    with pytest.raises(CannotVerify, match="no value of a table"):
        await start_of(objects, manifest, 0)


async def test_a_savepoint_ahead_of_the_state_is_refused() -> None:
    """The job went back since: no record of the changelog could be compared with the replay."""
    world, find_start, _ = await saved(2, 8)
    world.finish()
    world.logs[CHANGELOG].append(*world.meta(offset=1))
    world.logs[CHANGELOG].mark()
    with pytest.raises(CannotVerify, match="the state is only at 1"):
        await world.audit(find_start).run(None)


async def test_rows_of_format_2_are_a_base_too() -> None:
    """A seen event of format 2 has another fingerprint, and still recognises its duplicate."""
    value = cash("e-1")
    replay = SourceReplay(0, 1, "in", 5)
    seen = AuditedSeen(1, 0, b"", older_fingerprint(value))
    first = replayed_one(value)
    replay.begin(Start(offset=1, effects={}, values={**first, b"seen_events\x00P1\x00e-1": seen}))
    replay.feed([record(1, value), record(2, cash("e-1", "7"))])
    assert (1, 1, [2]) == (replay.counts["duplicates"], replay.counts["rejected"], list(replay.dead_letters))


def replayed_one(value: bytes) -> dict[bytes, Any]:
    replay = SourceReplay(0, 1, "in", 5)
    replay.feed([record(0, value)])
    return replay.values


def test_rows_that_have_left_their_window_are_no_part_of_the_base() -> None:
    """They may still exist in a savepoint, as they may in a changelog."""
    replay = SourceReplay(0, 1, "in", 2)
    replay.feed([record(at, cash(f"e-{at}")) for at in range(3)])
    gone = b"seen_events\x00P1\x00e-0"
    other = SourceReplay(0, 1, "in", 2)
    other.begin(Start(offset=3, effects={}, values={gone: AuditedSeen(1, 0, b"x" * 16, b""), **replay.values}))
    assert gone not in other.values
    for one in (replay, other):
        one.feed([record(3, cash("e-3"))])
    assert replay.values == other.values

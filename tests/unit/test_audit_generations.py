"""A partition's audit where the job was switched to a generation that folds again what was folded before."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portfolio_stream.audit.result import notices_of
from portfolio_stream.audit.start import Start
from tests.unit.audit_histories import MOVED, decision_key, kinds
from tests.unit.audit_world import AuditWorld
from tests.unit.test_partition_audit import ask, is_of_one_cut, passes

EVENTS = 120


def switched(seed: int, kept: int = 5, more: int = 12) -> AuditWorld:
    """A world that has gone back: its state is that of the first `kept` transactions, its effects stand further on."""
    world = AuditWorld(seed, EVENTS)
    while len(world.served) <= kept:
        world.tick()
    world.settle()
    start = world.start()
    while len(world.served) <= more:
        world.tick()
    world.settle()
    world.switch(start)
    return world


@pytest.mark.parametrize("seed", range(60))
async def test_a_good_generation_gives_no_alarm_while_it_repeats(seed: int) -> None:
    """The effects that stand already are legal before the cut reaches them, and are compared when it does."""
    world = switched(seed)
    assert world.repeat
    standing = sum(until - following for following, until in world.repeat.values())
    audit = world.audit()
    assert [] == await audit.run(None)
    assert 0 < audit.result.repeats <= standing
    while world.tick():
        assert [] == await audit.run(None)
        assert is_of_one_cut(audit.result)
        ask(world, audit)
        if world.random.random() < 0.5:
            world.logs[world.changelog].clean()
    assert [] == await passes(audit, 2)
    assert (False, 0, 0) == (audit.is_undecided, audit.result.lag, audit.result.repeats)
    assert EVENTS == audit.result.figures["records"]
    assert audit.result.figures["served"] > 0
    assert audit.replay.values == world.replay.values


@pytest.mark.parametrize("seed", range(30))
async def test_it_is_judged_from_a_savepoint_too(seed: int) -> None:
    """A savepoint of the middle of a repeat has the positions of the effects that its state has given."""
    world = switched(seed)
    for _ in range(12):
        world.tick()
    world.settle()
    start = world.start()
    base = Start(offset=start.offset, effects=start.effects, values=dict(start.values))
    for topic, offset in ({"in": base.offset} | dict(base.effects)).items():
        world.logs[topic].trim(offset)

    async def find_start(_: int) -> Start:
        return base

    audit = world.audit(find_start)
    while world.tick():
        assert [] == await audit.run(None)
    assert [] == await passes(audit, 2)
    assert (False, 0, base.offset) == (audit.is_undecided, audit.result.lag, audit.result.start)
    assert audit.replay.values == world.replay.values


# --- Broken generations ---

Act = Callable[[AuditWorld], None]


def nothing(_: AuditWorld) -> None:
    """A good one."""


def writes_again(world: AuditWorld) -> None:
    """The new generation writes an effect that stands already."""
    following, _ = world.repeat["out"]
    standing = next(record for record in world.logs["out"].records if record.offset >= following)
    world.logs["out"].append(standing.key, standing.value, standing.timestamp)
    world.logs["out"].mark()


def forgets_to_repeat(world: AuditWorld) -> None:
    """The new generation does not know that effects stand already: it writes all of them again."""
    world.repeat.clear()


def changed(world: AuditWorld) -> None:
    """One of the effects that stand is not what the fold gives."""
    following, _ = world.repeat["out"]
    standing = next(record for record in world.logs["out"].records if record.offset >= following)
    standing.value = standing.value.replace(b'"balance":"', b'"balance":"1')


def lost(world: AuditWorld) -> None:
    """One of the effects that stood is gone, and the worker does not see it."""
    following, _ = world.repeat["out"]
    log = world.logs["out"]
    gone = next(record for record in log.records if record.offset > following)
    log.records.remove(gone)


def foreign(world: AuditWorld) -> None:
    """Among the effects that stand is one that no source record gives."""
    following, _ = world.repeat["out"]
    value = {"event_id": "e-x", "sequence": 1, "source": {"partition": 0, "offset": 9_999}}
    log = world.logs["out"]
    log.append(b"A", msgspec.json.encode(value))
    log.mark()
    world.repeat["out"] = (following, log.high_watermark)


def other_generation(world: AuditWorld) -> None:
    """The old generation's worker has committed."""
    world.metadata = "generation=1"


def moved_by_hand(world: AuditWorld) -> None:
    """Kafka's own tool leaves no text."""
    world.metadata = ""


def backwards(world: AuditWorld) -> None:
    """The changelog that was loaded has a key of the old generation's later state."""
    log = world.logs[world.changelog]
    log.append(b"portfolios\x00Z", log.records[0].value)
    log.last_stable = log.high_watermark


def early_decision(world: AuditWorld) -> None:
    """A decision about a record that will never need one."""
    log = world.logs[world.changelog]
    log.append(decision_key(9_999), MOVED)
    log.last_stable = log.high_watermark


def impossible_repeat(world: AuditWorld) -> None:
    """META says that more is to be repeated than stands."""
    log = world.logs[world.changelog]
    log.append(*world.meta(repeat={topic: (start, until + 10) for topic, (start, until) in world.repeat.items()}))
    log.last_stable = log.high_watermark


BROKEN: dict[str, tuple[Act, set[str]]] = {
    "nothing": (nothing, set()),
    "an effect is written again": (writes_again, {"duplicate_output", "sequence_gap"}),
    "all effects are written again": (forgets_to_repeat, {"duplicate_output", "sequence_gap"}),
    "an effect that stands is another one": (changed, {"wrong_value_output"}),
    "an effect that stood is lost": (lost, {"missing_output", "sequence_gap"}),
    "a foreign effect stands": (foreign, {"unexpected_output"}),
    "a worker of the old generation committed": (other_generation, {"group_generation_differs"}),
    "somebody moved the offset": (moved_by_hand, {"group_generation_differs"}),
    "a wrong key was loaded": (backwards, {"changelog_key_unexpected"}),
    "a decision about no record": (early_decision, {"decision_wrong"}),
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_generation_is_caught(name: str, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """By its name, whether it is audited while it repeats or at rest."""
    monkeypatch.setattr("portfolio_stream.audit.reader.AGREEMENT_SECONDS", 0.0)
    act, expected = BROKEN[name]
    world = switched(seed)
    act(world)
    audit = world.audit()
    found: list[Any] = []
    while seed % 2 and world.tick():
        found += await audit.run(None)
    world.finish()
    found += await passes(audit, 3)
    assert [] == await passes(audit, 2)
    assert expected <= kinds(found)
    assert bool(expected) == bool(found), kinds(found)


@pytest.mark.parametrize(
    ("act", "expected"),
    [
        (nothing, set()),
        (writes_again, {"unexpected_output"}),
        (changed, set()),
        (early_decision, set()),
        (impossible_repeat, {"meta_wrong"}),
    ],
)
async def test_a_generation_that_stands_still_while_it_repeats(act: Act, expected: set[str]) -> None:
    """It must have written nothing behind the effects that it repeats. These it may still have to compare."""
    world = switched(3)
    act(world)
    world.is_still = True
    audit = world.audit()
    found = await passes(audit, 1)
    while audit.is_undecided:
        found += await passes(audit, 1)
    assert expected == kinds(found)
    assert [] == await passes(audit, 2)
    assert audit.result.repeats > 0
    assert "folds again" in notices_of([audit.result])[0]


async def test_source_records_that_are_all_folded_leave_nothing_to_repeat() -> None:
    """An effect that still stands to be repeated then comes from no source record, whatever META says."""
    world = switched(3)
    world.finish()
    log, out = world.logs[world.changelog], world.logs["out"]
    end = out.high_watermark
    out.append(b"A", msgspec.json.encode({"event_id": "e", "sequence": 1, "source": {"partition": 0, "offset": 9_999}}))
    out.mark()
    log.append(*world.meta(repeat={"out": (end, out.high_watermark)}))
    log.mark()
    audit = world.audit()
    assert {"unexpected_output", "sequence_gap"} == kinds(await passes(audit, 3))

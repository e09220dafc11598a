"""A partition's audit on a system that moves: it never cries wolf, and at rest it misses nothing."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from portfolio_stream.audit import reader
from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import META_KEY, ServedAnswer
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.replay import KeyIndex
from portfolio_stream.audit.result import PartitionResult
from portfolio_stream.audit.tables import show_value
from tests.unit.audit_histories import MOVED, decision_key, kinds
from tests.unit.audit_world import CHANGELOG, AuditWorld

PORTFOLIO = b"portfolios\x00A"
Written = tuple[bytes | None, bytes | None]
LogChange = Callable[[str, bytes | None, bytes | None], list[Written]]


async def passes(audit: PartitionAudit, count: int) -> list[HistoryAnomaly]:
    return [anomaly for _ in range(count) for anomaly in await audit.run(None)]


def ask(world: AuditWorld, audit: PartitionAudit) -> None:
    """What the worker serves: some keys, or all of a table; a store that lags is asked again later."""
    offset, state = world.served[-1]
    if offset < audit.cut or audit.replay.before:
        return
    if world.random.random() < 0.5:
        keys = [*world.random.sample(sorted(state), min(len(state), 3)), b"portfolios\x00Z"]
        audit.take_answers(world.answer(key) for key in keys)
    else:
        audit.take_answers([whole_table(world)], KeyIndex(audit.replay))


def whole_table(world: AuditWorld, **change: Any) -> ServedAnswer:
    _, state = world.served[-1]
    found = {key: show_value(key, value) for key, value in state.items() if key.startswith(b"seen_events\x00")}
    return world.answer(b"seen_events\x00", **({"upper": b"seen_events\x00\xff", "found": found} | change))


def is_of_one_cut(result: PartitionResult) -> bool:
    """Effects of later source records, which are seen as well, are not counted before their cut."""
    figures = result.figures
    effects = figures["outputs"], figures["dead_letters"]
    return effects == (figures.get("accepted", 0), figures.get("rejected", 0))


@pytest.mark.parametrize("seed", range(150))
async def test_a_good_system_that_moves_gives_no_alarm(seed: int) -> None:
    """However passes and answers fall between the steps of its transactions; at rest all of it was compared."""
    world = AuditWorld(seed, 120)
    audit = world.audit()
    while world.tick():
        assert [] == await audit.run(None)
        assert is_of_one_cut(audit.result)
        ask(world, audit)
        if world.random.random() < 0.5:
            world.logs[CHANGELOG].clean()
    assert [] == await passes(audit, 2)
    figures = audit.result.figures
    assert (False, 0, 120) == (audit.is_undecided, audit.result.lag, figures["records"])
    assert is_of_one_cut(audit.result)
    assert figures["served"] > 0
    assert audit.replay.values == world.replay.values


@pytest.mark.parametrize("seed", range(50))
async def test_the_log_cleaner_may_come_at_any_moment(seed: int) -> None:
    """Between the look at the changelog's end and the reading of it, too: what it took is there by the next pass."""
    world = AuditWorld(seed, 120)
    log, read = world.logs[CHANGELOG], world.read
    turns = 0

    async def clean_first(topic: str, *arguments: Any) -> Any:
        nonlocal turns
        if topic == CHANGELOG:
            turns += 1
            for _ in range(40):
                world.tick()
            if turns % 2:  # not twice in succession
                log.clean()
        async for records in read(topic, *arguments):
            yield records

    world.read = clean_first  # type: ignore[method-assign]
    audit = world.audit()
    while world.tick():
        assert [] == await audit.run(None)
        ask(world, audit)
    assert [] == await passes(audit, 3)
    assert (120, False) == (audit.result.figures["records"], audit.is_undecided)


@pytest.mark.parametrize("seed", range(50))
async def test_a_pass_that_fails_is_continued_by_the_next(seed: int) -> None:
    """A broker that does not answer for a while loses nothing and doubles nothing."""
    world = AuditWorld(seed, 120)
    read = world.read

    async def failing(topic: str, *arguments: Any) -> Any:
        async for records in read(topic, *arguments):
            yield records
            if world.random.random() < 0.2:
                raise ConnectionError

    world.read = failing  # type: ignore[method-assign]
    audit = world.audit()
    while world.tick():
        try:
            assert [] == await audit.run(None)
            ask(world, audit)
        except ConnectionError:
            pass
    world.read = read  # type: ignore[method-assign]
    assert [] == await passes(audit, 2)
    assert (120, False, 0) == (audit.result.figures["records"], audit.is_undecided, audit.result.lag)


# --- Broken systems ---


def once(topic: str, at: int, write: Callable[[Written], list[Written]]) -> LogChange:
    """Change the record number `at` that is written to `topic`."""
    count = 0

    def change(to: str, key: bytes | None, value: bytes | None) -> list[Written]:
        nonlocal count
        count += to == topic and key != META_KEY
        return write((key, value)) if to == topic and count == at and key != META_KEY else [(key, value)]

    return change


def meta_of(topic: str, key: bytes | None, value: bytes | None, **change: Any) -> list[Written]:
    if topic != CHANGELOG or key != META_KEY:
        return [(key, value)]
    meta = msgspec.msgpack.decode(value or b"")
    return [(key, msgspec.msgpack.encode(meta | {name: act(meta[name]) for name, act in change.items()}))]


BROKEN: dict[str, tuple[Callable[[], LogChange], set[str]]] = {
    "a lost output": (lambda: once("out", 20, lambda _: []), {"missing_output", "sequence_gap"}),
    "an output twice": (lambda: once("out", 20, lambda one: [one, one]), {"duplicate_output", "sequence_gap"}),
    "a foreign output": (lambda: once("out", 20, lambda one: [one, (b"x", b"{}")]), {"unexpected_output"}),
    "a lost dead letter": (lambda: once("dlq", 2, lambda _: []), {"missing_dead_letter"}),
    "a dead letter twice": (lambda: once("dlq", 2, lambda one: [one, one]), {"duplicate_dead_letter"}),
    "the last value of a key lost": (
        lambda: lambda to, key, value: [] if (to, key) == (CHANGELOG, PORTFOLIO) else [(key, value)],
        {"changelog_key_missing"},
    ),
    "a key that nobody wrote": (
        lambda: once(CHANGELOG, 20, lambda one: [one, (b"portfolios\x00Z", one[1])]),
        {"changelog_key_unexpected"},
    ),
    "a deletion lost": (
        lambda: lambda to, key, value: [] if to == CHANGELOG and value is None else [(key, value)],
        set(),  # what left its window is no part of the table
    ),
    "a META that is ahead": (
        lambda: lambda *one: meta_of(*one, offset=lambda offset: offset + 3),
        {"meta_wrong", "group_offset_differs"},
    ),
    "a META of another topic": (lambda: lambda *one: meta_of(*one, partitions=lambda _: 2), {"meta_wrong"}),
    "a decision without a dead letter": (
        lambda: once(CHANGELOG, 1, lambda one: [one, (decision_key(0), MOVED)]),
        {"missing_dead_letter", "unexpected_output"},
    ),
}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_system_is_caught(name: str, seed: int) -> None:
    """By its name, whether it is audited while it moves or at rest, and once."""
    change, expected = BROKEN[name]
    while_moving = bool(seed % 2)
    world = AuditWorld(seed, 120)
    world.change = change()
    audit = world.audit()
    found: list[HistoryAnomaly] = []
    while while_moving and world.tick():
        found += await audit.run(None)
    world.finish()
    found += await passes(audit, 3)
    assert [] == await passes(audit, 2)
    assert expected <= kinds(found)
    assert bool(expected) == bool(found), kinds(found)


async def test_an_output_of_no_state_is_unexpected() -> None:
    """Written past every transaction, for a source record that may come one day."""
    world = AuditWorld(1, 60)
    world.finish()
    value = {"event_id": "e-x", "sequence": 1, "source": {"partition": 0, "offset": 9_999}}
    world.logs["out"].append(b"A", msgspec.json.encode(value))
    world.logs["out"].mark()
    audit = world.audit()
    assert [] == await passes(audit, 2)
    assert audit.is_suspicious
    assert {"unexpected_output", "sequence_gap"} == kinds(await passes(audit, 1))


async def test_a_group_offset_that_is_not_metas_is_named() -> None:
    """At rest both are the same."""
    world = AuditWorld(1, 60)
    world.finish()
    world.committed = (world.committed or 0) + 1
    assert {"group_offset_differs"} == kinds(await passes(world.audit(), 2))


async def test_a_group_offset_that_is_gone_is_noticed_and_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything else is compared as ever, with or without a worker; once the offset is there again nothing is said."""
    monkeypatch.setattr(reader, "ABSENCE_SECONDS", 0.0)
    world = AuditWorld(1, 60)
    world.finish()
    committed, world.committed = world.committed, None
    audit = world.audit()
    assert ([], True) == (await passes(audit, 2), audit.result.lacks_group_offset)
    assert 60 == audit.result.figures["records"]
    world.committed = committed
    assert ([], False) == (await passes(audit, 1), audit.result.lacks_group_offset)


# --- What workers serve ---


async def answered(world: AuditWorld, **change: Any) -> set[str]:
    """The anomalies of one changed answer about a portfolio, of a system at rest."""
    world.finish()
    audit = world.audit()
    assert [] == await passes(audit, 2)
    audit.take_answers([world.answer(PORTFOLIO, **change)])
    found = kinds(await passes(audit, 1))
    assert audit.is_suspicious is not bool(found)
    return found | kinds(await passes(audit, 1))


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("served_wrong", {"found": {PORTFOLIO: {"sequence": 1}}}),
        ("served_missing", {"found": {}}),
        ("served_unexpected", {"lower": b"portfolios\x00Z", "found": {b"portfolios\x00Z": {"sequence": 1}}}),
        ("served_uncommitted", {"offset": 10_000}),
        ("served_stale", {"offset": 3}),
        ("served_misplaced", {"found_partition": 1}),
    ],
)
async def test_a_wrong_answer_is_named(kind: str, change: dict[str, Any]) -> None:
    """A value of the future is proven when a second look at what is committed does not reach it."""
    assert {kind} == await answered(AuditWorld(1, 60), **change)


async def test_a_value_is_compared_at_its_own_offset() -> None:
    """Right then, though it has changed since; wrong, if it is a later one's."""
    world = AuditWorld(1, 120)
    audit = world.audit()
    while len(world.served) < 3:
        world.tick()
    early = world.answer(PORTFOLIO)
    world.finish()
    late = world.answer(PORTFOLIO, offset=early.offset)
    assert early.found != late.found
    audit.take_answers([early])
    assert [] == await passes(audit, 1)
    other = world.audit()
    other.take_answers([late])
    assert {"served_wrong"} == kinds(await passes(other, 1))


async def test_a_page_has_all_keys_between_two_and_no_other() -> None:
    """A row that is lost, and one that left the table's window."""
    world = AuditWorld(1, 120)
    world.finish()
    audit = world.audit()
    assert [] == await passes(audit, 2)
    whole = whole_table(world)
    lost, *others = whole.found
    left = {**whole.found, b"seen_events\x00A\x00e-gone": whole.found[lost]}
    for found, kind in (({key: whole.found[key] for key in others}, "served_missing"), (left, "served_unexpected")):
        audit.take_answers([whole_table(world, found=found)], KeyIndex(audit.replay))
        assert {kind} == kinds(await passes(audit, 1))
    assert audit.result.figures["served"] == 2 * len(whole.found) + 1

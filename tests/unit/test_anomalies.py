"""The checker is checked: a tiny broken history for each anomaly, each named; of a good one nothing is said."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from portfolio_stream.audit.anomalies import EFFECT_CHECKS, PLACE_CHECKS, TABLE_CHECKS, Anomaly
from portfolio_stream.audit.history import (
    Comparison,
    Effect,
    Entry,
    Meta,
    Noun,
    Place,
    TableComparison,
    read_dead_letter,
    read_output,
)
from portfolio_stream.audit.replay import Replay
from portfolio_stream.audit.result import LISTED, Findings, as_json, as_text, conclude
from portfolio_stream.domain.activity import NOTHING
from portfolio_stream.records.values import encode_activity, encode_portfolio, encode_seen_event

Change = dict[str, Any]

SECRETS = ("P1", "101.25", "1216")  # a portfolio and amounts of the history below: no anomaly may show one
TOPIC_ID = "00112233445566778899aabbccddeeff"
NOON = 1_795_435_200_000  # of the day on which the events below occurred


def record(offset: int, value: bytes | None, key: bytes | None = b"P1", **other: Any) -> Any:
    """A record as a stock consumer gives it."""
    return SimpleNamespace(
        **({"offset": offset, "timestamp": NOON + offset, "key": key, "value": value, "headers": ()} | other)
    )


def cash(event_id: str, amount: str = "101.25") -> bytes:
    return (
        f'{{"event_id":"{event_id}","type":"cash","portfolio_id":"P1","occurred_at":"2026-11-23T04:30:00Z"'
        f',"amount":"{amount}","currency":"USD"}}'
    ).encode()


def replayed() -> Replay:
    """Three accepted events, one duplicate, two rejected, in the only partition."""
    replay = Replay(0, 1, "in", 10_000)
    replay.feed(
        [
            record(0, cash("e-0")),
            record(1, cash("e-1")),
            record(2, b"not json"),
            record(4, cash("e-1")),  # 3 was a transaction's marker
            record(5, cash("e-5")),
            record(6, cash("e-0", "7"), headers=(("trace", b"x"),)),
        ]
    )
    return replay


def written(expected: dict[int, Effect]) -> list[Effect]:
    """What a correct system would have written: each effect once, in order, with offsets of its own topic."""
    return [msgspec.structs.replace(effect, offset=10 + at) for at, effect in enumerate(expected.values())]


def changed(effect: Effect, **change: Any) -> Effect:
    return msgspec.structs.replace(effect, **change)


def effect_anomalies(noun: Noun, expected: dict[int, Effect], found: list[Effect]) -> list[Anomaly]:
    comparison = Comparison(noun=noun, topic="out", partition=0, expected=expected, found=found)
    return [anomaly for check in EFFECT_CHECKS for anomaly in check(comparison)]


def kinds(anomalies: list[Anomaly]) -> set[str]:
    shown = "".join(map(str, anomalies))
    assert not [secret for secret in SECRETS if secret in shown]
    return {anomaly.kind for anomaly in anomalies}


# --- Outputs and dead letters ---


def test_the_replay_says_what_each_record_is() -> None:
    """The tiny history has one of each."""
    replay = replayed()
    assert {"records": 6, "accepted": 3, "rejected": 2, "duplicates": 1} == dict(replay.counts)
    assert ([0, 1, 5], [2, 6]) == (list(replay.outputs), list(replay.dead_letters))


@pytest.mark.parametrize("noun", ["output", "dead_letter"])
def test_a_good_history_has_no_anomaly(noun: Noun) -> None:
    """Whatever was expected, once, in order, with the same bytes."""
    expected = replayed().outputs if noun == "output" else replayed().dead_letters
    assert [] == effect_anomalies(noun, expected, written(expected))


@pytest.mark.parametrize("noun", ["output", "dead_letter"])
@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("wrong_value", {"value": b'{"event_id":"e-1","sequence":2}'}),
        ("wrong_value", {"value": None}),
        ("wrong_key", {"key": b"P2"}),
        ("wrong_key", {"key": None}),
        ("wrong_timestamp", {"timestamp": 7}),
        ("wrong_headers", {"headers": (("trace", b"y"),)}),
        ("misplaced", {"source_partition": 3}),
        ("unexpected", {"source": 4}),
        ("unexpected", {"source": 99}),
        ("unexpected", {"source": -1, "source_partition": -1}),
    ],
)
def test_a_changed_record_is_named(noun: Noun, kind: str, change: Change) -> None:
    """The last record of a good history, changed in one thing."""
    expected = replayed().outputs if noun == "output" else replayed().dead_letters
    found = written(expected)
    found[-1] = changed(found[-1], **change)
    anomalies = effect_anomalies(noun, expected, found)
    named = [anomaly for anomaly in anomalies if anomaly.kind == f"{kind}_{noun}"]
    assert [(0, found[-1].offset)] == [(anomaly.partition, anomaly.offset) for anomaly in named]
    is_moved = "source" in change or "source_partition" in change  # then it is missing at its place, too
    also = {f"missing_{noun}"} if is_moved else {"sequence_gap"} if noun == "output" and "key" in change else set()
    assert {f"{kind}_{noun}"} | also == kinds(anomalies)


@pytest.mark.parametrize("noun", ["output", "dead_letter"])
def test_a_lost_record_is_named(noun: Noun) -> None:
    """With its source offset; an output with its event id and the gap that it leaves."""
    expected = replayed().outputs if noun == "output" else replayed().dead_letters
    anomalies = effect_anomalies(noun, expected, written(expected)[1:])
    first = next(iter(expected.values()))
    lost = next(anomaly for anomaly in anomalies if anomaly.kind == f"missing_{noun}")
    assert (first.source, first.event_id, None) == (lost.source_offset, lost.event_id, lost.offset)
    assert {f"missing_{noun}"} | ({"sequence_gap"} if noun == "output" else set()) == kinds(anomalies)


@pytest.mark.parametrize("noun", ["output", "dead_letter"])
def test_a_second_copy_is_named(noun: Noun) -> None:
    """At the offset of the copy, not of the original."""
    expected = replayed().outputs if noun == "output" else replayed().dead_letters
    found = written(expected)
    copy = changed(found[-1], offset=90)
    anomalies = effect_anomalies(noun, expected, [*found, copy])
    assert [90] == [anomaly.offset for anomaly in anomalies if anomaly.kind == f"duplicate_{noun}"]
    assert {f"duplicate_{noun}"} | ({"sequence_gap"} if noun == "output" else set()) == kinds(anomalies)


@pytest.mark.parametrize("noun", ["output", "dead_letter"])
def test_a_swap_is_named(noun: Noun) -> None:
    """Nothing is lost, but a later source record's effect stands first."""
    expected = replayed().outputs if noun == "output" else replayed().dead_letters
    found = written(expected)
    found[0], found[1] = found[1], found[0]
    anomalies = effect_anomalies(noun, expected, found)
    assert {f"out_of_order_{noun}"} | ({"sequence_gap"} if noun == "output" else set()) == kinds(anomalies)


def test_a_copy_from_another_partition_hides_nothing() -> None:
    """A misplaced record with the source offset of a lost one does not pass for it."""
    expected = replayed().outputs
    found = written(expected)
    found[0] = changed(found[0], source_partition=1)
    assert {"misplaced_output", "missing_output"} == kinds(effect_anomalies("output", expected, found))


def test_what_a_wrong_output_differs_in_is_named_without_its_amount() -> None:
    """The field's name, never what it holds."""
    expected = replayed().outputs
    found = written(expected)
    found[0] = changed(found[0], value=(found[0].value or b"").replace(b"101.25", b"1216"))
    anomalies = effect_anomalies("output", expected, found)
    assert ({"wrong_value_output"}, "other cash.balance") == (kinds(anomalies), anomalies[0].found)


def test_records_are_read_as_effects() -> None:
    """Outputs name their source in the value, dead letters in headers; what names none is kept, as naming none."""
    outputs, letters = replayed().outputs, replayed().dead_letters
    for source, effect in outputs.items():
        at = {"timestamp": effect.timestamp, "headers": effect.headers}
        assert changed(effect, offset=7) == read_output(record(7, effect.value, effect.key, **at)), source
    for source, effect in letters.items():
        at = {"timestamp": effect.timestamp, "headers": effect.headers}
        read = read_dead_letter(record(7, effect.value, effect.key, **at))
        assert changed(effect, offset=7, event_id=None) == read, source
    assert [-1, -1, -1] == [read(record(7, b"{}")).source for read in (read_output, read_dead_letter, read_output)]


# --- Tables ---


def table_anomalies(change: dict[bytes, Entry | None]) -> list[Anomaly]:
    replay = replayed()
    entries = {key: Entry(at, encode(value)) for at, (key, value) in enumerate(replay.tables().items())}
    for key, entry in change.items():
        if entry is None:
            del entries[key]
        else:
            entries[key] = entry
    comparison = TableComparison(
        topic="changelog", partition=0, expected=replay.tables(), found=replay.read_changelog(entries)
    )
    return [anomaly for check in TABLE_CHECKS for anomaly in check(comparison)]


def encode(value: Any) -> bytes:
    encoders = {"Activity": encode_activity, "Portfolio": encode_portfolio, "SeenEvent": encode_seen_event}
    return encoders[type(value).__name__](value)


def test_a_good_changelog_has_no_anomaly() -> None:
    """Every key with the replay's value."""
    assert [] == table_anomalies({})


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("changelog_key_missing", {b"portfolios\x00P1": None}),
        ("changelog_key_missing", {b"activity\x00P1\x002026-11-23T04:30:00Z": None}),
        ("changelog_key_missing", {b"seen_events\x00P1\x00e-1": None}),
        ("changelog_key_unexpected", {b"portfolios\x00P2": Entry(9, encode_portfolio(replayed()._portfolios[b"P1"]))}),
        ("changelog_key_unexpected", {b"activity\x00P1\x002026-11-22T04:30:00Z": Entry(9, encode_activity(NOTHING))}),
        ("changelog_key_unexpected", {b"unknown\x00P1": Entry(9, b"")}),
        ("changelog_value_wrong", {b"portfolios\x00P1": Entry(9, b"not msgpack")}),
        ("changelog_value_wrong", {b"seen_events\x00P1\x00e-1": Entry(9, encode(replayed()._seen[b"P1\x00e-0"]))}),
    ],
)
def test_a_broken_changelog_is_named(kind: str, change: dict[bytes, Entry | None]) -> None:
    """A key lost, invented, or with another value."""
    assert {kind} == kinds(table_anomalies(change))


def test_what_left_the_window_is_no_part_of_the_table() -> None:
    """Whether or not its tombstone was written."""
    replay = Replay(0, 1, "in", 2)
    replay.feed([record(0, cash("e-0")), record(1, cash("e-1")), record(2, cash("e-2"))])
    keys = {key for key in replay.tables() if key.startswith(b"seen_events")}
    assert {b"seen_events\x00P1\x00e-1", b"seen_events\x00P1\x00e-2"} == keys
    old = Entry(3, encode(replay._seen[b"P1\x00e-0"]))
    assert {} == replay.read_changelog({b"seen_events\x00P1\x00e-0": old})


# --- META and the group ---


def meta(**change: Any) -> Entry:
    good = Meta(topic_id=TOPIC_ID, offset=7, partitions=1, fold="version=1", version=1)
    return Entry(40, msgspec.msgpack.encode(msgspec.structs.replace(good, **change)))


def place_anomalies(**change: Any) -> list[Anomaly]:
    good: Change = {
        "topic": "changelog",
        "partition": 0,
        "partitions": 1,
        "source_end": 7,
        "meta": meta(),
        "topic_id": TOPIC_ID,
        "committed_before": 7,
        "committed_after": 7,
    }
    place = Place(**(good | change))
    return [anomaly for check in PLACE_CHECKS for anomaly in check(place)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"meta": None, "committed_before": None, "committed_after": None},  # nothing was ever processed
        {"committed_before": 5, "committed_after": 9},  # live: the group was read before and after META
    ],
)
def test_a_good_place_has_no_anomaly(change: Change) -> None:
    """META and the group agree."""
    assert [] == place_anomalies(**change)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("meta_wrong", {"meta": meta(version=2)}),
        ("meta_wrong", {"meta": meta(partitions=2)}),
        ("meta_wrong", {"meta": meta(offset=8), "committed_before": 8, "committed_after": 8}),
        ("meta_wrong", {"meta": meta(topic_id="ff")}),
        ("meta_wrong", {"meta": Entry(40, b"not msgpack"), "committed_before": None, "committed_after": None}),
        ("group_offset_differs", {"committed_before": 6, "committed_after": 6}),
        ("group_offset_differs", {"committed_before": 8, "committed_after": 8}),
        ("group_offset_differs", {"committed_before": 8, "committed_after": 9}),
        ("group_offset_differs", {"committed_before": None, "committed_after": None}),
        ("group_offset_differs", {"meta": None}),
    ],
)
def test_a_broken_place_is_named(kind: str, change: Change) -> None:
    """Each with the changelog offset of META, where there is one."""
    assert {kind} == kinds(place_anomalies(**change))


# --- The result ---


def test_every_anomaly_is_counted_and_the_first_are_listed() -> None:
    """A flood of one kind stays readable, and its size is known."""
    findings = Findings()
    findings.add(place_anomalies(meta=meta(version=2)) * (LISTED + 1))
    result = conclude([], findings, 1.0)
    assert ({"meta_wrong": LISTED + 1}, LISTED, 1) == (result.anomaly_counts, len(result.anomalies), result.exit_code)
    assert "... and 1 more." in as_text(result)
    assert '"holds":false' in as_json(result)


def test_no_anomaly_is_exit_code_0() -> None:
    """And says so in words."""
    result = conclude([], Findings(), 1.0)
    assert (0, "Exactly-once holds.") == (result.exit_code, as_text(result).splitlines()[-1])

"""The checker is checked: a tiny broken history for each anomaly, each named; of a good one nothing is said."""

from collections import Counter
from typing import Any

import pytest

from portfolio_stream.audit.anomalies import EFFECT_CHECKS
from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.history import Comparison, Effect, Noun
from portfolio_stream.audit.matching import Matching
from portfolio_stream.audit.records import read_dead_letter, read_output
from tests.unit.audit_histories import changed, kinds, record, replayed, written

EffectChange = dict[str, Any]


def effect_anomalies(noun: Noun, expected: dict[int, Effect], found: list[Effect]) -> list[HistoryAnomaly]:
    """Of the whole history at once; read in pieces it must have the same."""
    comparison = Comparison(noun=noun, topic="out", partition=0, expected=expected, found=found)
    anomalies = [anomaly for check in EFFECT_CHECKS for anomaly in check(comparison)]
    for piece in (1, 2, len(found)):
        assert places(anomalies) == places(in_pieces(noun, expected, found, piece)), f"in pieces of {piece}"
    return anomalies


def in_pieces(noun: Noun, expected: dict[int, Effect], found: list[Effect], piece: int) -> list[HistoryAnomaly]:
    """What is found comes in pieces, and each is judged at once."""
    matching = Matching(noun, "out", 0, lambda record: record.effect)  # type: ignore[no-any-return]
    matching.expect(expected.values())
    good = written(expected)
    anomalies: list[HistoryAnomaly] = []
    for start in range(0, len(found), max(1, piece)):
        matching.feed([as_record(effect, effect in good) for effect in found[start : start + piece]])
        anomalies += matching.judge(100, is_complete=False)
    return anomalies + matching.judge(100, is_complete=True)


def as_record(effect: Effect, is_good: bool) -> Any:
    """A record that is read as this effect; another source than the good one's would show in its bytes."""
    value = effect.value if is_good else b"other"
    return record(
        effect.offset or 0, value, effect.key, timestamp=effect.timestamp, headers=effect.headers, effect=effect
    )


def places(anomalies: list[HistoryAnomaly]) -> Counter[tuple[str, int | None, int | None]]:
    return Counter((anomaly.kind, anomaly.offset, anomaly.source_offset) for anomaly in anomalies)


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
def test_a_changed_record_is_named(noun: Noun, kind: str, change: EffectChange) -> None:
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


def test_a_lost_output_far_behind_is_named_once() -> None:
    """What comes later is compared as before, piece by piece."""
    matching = Matching("output", "out", 0, read_output)
    replay = replayed()
    found = [as_record(effect, True) for effect in written(replay.outputs)]
    matching.expect(replay.outputs.values())
    matching.feed(found[1:2])
    assert {"sequence_gap"} == kinds(matching.judge(7, is_complete=False))
    matching.feed(found[2:])
    assert [] == matching.judge(7, is_complete=False)
    assert {"missing_output"} == kinds(matching.judge(7, is_complete=True))
    assert [] == matching.judge(7, is_complete=True)
    matching.feed(found[1:2])
    assert {"duplicate_output", "sequence_gap"} == kinds(matching.judge(7, is_complete=True))


def test_what_is_ahead_of_the_replay_waits_for_it() -> None:
    """Committed since the cut: no anomaly; when the replay comes there, it is compared."""
    matching = Matching("output", "out", 0, read_output)
    replay = replayed()
    outputs = list(replay.outputs.values())
    matching.feed([as_record(effect, True) for effect in written(replay.outputs)])
    matching.expect(outputs[:1])
    assert ([], True) == (matching.judge(1, is_complete=True), matching.waits())
    matching.expect(outputs[1:])
    assert ([], False) == (matching.judge(7, is_complete=True), matching.waits())


def test_what_no_state_accounts_for_is_unexpected() -> None:
    """It was there before the state's end was looked up, and is for a source record beyond that state."""
    matching = Matching("output", "out", 0, read_output)
    replay = replayed()
    found = written(replay.outputs)
    matching.feed([as_record(effect, True) for effect in found])
    matching.expect(list(replay.outputs.values())[:1])
    visible = (found[1].offset or 0) + 1
    anomalies = matching.judge(1, visible, is_complete=True)
    assert ({"unexpected_output"}, [found[1].offset]) == (kinds(anomalies), [anomaly.offset for anomaly in anomalies])
    assert matching.waits()


def test_an_older_effect_behind_one_that_waits_is_out_of_order() -> None:
    """Also where the later one is beyond the cut."""
    matching = Matching("output", "out", 0, read_output)
    replay = replayed()
    first, second, third = (as_record(effect, True) for effect in written(replay.outputs))
    second.offset, third.offset = third.offset, second.offset
    matching.feed([first, third, second])
    matching.expect(list(replay.outputs.values())[:2])
    assert {"out_of_order_output"} == kinds(matching.judge(5, is_complete=True))


def test_a_dead_letter_by_an_operator_needs_the_decision() -> None:
    """With it, it is what the replay expects; without it, nobody decided."""
    decided, plain = replayed(1), replayed()
    assert ([0, 4, 5], [1, 2, 6]) == (list(decided.outputs), list(decided.dead_letters))
    for expecting, expected in ((decided, set()), (plain, {"undecided_dead_letter", "unexpected_dead_letter"})):
        matching = Matching("dead_letter", "dlq", 0, read_dead_letter)
        matching.expect(expecting.dead_letters.values())
        matching.feed([as_record(effect, True) for effect in written(decided.dead_letters)])
        assert expected == kinds(matching.judge(7, moved=expecting.moved, is_complete=True))


def test_a_decision_without_its_dead_letter_is_named() -> None:
    """The output of an event that an operator moved away, in place of its dead letter."""
    decided, plain = replayed(1), replayed()
    outputs, letters = (
        Matching("output", "out", 0, read_output),
        Matching("dead_letter", "dlq", 0, read_dead_letter),
    )
    found: set[str] = set()
    for matching, expected, there in (
        (outputs, decided.outputs, plain.outputs),
        (letters, decided.dead_letters, plain.dead_letters),
    ):
        matching.expect(expected.values())
        matching.feed([as_record(effect, True) for effect in written(there)])
        found |= kinds(matching.judge(7, moved={1}, is_complete=True))
    assert {"missing_dead_letter", "unexpected_output"} <= found


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

"""Broken changelogs and group offsets, each named; of good ones nothing is said."""

from typing import Any

import msgspec
import pytest

from portfolio_stream.audit.anomaly import HistoryAnomaly
from portfolio_stream.audit.changelog import ChangelogAudit
from portfolio_stream.audit.history import META_KEY, AuditedMeta, ChangelogEntry, PartitionProgress
from portfolio_stream.audit.replay import SourceReplay
from portfolio_stream.audit.state_anomalies import PLACE_CHECKS
from portfolio_stream.domain.activity import NOTHING
from tests.unit.audit_histories import (
    MOVED,
    SOURCE,
    TOPIC_ID,
    cash,
    changelog_of,
    decision_key,
    encode,
    kinds,
    record,
    replayed,
)

StateChange = dict[str, Any]
NOT_UTF8 = b"\xa2\xff\xfe"  # a text of msgpack: not one of msgspec's own errors
PORTFOLIO, SEEN = b"portfolios\x00P1", b"seen_events\x00P1\x00e-1"
KEPT, OTHER = b"activity\x00P1\x002026-11-23T04:30:00Z", b"activity\x00P1\x002026-11-22T04:30:00Z"


# --- Tables ---


def compare_twice(replay: SourceReplay, *records: Any) -> list[HistoryAnomaly]:
    """A good changelog and then `records`; nothing is said at the first cut that only the second can prove."""
    changelog = ChangelogAudit("changelog", 0, replay)
    changelog.feed([*changelog_of(replay), *records])
    assert [] == changelog.compare(7)
    assert changelog.is_undecided is bool(records)
    anomalies = changelog.compare(7)
    assert ([], False) == (changelog.compare(7), changelog.is_undecided)  # named once
    return anomalies


def test_a_good_changelog_has_no_anomaly() -> None:
    """Every key with the replay's value."""
    assert [] == compare_twice(replayed())


@pytest.mark.parametrize(
    ("kind", "key", "value"),
    [
        ("changelog_key_missing", PORTFOLIO, None),
        ("changelog_key_missing", KEPT, None),
        ("changelog_key_missing", SEEN, None),
        ("changelog_key_unexpected", b"portfolios\x00P2", encode(replayed().values[PORTFOLIO])),
        ("changelog_key_unexpected", OTHER, encode(NOTHING)),
        ("changelog_key_unexpected", b"unknown\x00P1", b""),
        ("changelog_key_unexpected", b"\x00UNKNOWN", b""),
        ("changelog_key_unexpected", b"seen_events", encode(replayed().values[SEEN])),
        ("changelog_value_wrong", PORTFOLIO, b"not msgpack"),
        ("changelog_value_wrong", SEEN, encode(replayed().values[SEEN])[:1] + NOT_UTF8),
        ("changelog_value_wrong", KEPT, msgspec.msgpack.encode((2, 1, {"USD": "sNaN"}))),
        ("changelog_value_wrong", KEPT, msgspec.msgpack.encode((2, 1, {"USD": "1E+999999"}))),
        ("changelog_value_wrong", KEPT, msgspec.msgpack.encode((3, 1, ["USD", "9" * 33]))),
        ("changelog_value_wrong", KEPT, msgspec.msgpack.encode((3, 1, ["USD", "1E5"]))),
        ("changelog_value_wrong", KEPT, msgspec.msgpack.encode((3, 1, ["USD"]))),
        ("changelog_value_wrong", SEEN, encode(replayed().values[b"seen_events\x00P1\x00e-0"])),
    ],
)
def test_a_broken_changelog_is_named(kind: str, key: bytes, value: bytes | None) -> None:
    """A key lost, invented, or with another value."""
    assert {kind} == kinds(compare_twice(replayed(), record(90, value, key)))


def test_a_key_that_was_never_written_is_missing() -> None:
    """Its first value, and one that the replay changed since the last cut."""
    replay = replayed()
    changelog = ChangelogAudit("changelog", 0, replay)
    changelog.feed(one for one in changelog_of(replay) if one.key != SEEN)
    assert [] == changelog.compare(7)
    replay.feed([record(7, cash("e-7"))])
    changelog.feed(one for one in changelog_of(replay) if one.key != PORTFOLIO)
    assert [] == changelog.compare(8)  # what was missing came, what was right is old
    assert {"changelog_value_wrong"} == kinds(changelog.compare(8))


def test_what_is_right_by_the_next_cut_was_the_log_cleaners_work() -> None:
    """An older value was read, since the newer one stood behind the end that we read to."""
    replay = replayed()
    changelog = ChangelogAudit("changelog", 0, replay)
    records = changelog_of(replay)
    changelog.feed([record(at, b"older", one.key) for at, one in enumerate(records)])
    assert [] == changelog.compare(7)
    changelog.feed(records)
    assert ([], False) == (changelog.compare(7), changelog.is_undecided)


def test_what_left_the_window_is_no_part_of_the_table() -> None:
    """Whether or not its tombstone was written, and whenever."""
    replay = SourceReplay(0, 1, "in", 2)
    changelog = ChangelogAudit("changelog", 0, replay)
    for at in range(3):
        replay.feed([record(at, cash(f"e-{at}"))])
        changelog.feed(changelog_of(replay))
        assert [] == changelog.compare(at + 1)
    assert b"seen_events\x00P1\x00e-0" not in replay.values
    changelog.feed([record(90, None, b"seen_events\x00P1\x00e-0")])
    assert ([], False) == (changelog.compare(3), changelog.is_undecided)


@pytest.mark.parametrize(("key", "is_named"), [(b"seen_chunks\x00P1\x000", False), (b"seen_chunk\x00P1\x000", True)])
def test_an_index_is_no_table(key: bytes, is_named: bool) -> None:
    """What the index of seen_events does shows in that table; any other key that is none of a table's is named."""
    changelog = ChangelogAudit("changelog", 0, replayed())
    changelog.feed([*changelog_of(replayed()), record(90, b"x", key)])
    assert is_named == bool([*changelog.compare(7), *changelog.compare(7)])


# --- An operator's decisions ---


def decided(*decisions: Any) -> list[HistoryAnomaly]:
    replay = SourceReplay(0, 1, "in", 10_000)
    changelog = ChangelogAudit("changelog", 0, replay)
    changelog.feed(decisions)
    replay.feed(SOURCE)
    changelog.feed(changelog_of(replay))
    return changelog.compare(7) + changelog.compare(7)


@pytest.mark.parametrize("source", [1, 2, 4])
def test_a_decision_that_a_record_meets_is_right(source: int) -> None:
    """Whatever the record would have been: accepted, rejected, a duplicate."""
    assert [] == decided(record(8, MOVED, decision_key(source)))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (decision_key(3), MOVED),  # a transaction's marker
        (decision_key(7), MOVED),  # META says less
        (decision_key(1) + b"x", MOVED),
        (decision_key(1), b"not msgpack"),
        (decision_key(1), b"\x81\xa4code" + NOT_UTF8),
        (decision_key(1), msgspec.msgpack.encode({"version": 1, "code": "other"})),
        (decision_key(1), None),
    ],
)
def test_a_wrong_decision_is_named(key: bytes, value: bytes | None) -> None:
    """It cannot be read, or no source record was there for it."""
    assert {"decision_wrong"} == kinds(decided(record(8, value, key)))


def test_a_decision_after_the_fold_is_wrong() -> None:
    """It stands in the changelog in the transaction that folds its record, not later."""
    replay = replayed()
    changelog = ChangelogAudit("changelog", 0, replay)
    changelog.feed([*changelog_of(replay), record(90, MOVED, decision_key(1))])
    assert {"decision_wrong"} == kinds(changelog.compare(7))


def test_a_decision_that_meta_has_not_reached_waits_once() -> None:
    """META's record may have been cleaned away: the next look brings the newer one."""
    replay = replayed()
    changelog = ChangelogAudit("changelog", 0, replay)
    changelog.feed([*changelog_of(replay), record(90, MOVED, decision_key(7))])
    assert [] == changelog.compare(7)
    replay.feed([record(7, cash("e-7"))])
    assert [] == changelog.compare(8)


# --- META and the group ---


def meta(**change: Any) -> ChangelogEntry:
    good = AuditedMeta(topic_id=TOPIC_ID, offset=7, partitions=1, fold="version=1", version=1)
    return ChangelogEntry(40, msgspec.msgpack.encode(msgspec.structs.replace(good, **change)))


def place_anomalies(**change: Any) -> list[HistoryAnomaly]:
    good: StateChange = {
        "topic": "changelog",
        "partition": 0,
        "partitions": 1,
        "source_end": 7,
        "meta": meta(),
        "topic_id": TOPIC_ID,
        "committed_before": 7,
        "committed_after": 7,
    }
    place = PartitionProgress(**(good | change))
    return [anomaly for check in PLACE_CHECKS for anomaly in check(place)]


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"meta": None, "committed_before": None, "committed_after": None},  # nothing was ever processed
        {"committed_before": 5, "committed_after": 9},  # live: the group was read before and after META
        {"committed_before": None, "committed_after": None},  # the offset expired: META alone is left
        {"committed_before": 7, "committed_after": None},  # somebody deleted it between the readings
        {"committed_before": None, "committed_after": 7},  # a worker committed it again between the readings
    ],
)
def test_a_good_place_has_no_anomaly(change: StateChange) -> None:
    """META and the group agree."""
    assert [] == place_anomalies(**change)


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("meta_wrong", {"meta": meta(version=2)}),
        ("meta_wrong", {"meta": meta(partitions=2)}),
        ("meta_wrong", {"meta": meta(offset=8), "committed_before": 8, "committed_after": 8}),
        ("meta_wrong", {"meta": meta(topic_id="ff")}),
        ("meta_wrong", {"meta": ChangelogEntry(40, b"not msgpack"), "committed_before": None, "committed_after": None}),
        (
            "meta_wrong",
            {"meta": ChangelogEntry(40, b"\x81\xa4fold" + NOT_UTF8), "committed_before": 0, "committed_after": 0},
        ),
        ("group_offset_differs", {"committed_before": 6, "committed_after": 6}),
        ("group_offset_differs", {"committed_before": 8, "committed_after": 8}),
        ("group_offset_differs", {"committed_before": 8, "committed_after": 9}),
        ("group_offset_differs", {"meta": None}),
    ],
)
def test_a_broken_place_is_named(kind: str, change: StateChange) -> None:
    """Each with the changelog offset of META, where there is one."""
    assert {kind} == kinds(place_anomalies(**change))


def test_a_meta_that_goes_back_is_named() -> None:
    """Also if a later one is right again."""
    changelog = ChangelogAudit("changelog", 0, replayed())
    entries = [meta(offset=offset) for offset in (5, 3, 7)]
    changelog.feed([record(at, entry.value, META_KEY) for at, entry in enumerate(entries)])
    anomalies = place_anomalies(went_back=tuple(changelog.went_back))
    assert [("meta_went_back", 1)] == [(anomaly.kind, anomaly.offset) for anomaly in anomalies]

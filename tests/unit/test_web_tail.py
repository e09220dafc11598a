"""The live view's tail of outputs and dead letters: what is read, what is skipped, and how records are shown."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition

from portfolio_stream.domain.rejection import Rejected
from portfolio_stream.kafka.batch_consumer import Piece
from portfolio_stream.kafka.record_batches import HEADER_BYTES, UnreadableBatch, unreadable
from portfolio_stream.records.outputs import ERROR_OFFSET, dead_letter, encode_processed
from portfolio_stream.web import newest_records
from portfolio_stream.web.newest_records import (
    SHOWN_BYTES,
    SHOWN_CHARACTERS,
    NewestRecords,
    Tail,
    sample,
    shown_letter,
    shown_output,
)

PLACE, OTHER = TopicPartition("t", 0), TopicPartition("t", 1)


class FakeConsumer:
    """Partitions as lists of records; what was fetched knows the end of that moment, as aiokafka does."""

    def __init__(self, logs: Mapping[TopicPartition, list[Any]], piece: int = 25) -> None:
        self.logs = logs
        self.piece = piece
        self.positions = dict.fromkeys(logs, 0)
        self.ends: dict[TopicPartition, int] = {}

    async def beginning_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places: list[TopicPartition]) -> dict[TopicPartition, int]:
        return {place: len(self.logs[place]) for place in places}

    def seek(self, place: TopicPartition, offset: int) -> None:
        self.positions[place] = offset

    async def position(self, place: TopicPartition) -> int:
        return self.positions[place]

    def last_stable_offset(self, place: TopicPartition) -> int | None:
        return self.ends.get(place)

    async def getmany(self, place: TopicPartition, timeout_ms: int, max_records: int) -> dict[Any, list[Any]]:
        start = self.positions[place]
        records = self.logs[place][start : start + self.piece]
        self.positions[place] += len(records)
        self.ends[place] = len(self.logs[place])
        assert 1 == max_records
        if records and isinstance(records[0], UnreadableBatch):
            return {place: records[:1]}
        return {place: [Piece(records, 0)]} if records else {}


def record(offset: int, partition: int = 0, timestamp: int = 0) -> Any:
    headers = dead_letter(b"k", b"v", [], Rejected("invalid_field", "why"), "events", 1, offset).headers  # type: ignore[arg-type]
    return SimpleNamespace(
        partition=partition, offset=offset, timestamp=timestamp, key=b"k", value=b"{}", headers=headers
    )


async def test_follower_shows_all_that_comes_slowly() -> None:
    """From a little before the end on."""
    log = [record(offset) for offset in range(20)]
    consumer = FakeConsumer({PLACE: log})
    follower = NewestRecords(consumer, [PLACE], most=10)
    await follower.start(back=3)
    assert (log[17:], False) == await follower.round()
    assert ([], False) == await follower.round()
    log += [record(20), record(21)]
    assert (log[20:], False) == await follower.round()


async def test_follower_skips_what_comes_too_fast() -> None:
    """It goes on near the end, and says so; a quiet partition is not crowded out by a busy one."""
    log, quiet = [record(offset) for offset in range(10)], [record(0, partition=1)]
    follower = NewestRecords(FakeConsumer({PLACE: log, OTHER: quiet}, piece=2), [PLACE, OTHER], most=2)
    await follower.start(back=2)
    await follower.round()
    log += [record(offset) for offset in range(10, 1_000)]
    for expected in (([10, 11], True), ([998, 999], False)):
        records, is_skipped = await follower.round()
        assert expected == ([one.offset for one in records], is_skipped)


async def test_follower_passes_a_batch_over_that_nobody_can_read() -> None:
    """It is as if records were skipped; what comes behind it is shown."""
    batch = unreadable("t", 0, bytes(HEADER_BYTES), 0, "too_large")
    log: list[Any] = [batch, record(1)]
    follower = NewestRecords(FakeConsumer({PLACE: log}, piece=1), [PLACE], most=10)
    await follower.start(back=10)
    assert ([], True) == await follower.round()
    assert ([log[1]], False) == await follower.round()


def test_sample_is_spread() -> None:
    """Few are all shown; of many some of everywhere."""
    assert [1, 2] == sample([1, 2], 10)
    assert [0, 25, 50, 75] == sample(list(range(100)), 4)


async def test_tail_tells_outputs_and_the_newest_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both at once, so that empty ones are known to be empty; then letters with all that are kept, newest first."""
    monkeypatch.setattr(newest_records, "ROUND_SECONDS", 0)
    letters: dict[TopicPartition, list[Any]] = {PLACE: [], OTHER: []}
    outputs: dict[TopicPartition, list[Any]] = {PLACE: []}
    both = Tail(
        NewestRecords(FakeConsumer(outputs), [PLACE], 10), NewestRecords(FakeConsumer(letters), [PLACE, OTHER], 25)
    )
    await both.start()
    events = both.events()
    first = [await anext(events), await anext(events)]
    assert ["outputs", "dead-letters"] == [name for name, _ in first]
    letters[PLACE].append(record(0, timestamp=2))
    letters[OTHER].append(record(0, partition=1, timestamp=1))
    name, shown = await anext(events)
    assert ("dead-letters", [0, 1]) == (name, [letter.partition for letter in shown])  # type: ignore[attr-defined]
    letters[OTHER] += [record(offset, partition=1) for offset in range(1, 40)]
    _, shown = await anext(events)
    assert newest_records.LETTERS_KEPT == len(shown)  # type: ignore[arg-type]


def test_output_is_shown() -> None:
    """What the engine writes; anything else is no output of ours."""
    event = SimpleNamespace(
        event_id="e-1", type="cash", portfolio_id="P1", occurred_at="2026-11-23T04:30:00.123Z", symbol="ACME"
    )
    value = encode_processed(event, 7, None, None, None, 3, 1041)  # type: ignore[arg-type]
    shown = shown_output(SimpleNamespace(partition=3, offset=9, value=value)).event
    assert shown is not None
    assert ("e-1", "P1", 7, 1041, None) == (
        shown.event_id, shown.portfolio_id, shown.sequence, shown.source.offset, shown.cash,
    )  # fmt: skip
    huge = value[:-1] + b',"x":"' + b"x" * SHOWN_BYTES + b'"}'
    deep = b'{"x":' + b"[" * 4_000
    for bad in (None, b"", b"\xff", b"[]", b"{}", value.replace(b"7", b'"7"'), huge, deep):
        assert shown_output(SimpleNamespace(partition=3, offset=9, value=bad)).event is None


def test_letter_is_shown() -> None:
    """Its key as text, cut; never its value."""
    letter = shown_letter(record(5))
    expected = ("k", "invalid_field", "why", "events", 1, 5)
    found = (
        letter.key, letter.code, letter.message, letter.source_topic, letter.source_partition, letter.source_offset,
    )  # fmt: skip
    assert expected == found
    odd = SimpleNamespace(partition=0, offset=1, timestamp=0, key=b"\xff" + b"k" * 1_000, headers=[("x", b"1")])
    assert (None, SHOWN_CHARACTERS + 1) == (shown_letter(odd).code, len(shown_letter(odd).key or ""))
    odd.key = None
    assert shown_letter(odd).key is None


def test_a_forged_letter_ends_no_view() -> None:
    """An offset of 5,000 digits: what its headers say is not shown, and the view goes on."""
    forged = record(5)
    forged.headers = [(name, b"9" * 5_000 if name == ERROR_OFFSET else value) for name, value in forged.headers]
    assert (None, None) == (shown_letter(forged).code, shown_letter(forged).source_offset)

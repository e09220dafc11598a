"""A worker's events: their text form, the bounded ring, and that telling an event also logs it."""

import json
import logging
from types import SimpleNamespace

import msgspec
import pytest

from portfolio_stream.observe import events, ring
from portfolio_stream.observe.events import (
    EngineStopped,
    FoldFailed,
    HeartbeatUnanswered,
    MemberJoined,
    PartitionsRevoked,
    PartitionStopped,
    Span,
    WorkDropped,
    WorkerEvent,
)
from portfolio_stream.observe.ring import EventRing

KINDS = [
    kind for kind in vars(events).values() if isinstance(kind, type) and issubclass(kind, WorkerEvent)
    and kind is not WorkerEvent
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            FoldFailed(partition=3, offsets=Span(5, 9), tries=1, error="KeyError", reason="the fold failed: KeyError"),
            "fold failed partition=3 offsets=5..9 try=1 error=KeyError reason=the fold failed: KeyError",
        ),
        (PartitionsRevoked(partitions=(0, 4), milliseconds=11.26), "revoked partitions=0,4 milliseconds=11.3"),
        (PartitionsRevoked(partitions=(), milliseconds=0.0), "revoked partitions=- milliseconds=0.0"),
        (PartitionStopped(partition=1, offset=None, reason="x"), "partition stopped partition=1 offset=None reason=x"),
        (
            EngineStopped(instance="w1", is_settled=True, remains=False),
            "engine stopped instance=w1 is_settled=yes remains=no",
        ),
    ],
)
def test_the_text_form(event: WorkerEvent, text: str) -> None:
    """The action, then the fields in order, by their outside names; a float has one digit."""
    assert text == event.text()


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_has_an_action_of_its_own(kind: type[WorkerEvent]) -> None:
    """Who reads events tells the kinds apart by the action."""
    assert [kind] == [other for other in KINDS if other.action == kind.action]


def test_fields_as_json() -> None:
    """The same names as in the text form."""
    event = FoldFailed(partition=3, offsets=Span(5, 9), tries=1, error="KeyError", reason="r")
    told = {"partition": 3, "offsets": [5, 9], "try": 1, "error": "KeyError", "reason": "r"}
    assert told == json.loads(msgspec.json.encode(event.fields()))


def joined(epoch: int) -> MemberJoined:
    return MemberJoined(epoch=epoch)


def test_the_ring_is_bounded() -> None:
    """The oldest events fall out; numbers go on, so a reader sees that some are gone."""
    made = EventRing(capacity=3)
    assert ([], 0) == (made.after(0, 10), made.sequence)
    for epoch in range(1, 6):
        made.tell(joined(epoch))
    assert 5 == made.sequence
    assert [(3, joined(3)), (4, joined(4)), (5, joined(5))] == [(one.sequence, one.event) for one in made.after(0, 10)]


@pytest.mark.parametrize(
    ("after", "limit", "numbers"),
    [(0, 2, [3, 4]), (3, 10, [4, 5]), (4, 10, [5]), (5, 10, []), (9, 10, []), (0, 0, []), (1, 1, [3])],
)
def test_events_after_a_number(after: int, limit: int, numbers: list[int]) -> None:
    """The oldest of them first, at most `limit`; a number that is still to come has nothing behind it."""
    made = EventRing(capacity=3)
    for epoch in range(1, 6):
        made.tell(joined(epoch))
    assert numbers == [one.sequence for one in made.after(after, limit)]


def test_the_latest_events() -> None:
    """Oldest first, all of them where there are fewer."""
    made = EventRing()
    for epoch in range(1, 4):
        made.tell(joined(epoch))
    assert [joined(2), joined(3)] == [one.event for one in made.latest(2)]
    assert 3 == len(made.latest(20))


def test_telling_an_event_logs_it(caplog: pytest.LogCaptureFixture) -> None:
    """At the event's level, with the traceback of its cause; the ring keeps the event alone."""
    made = EventRing()
    with caplog.at_level(logging.INFO, logger=ring.log.name):
        made.tell(WorkDropped(milliseconds=2.0), ValueError("why"))
        made.tell(joined(1))
    assert [("WARNING", "dropped milliseconds=2.0"), ("INFO", "membership joined epoch=1")] == [
        (record.levelname, record.getMessage()) for record in caplog.records
    ]
    assert "ValueError: why" in caplog.text
    assert [WorkDropped(milliseconds=2.0)] == made.of(WorkDropped)


def test_an_outage_is_told_once_in_a_while(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An outage neither fills the log nor pushes other events out of the ring."""
    now = 100.0
    monkeypatch.setattr(ring, "time", SimpleNamespace(monotonic=lambda: now, time=lambda: 0.0))
    made = EventRing()
    with caplog.at_level(logging.INFO, logger=ring.log.name):
        for seconds in (100.0, 100.1, 109.9, 110.0, 111.0):
            now = seconds
            made.tell(HeartbeatUnanswered(error="TimeoutError"))
    assert (2, 2) == (made.sequence, len(caplog.records))

"""GET /events: a worker's latest events, a page at a time."""

from pathlib import Path

import pytest

from portfolio_stream.observe.events import MemberJoined, PartitionStopped
from portfolio_stream.observe.ring import EventRing
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, get, serving


@pytest.fixture
def engine(tmp_path: Path) -> FakeEngine:
    made = FakeEngine(tmp_path, "w1", FakeCoordinator())
    made.events = EventRing(capacity=5)
    for epoch in range(1, 8):
        made.events.tell(MemberJoined(epoch=epoch))
    return made


@pytest.mark.parametrize(
    ("query", "numbers", "following"),
    [
        ("", [3, 4, 5, 6, 7], 7),
        ("?limit=2", [6, 7], 7),  # the latest ones
        ("?after=0", [3, 4, 5, 6, 7], 7),  # two are lost, and the first number says so
        ("?after=4&limit=2", [5, 6], 6),
        ("?after=7", [], 7),
        ("?after=900", [], 7),  # of a former process
    ],
)
async def test_events_after_a_number(engine: FakeEngine, query: str, numbers: list[int], following: int) -> None:
    """Oldest first; `next` is where a reader goes on."""
    async with serving(engine) as server:
        answer = await get(server, f"/events{query}")
    assert 200 == answer.status
    assert (numbers, following) == ([event["sequence"] for event in answer.json["events"]], answer.json["next"])
    assert ("w1", engine.events.process) == (answer.json["worker"], answer.json["process"])


async def test_an_event_has_its_fields(engine: FakeEngine) -> None:
    """With their types, before the engine has joined the group too; the text of a stranger is text."""
    engine.events.tell(PartitionStopped(partition=3, offset=None, reason='a "reason"\n\x1b'))
    async with serving(engine) as server:
        (event,) = (await get(server, "/events?after=7")).json["events"]
    assert {"partition": 3, "offset": None, "reason": 'a "reason"\n\x1b'} == event["fields"]
    assert (8, "error", "partition stopped") == (event["sequence"], event["level"], event["action"])
    assert event["time"].endswith("Z")


@pytest.mark.parametrize(
    "query", ["after=-1", "after=x", "after=", "limit=0", "limit=1001", "limit=", "limit=1e2", "before=3"]
)
async def test_a_wrong_query_is_refused(engine: FakeEngine, query: str) -> None:
    """And the answer says which values there are."""
    async with serving(engine) as server:
        answer = await get(server, f"/events?{query}")
    assert (400, "application/problem+json") == (answer.status, answer.headers["content-type"])


async def test_events_need_the_token(engine: FakeEngine) -> None:
    """As everything that a worker says of the group."""
    async with serving(engine, web_token="a-token-of-sixteen") as server:
        refused = await get(server, "/events")
        shown = await get(server, "/events", Authorization="Bearer a-token-of-sixteen")
    assert (401, 200) == (refused.status, shown.status)

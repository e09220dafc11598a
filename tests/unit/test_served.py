"""Asking workers for what they serve: which keys, from whom, how fresh; and what is made of no answer."""

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from portfolio_stream.audit import served
from portfolio_stream.audit.partition import PartitionAudit
from portfolio_stream.audit.result import Coverage
from portfolio_stream.audit.served import Asker, open_asker
from portfolio_stream.audit.tables import SEPARATOR, show_value
from portfolio_stream.kafka.members import Owner
from portfolio_stream.settings import Settings
from tests.unit.audit_histories import kinds
from tests.unit.audit_world import AuditWorld
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, serving

EXAMINED = 4  # entries a page, of whatever the table's window says


class ServingWorker:
    """Serves the state of a world's worker; `states` are what the next requests see, then the newest."""

    def __init__(self, world: AuditWorld) -> None:
        self.world = world
        self.states: list[tuple[int, dict[bytes, Any]]] = []
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        self.status = 200
        #: keys that pages pass over, as those out of a window
        self.hidden: set[bytes] = set()

    def app(self) -> web.Application:
        app = web.Application()
        app.add_routes([web.get("/tables/{table}", self._page), web.get("/tables/{key:.+}", self._value)])
        return app

    def _state(self, request: web.Request) -> tuple[dict[str, Any], dict[bytes, Any]]:
        self.asked.append(request.path_qs)
        self.tokens.add(request.headers.get("Authorization"))
        offset, state = self.states.pop(0) if self.states else self.world.served[-1]
        return {"partition": 0, "offset": offset - 1 if offset else None, "worker": "w1"}, state

    async def _value(self, request: web.Request) -> web.Response:
        origin, state = self._state(request)
        key = request.match_info["key"].replace("/", "\0").encode()
        if self.status == 503:
            return web.json_response({"title": "Service Unavailable", **origin}, status=503)
        if key not in state:
            return web.json_response({"title": "Not Found", **origin}, status=404)
        return web.json_response({"key": [], "value": show_value(key, state[key]), **origin})

    async def _page(self, request: web.Request) -> web.Response:
        origin, state = self._state(request)
        table, asked = request.match_info["table"].encode(), request.query
        first = asked.get("cursor", asked.get("from", "")).replace("/", "\0").encode()
        lower = table + SEPARATOR + first
        keys = sorted(key for key in state if key.startswith(table + SEPARATOR) and key >= lower)
        page, rest = keys[:EXAMINED], keys[EXAMINED:]
        rows = [
            {"key": key.decode().split("\0")[1:], "value": show_value(key, state[key]), "partition": 0}
            for key in page
            if key not in self.hidden
        ]
        cursor = rest[0].decode().partition("\0")[2].replace("\0", "/") if rest else None
        return web.json_response({"table": table.decode(), "rows": rows, "cursor": cursor, "partitions": [origin]})


@asynccontextmanager
async def asker(worker: ServingWorker, coverage: Coverage, settings: Settings | None = None) -> AsyncIterator[Asker]:
    async with TestServer(worker.app()) as server:

        async def workers() -> Sequence[str]:
            return (f"http://127.0.0.1:{server.port}",)

        async with open_asker(settings or Settings(), coverage, workers) as made:
            yield made


async def audited(world: AuditWorld) -> PartitionAudit:
    """All that is there, compared once."""
    world.finish()
    audit = world.audit()
    assert [] == await audit.run(None) + await audit.run(None)
    return audit


async def test_a_sample_is_asked_for_by_key_with_the_token() -> None:
    """The next pass compares them all."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    async with asker(worker, "sample", Settings(web_token="secret")) as asking:
        await asking.ask([audit])
    assert {"Bearer secret"} == worker.tokens
    count = min(served.SAMPLE_KEYS, len(audit.replay.values))
    assert (count, count, 0) == (len(worker.asked), asking.answered, asking.unanswered)
    assert [] == await audit.run(None)
    assert count == audit.result.figures["served"]


async def test_no_question_is_asked_in_the_middle_of_a_pass() -> None:
    """The replay is not where the last cut was."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    audit.replay.before[b"key"] = None
    async with asker(worker, "sample") as asking:
        await asking.ask([audit])
    assert [] == worker.asked


async def test_an_answer_older_than_what_is_known_is_asked_for_again() -> None:
    """A store follows its commit a moment later."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    worker.states = [world.served[-3], world.served[-2]]
    async with asker(worker, "sample") as asking:
        await asking.ask([audit])
    assert len(worker.asked) == asking.answered + 2
    assert [] == await audit.run(None)


async def test_an_answer_that_stays_old_is_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while it is taken as it is."""
    monkeypatch.setattr(served, "STALE_SECONDS", 0.0)
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    worker.states = [world.served[-3]]
    async with asker(worker, "sample") as asking:
        await asking.ask([audit])
    assert {"served_stale"} == kinds(await audit.run(None))


@pytest.mark.parametrize("coverage", ["sample", "all"])
async def test_a_wrong_value_is_found(coverage: Coverage, monkeypatch: pytest.MonkeyPatch) -> None:
    """By key and by page."""
    monkeypatch.setattr(served, "SAMPLE_KEYS", 1_000)
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    offset, state = world.served[-1]
    key = b"portfolios\x00A"
    worker.states = [(offset, {**state, key: state[b"portfolios\x00B"]})] * 1_000
    async with asker(worker, coverage) as asking:
        await asking.ask([audit])
    assert {"served_wrong"} == kinds(await audit.run(None))


async def test_no_answer_proves_nothing() -> None:
    """A partition that moves: the rest of its keys is not asked for in this pass."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    worker.status = 503
    async with asker(worker, "sample") as asking:
        await asking.ask([audit])
    assert (1, 0) == (asking.unanswered, asking.answered)
    assert [] == await audit.run(None)


async def test_without_a_worker_nothing_is_served() -> None:
    """Nor is anything counted as unanswered."""
    world = AuditWorld(1, 120)
    audit = await audited(world)
    async with open_asker(Settings(), "sample") as asking:
        await asking.ask([audit])
    assert (0, 0, False) == (asking.answered, asking.unanswered, audit.is_undecided)


async def test_all_pages_are_every_key_of_every_table() -> None:
    """However they are cut; the row on which a page begins again is compared once."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    async with asker(worker, "all") as asking:
        await asking.ask([audit])
    assert len(worker.asked) > len(world.served[-1][1]) / EXAMINED
    assert [] == await audit.run(None)
    assert len(world.served[-1][1]) == audit.result.figures["served"]


async def test_a_key_that_the_pages_lack_is_missing() -> None:
    """In the middle of a page as on its edge."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    for key in sorted(key for key in world.served[-1][1] if key.startswith(b"seen_events")):
        worker.hidden = {key}
        async with asker(worker, "all") as asking:
            await asking.ask([audit])
        anomalies = await audit.run(None)
        assert ({"served_missing"}, 1) == (kinds(anomalies), len(anomalies))


async def test_a_page_without_a_row_is_passed_by_its_cursor() -> None:
    """What lies behind it is compared from its first row on; to where the empty page went is not known."""
    world = AuditWorld(1, 120)
    audit, worker = await audited(world), ServingWorker(world)
    seen = sorted(key for key in world.served[-1][1] if key.startswith(b"seen_events"))
    worker.hidden = set(seen[:EXAMINED])
    async with asker(worker, "all") as asking:
        await asking.ask([audit])
    assert any("cursor=" in path for path in worker.asked)
    assert [] == await audit.run(None)
    assert len(world.served[-1][1]) - EXAMINED == audit.result.figures["served"]


async def test_pages_that_move_on_are_compared_each_at_its_offset() -> None:
    """Each page is of another moment: the replay stops at every one."""
    world = AuditWorld(1, 120)
    while len(world.served) < 4:
        world.tick()
    audit, worker = world.audit(), ServingWorker(world)
    await audit.run(None)
    behind = audit.cut
    world.finish()
    worker.states = [state for state in world.served if state[0] >= behind]
    assert len(worker.states) > 10
    async with asker(worker, "all") as asking:
        await asking.ask([audit])
    assert {state[0] for state in world.served if state[0] >= behind} >= {one.offset for one in audit.answers}
    assert len({one.offset for one in audit.answers}) > 5
    assert [] == await audit.run(None)


async def test_workers_of_the_group_are_asked_by_signed_requests(tmp_path: Path) -> None:
    """Any of them forwards; at an address that does not prove to be the member's nothing is asked."""
    engines = [FakeEngine(tmp_path, name, FakeCoordinator()) for name in ("w1", "w2")]
    engines[0].join()
    engines[1].join(*range(8))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(one, web_token="secret")) for one in engines]
        engines[0]._coordinator.members = {f"w2@{servers[1].address}": tuple(range(8))}
        asking = await stack.enter_async_context(open_asker(Settings(web_token="secret"), "sample"))
        status, body = await asking._fetch(Owner("w1", servers[0].address, "member of w1"), "/tables/portfolios/P1")
        assert (404, "w2") == (status, json.loads(body)["worker"])
        stranger = Owner("x", servers[0].address, "member of x")
        assert (None, b"") == await asking._fetch(stranger, "/tables/portfolios/P1")

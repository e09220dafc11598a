"""Members of the group that are no workers, and workers that share a name: noticed, named, and not in a hurry."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from portfolio_stream.http import peers
from portfolio_stream.kafka.members import RENAME_ONE, STOP_IT
from portfolio_stream.web import roll_call
from portfolio_stream.web.roll_call import FOREIGN_AFTER, NO_CLIENT_ID, Roll
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, WebAnswer, get, listening, serving

CONSOLE = "console-\x1b[2Jconsumer"


@pytest.fixture
def coordinator() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
def engine(tmp_path: Path, coordinator: FakeCoordinator) -> FakeEngine:
    engine = FakeEngine(tmp_path, "w1", coordinator)
    engine.join(0, 1)
    return engine


class RollClock:
    """Monotonic time of the roll alone."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> RollClock:
    clock = RollClock()
    monkeypatch.setattr(roll_call, "time", clock)
    monkeypatch.setattr(peers, "CHALLENGE_SECONDS", 0.0)
    monkeypatch.setattr(peers, "GONE_SECONDS", 0.0)
    return clock


async def called(server: WebServer) -> Roll:
    server.routing.forget()
    await server._roll.call()
    return server._roll


async def ready(server: WebServer) -> WebAnswer:
    return await get(server, "/health/ready")


async def test_a_consumer_with_the_groups_id(
    engine: FakeEngine, coordinator: FakeCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """Health, page, metrics and log name it, what it holds and what to do; when it is gone all is well by itself."""
    async with serving(engine) as server:
        coordinator.members = {f"w1@{server.address}": (0, 1), CONSOLE: (2, 5)}
        await called(server)
        unready = await ready(server)
        group = (await get(server, "/partitions")).json
        value = await get(server, "/tables/positions/P1/ACME")
        metrics = (await get(server, "/metrics")).body.decode()
        status = (await get(server, "/worker")).json
        await called(server)
        coordinator.members = {f"w1@{server.address}": tuple(range(8))}
        await called(server)
        after = await ready(server)
    assert 503 == unready.status
    (reason,) = unready.json["reasons"]
    for part in (NO_CLIENT_ID, "console-\\x1b[2Jconsumer", "/127.0.0.1", "partitions 2, 5", STOP_IT):
        assert part in reason
    assert [reason] == group["problems"] == status["reasons"]
    assert {2: "foreign", 5: "foreign"} == {
        one["partition"]: one["state"] for one in group["partitions"] if one["detail"] == reason
    }
    assert 503 == value.status
    assert "portfolio_stream_foreign_members 1.0" in metrics
    assert "portfolio_stream_foreign_partitions 2.0" in metrics
    assert (200, []) == (after.status, after.json["reasons"])
    assert 1 == sum("foreign member client_id" in one.getMessage() for one in caplog.records)
    assert "\x1b" not in caplog.text


async def test_the_owner_of_a_key_is_a_stranger(engine: FakeEngine, coordinator: FakeCoordinator) -> None:
    """The 503 says where to look."""
    engine.join()
    async with serving(engine) as server:
        coordinator.members = {CONSOLE: tuple(range(8))}
        one = await get(server, "/tables/positions/P1/ACME")
        page = await get(server, "/tables/positions")
    assert "no worker" in one.json["detail"]
    assert [(None, one.json["detail"])] * 8 == [(lack["worker"], lack["detail"]) for lack in page.json["missing"]]


async def test_a_stranger_without_partitions(
    engine: FakeEngine, coordinator: FakeCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named, but every partition is processed: the worker is ready. The log names it again when it gets some."""
    async with serving(engine) as server:
        coordinator.members = {f"w1@{server.address}": tuple(range(8)), CONSOLE: ()}
        await called(server)
        answer = await ready(server)
        problems = (await get(server, "/partitions")).json["problems"]
        for held in ((), (3,), (3, 4)):
            coordinator.members[CONSOLE] = held
            await called(server)
    lines = [one.getMessage() for one in caplog.records if "foreign member client_id" in one.getMessage()]
    assert ["", "3"] == [line.partition(" partitions=")[2].partition(" ")[0] for line in lines]
    assert (200, 1) == (answer.status, len(answer.json["warnings"]))
    assert answer.json["warnings"] == problems


@asynccontextmanager
async def address_of(kind: str, tmp_path: Path, coordinator: FakeCoordinator) -> AsyncIterator[tuple[str, Any]]:
    """A client id whose address is of that kind, and settings of the worker that asks."""

    async def nonsense(_request: web.Request) -> web.Response:
        return web.Response(text="hello")

    async def refuse(_request: web.Request) -> web.Response:
        return web.json_response({"status": 404}, status=404, content_type="application/problem+json")

    async def silent(_request: web.Request) -> web.Response:
        assert _request.transport is not None
        _request.transport.close()
        return web.Response()

    if kind == "gone":
        yield "x@127.0.0.1:1", {}
    elif kind == "other_token":
        async with serving(FakeEngine(tmp_path, "x", coordinator), web_token="another") as other:
            yield f"x@{other.address}", {"web_token": "ours"}
    elif kind == "elsewhere":
        async with listening(nonsense, worker="w9") as address:
            yield f"x@{address}", {}
    else:
        async with listening({"stranger": nonsense, "refusing": refuse, "silent": silent}[kind]) as address:
            yield f"x@{address}", {}


@pytest.mark.parametrize("kind", ["stranger", "silent", "gone", "elsewhere", "other_token", "refusing"])
async def test_a_member_that_proves_nothing(
    engine: FakeEngine, coordinator: FakeCoordinator, tmp_path: Path, clock: RollClock, kind: str
) -> None:
    """One that has just joined, died, or has another token or version is no stranger; after its time another one is."""
    async with address_of(kind, tmp_path, coordinator) as (client_id, settings), serving(engine, **settings) as server:
        coordinator.members = {f"w1@{server.address}": (0, 1), client_id: (2,)}
        bound = FOREIGN_AFTER[kind]  # type: ignore[index]
        found = await called(server)
        assert not found.foreigners
        clock.now += min(bound, 1e6) - 0.1
        found = await called(server)
        assert not found.foreigners
        clock.now += 0.2
        found = await called(server)
        assert (bound < 1e6) == bool(found.foreigners) == bool(found.reasons())
        assert (kind in ("other_token", "refusing")) == bool(found.warnings())


async def test_a_worker_that_died_is_no_stranger(
    engine: FakeEngine, coordinator: FakeCoordinator, tmp_path: Path, clock: RollClock
) -> None:
    """It has proved itself once: however long its session lasts, and whoever gets its port."""
    other = FakeEngine(tmp_path, "w2", coordinator)
    async with serving(engine) as server:
        async with serving(other) as second:
            coordinator.members = {f"w1@{server.address}": (0, 1), f"w2@{second.address}": (2,)}
            await called(server)
        clock.now += 1000
        assert not (await called(server)).foreigners


async def test_a_coordinator_that_is_away(engine: FakeEngine, coordinator: FakeCoordinator) -> None:
    """Its silence changes nothing: a stranger stays named."""
    async with serving(engine) as server:
        coordinator.members = {CONSOLE: (2,)}
        await called(server)
        coordinator.failure = ConnectionError()
        assert 1 == len((await called(server)).foreigners)


async def test_it_is_noticed_with_nobody_looking(
    engine: FakeEngine, coordinator: FakeCoordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one request to the coordinator in CALL_SECONDS."""
    monkeypatch.setattr(roll_call, "CALL_SECONDS", 0.01)
    coordinator.members = {CONSOLE: (2,)}
    async with serving(engine) as server:
        while not server._roll.foreigners:  # noqa: ASYNC110  # nothing tells when it has called
            await asyncio.sleep(0.01)
        assert 503 == (await ready(server)).status


async def test_two_workers_with_one_instance_id(
    tmp_path: Path, coordinator: FakeCoordinator, caplog: pytest.LogCaptureFixture
) -> None:
    """Both serve all of it: their member ids differ. Both are ready, and say in one line what to mend."""
    first, second = FakeEngine(tmp_path / "a", "w1", coordinator), FakeEngine(tmp_path / "b", "w1", coordinator)
    second.identity.current_member_id = "another member"
    first.join(0, 1, 2, 3)
    second.join(4, 5, 6, 7)
    async with serving(first) as one, serving(second) as two:
        names = [f"w1@{server.address}" for server in (one, two)]
        coordinator.members = {names[0]: (0, 1, 2, 3), names[1]: (4, 5, 6, 7)}
        coordinator.member_ids = {names[1]: "another member"}
        for server in (one, two):
            assert 200 == (await get(server, "/tables/positions")).status
            assert [] == (await get(server, "/tables")).json["missing"]
            assert 404 == (await get(server, "/tables/positions/P1/ACME")).status
            await called(server)
            await called(server)
            answer = await ready(server)
            assert 200 == answer.status
            at = " and ".join(sorted((one.address, two.address)))
            assert [f"2 workers are named w1: at {at}. {RENAME_ONE}"] == answer.json["warnings"]
            group = (await get(server, "/partitions")).json
            assert answer.json["warnings"] == group["problems"]
            assert ["running"] * 8 == [partition["state"] for partition in group["partitions"]]
            assert "portfolio_stream_namesakes 1.0" in (await get(server, "/metrics")).body.decode()
    assert 2 == sum("share an instance id" in record.getMessage() for record in caplog.records)


async def test_a_worker_that_was_started_again_is_no_namesake(
    tmp_path: Path, engine: FakeEngine, coordinator: FakeCoordinator, clock: RollClock
) -> None:
    """Without its data folder it is another member; the one before is there until its session ends."""
    before, after = FakeEngine(tmp_path / "a", "w2", coordinator), FakeEngine(tmp_path / "b", "w2", coordinator)
    after.identity.current_member_id = "another member"
    async with serving(engine) as server:
        async with serving(before) as old:
            coordinator.members = {f"w1@{server.address}": (0, 1), f"w2@{old.address}": (2,)}
            await called(server)
        async with serving(after) as new:
            coordinator.members[f"w2@{new.address}"] = ()
            coordinator.member_ids = {f"w2@{new.address}": "another member"}
            assert () == (await called(server)).warnings()


async def test_a_worker_that_has_taken_another_member_id(
    engine: FakeEngine, coordinator: FakeCoordinator, clock: RollClock, tmp_path: Path
) -> None:
    """The others trust it under its new member id as soon as it proves it, and it does not take itself for another."""
    other = FakeEngine(tmp_path, "w2", coordinator)
    other.join(2, 3)
    async with serving(engine) as server, serving(other) as second:
        names = {"w1": f"w1@{server.address}", "w2": f"w2@{second.address}"}
        coordinator.members = {names["w1"]: (0, 1), names["w2"]: (2, 3)}
        assert (await called(server)).foreigners == ()

        other.identity.current_member_id = coordinator.member_ids[names["w2"]] = "member of w2.1"
        for _ in range(2):
            rolls = [await called(server), await called(second)]
            clock.now += 3600.0
        assert [(roll.foreigners, roll.namesakes, roll.warnings()) for roll in rolls] == [((), 0, ())] * 2

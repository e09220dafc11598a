"""GET /partitions, and what an operator changes: by the owner, one hop away at most, never without the token."""

from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiokafka.errors import NodeNotReadyError

from portfolio_stream.errors import (
    DeadLetterFailed,
    OffsetsAgree,
    OutcomeUnknown,
    PartitionNotHalted,
    PortfolioStreamError,
    RecordNotMovable,
)
from portfolio_stream.exactly_once.operations import Retry, SetAside
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.web.server import WebServer
from tests.unit.web_fakes import FakeCoordinator, FakeEngine, WebAnswer, get, request, serving

TOKEN = "secret"
REASON = "the fold failed 3 times: ValueError"


@pytest.fixture
def coordinator() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
def engine(tmp_path: Path, coordinator: FakeCoordinator) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", coordinator)


def halt(engine: FakeEngine, partition: int, offset: int) -> None:
    engine.served.discard(partition)
    engine.halted[partition] = Halted(partition=partition, offset=offset, reason=REASON)


async def post(server: WebServer, path: str, token: str = TOKEN, **headers: str) -> WebAnswer:
    return await request(server, "POST", path, Authorization=f"Bearer {token}", **headers)


async def test_partitions_of_the_whole_group(tmp_path: Path, coordinator: FakeCoordinator, engine: FakeEngine) -> None:
    """Each owner's own word for its state, Kafka's for offset and lag; no owner and a silent owner are told apart."""
    other = FakeEngine(tmp_path, "w2", coordinator)
    coordinator.committed, coordinator.ends = {0: 3, 2: 0, 4: 10}, dict.fromkeys(range(8), 10)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(one, web_token=TOKEN)) for one in (engine, other)]
        engine.join(0, 1)
        halt(engine, 0, 3)
        engine.served.discard(1)
        other.join(2, 3, 4)
        halt(other, 2, 0)
        coordinator.members = {
            f"w1@127.0.0.1:{servers[0].port}": (0, 1),
            f"w2@127.0.0.1:{servers[1].port}": (2, 3, 4),
            "w3@127.0.0.1:1": (5,),
        }
        answer = await get(servers[0], "/partitions", Authorization=f"Bearer {TOKEN}")
    names = ("partition", "state", "worker", "offset", "lag", "halted_at")
    assert [
        (0, "halted", "w1", 2, 7, 3),
        (1, "recovering", "w1", None, 10, None),
        (2, "halted", "w2", None, 10, 0),
        (3, "running", "w2", None, 10, None),
        (4, "running", "w2", 9, 0, None),
        (5, "silent", "w3", None, 10, None),
        (6, "unowned", None, None, 10, None),
        (7, "unowned", None, None, 10, None),
    ] == [tuple(state[name] for name in names) for state in answer.json["partitions"]]
    assert f"at offset 3: {REASON}" == answer.json["partitions"][0]["detail"]
    assert ("w1", []) == (answer.json["worker"], answer.json["problems"])


async def test_partitions_while_kafka_is_away(coordinator: FakeCoordinator, engine: FakeEngine) -> None:
    """The workers' states are worth seeing without offsets; what is not known is said."""
    async with serving(engine) as server:
        assert 503 == (await get(server, "/partitions")).status
        engine.join(0)
        coordinator.failure = NodeNotReadyError()
        answer = (await get(server, "/partitions")).json
    first = answer["partitions"][0]
    assert ("running", None, None) == (first["state"], first["offset"], first["lag"])
    assert 2 == len(answer["problems"])


async def test_an_operator_decides_through_any_worker(
    tmp_path: Path, coordinator: FakeCoordinator, engine: FakeEngine
) -> None:
    """The owner's engine is asked once, with the offset that was named."""
    owner = FakeEngine(tmp_path, "w2", coordinator)
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(one, web_token=TOKEN)) for one in (engine, owner)]
        engine.join(0)
        owner.join(1, 2)
        halt(owner, 1, 7)
        halt(owner, 2, 41)
        coordinator.members = {f"w2@127.0.0.1:{servers[1].port}": (1, 2)}
        retried = await post(servers[0], "/partitions/1/retry")
        moved = await post(servers[0], "/partitions/2/dead-letter?offset=41")
        looped = await post(servers[0], "/partitions/1/retry", X_Portfolio_Forwarded="1")
    assert [Retry(1), SetAside(2, 41)] == owner.operations
    state = {"partition": 1, "state": "recovering", "offset": None, "worker": "w2"}
    assert [(200, state), (200, state | {"partition": 2})] == [(one.status, one.json) for one in (retried, moved)]
    assert 503 == looped.status


async def test_an_operator_goes_on_from_the_state(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    """Through any worker; the answer has both offsets."""
    asked, owner = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(serving(one, web_token=TOKEN)) for one in (asked, owner)]
        asked.join(0)
        owner.join(1)
        owner.halted[1] = Halted(partition=1, offset=7, reason=REASON, group_offset=3)
        coordinator.members = {f"w2@127.0.0.1:{servers[1].port}": (1,)}
        answer = await post(servers[0], "/partitions/1/retry?from=state")
    assert (200, 7, 3) == (answer.status, answer.json["state_offset"], answer.json["group_offset"])
    assert [Retry(1, from_state=True)] == owner.operations


@pytest.mark.parametrize(
    ("refusal", "status"),
    [
        (PartitionNotHalted(0, 5), 409),
        (RecordNotMovable(0, 5), 409),
        (DeadLetterFailed(0, 5, "ValueError"), 409),
        (OffsetsAgree(0, "the topic was trimmed"), 409),
        (OutcomeUnknown(0), 503),
    ],
)
async def test_what_the_engine_refuses(engine: FakeEngine, refusal: PortfolioStreamError, status: int) -> None:
    """Its cause and its advice reach the operator."""
    async with serving(engine, web_token=TOKEN) as server:
        engine.join(0)
        engine.refusal = refusal
        answer = await post(server, "/partitions/0/dead-letter?offset=5")
    assert (status, refusal.cause, refusal.action) == (answer.status, answer.json["detail"], answer.json["action"])


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/partitions/0/dead-letter", 400),
        ("/partitions/0/dead-letter?offset=-1", 400),
        ("/partitions/0/dead-letter?offset=1e3", 400),
        ("/partitions/0/dead-letter?offset=", 400),
        ("/partitions/0/retry?from=source", 400),
        ("/partitions/8/retry", 404),
        ("/partitions/2147483647/retry", 404),
        ("/partitions/x/retry", 404),
        ("/partitions/0/skip", 404),
    ],
)
async def test_requests_that_name_nothing(engine: FakeEngine, path: str, status: int) -> None:
    """No default stands in for a partition or an offset."""
    async with serving(engine, web_token=TOKEN) as server:
        assert 503 == (await post(server, "/partitions/0/retry")).status  # it has not joined yet
        engine.join(0)
        halt(engine, 0, 5)
        assert status == (await post(server, path)).status
        assert 405 == (await get(server, "/partitions/0/retry", Authorization=f"Bearer {TOKEN}")).status
    assert [] == engine.operations


@pytest.mark.parametrize("path", ["/partitions/8/retry", "/partitions/2147483647/dead-letter?offset=5"])
async def test_a_partition_that_is_none(engine: FakeEngine, path: str) -> None:
    """The answer says how many there are."""
    async with serving(engine, web_token=TOKEN) as server:
        engine.join(0)
        answer = await post(server, path)
    assert (404, "Give a partition from 0 to 7.") == (answer.status, answer.json["action"])


@pytest.mark.parametrize("path", ["/partitions/0/retry", "/partitions/0/dead-letter?offset=5", "/health/live", "/"])
async def test_nothing_is_changed_without_a_token(engine: FakeEngine, path: str) -> None:
    """Also on loopback: a page in the operator's browser reaches it, but can send no such header."""
    async with serving(engine) as server:
        engine.join(0)
        halt(engine, 0, 5)
        for authorization in ({}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN}"}):
            answer = await request(server, "POST", path, **authorization)
            assert (403, "application/problem+json") == (answer.status, answer.headers["content-type"])
            assert "PORTFOLIO_WEB_TOKEN" in answer.json["action"]
    assert [] == engine.operations


async def test_a_wrong_token_changes_nothing(engine: FakeEngine) -> None:
    """401, also where a browser sends what it has: cookies and the name and password of a dialog."""
    async with serving(engine, web_token=TOKEN) as server:
        engine.join(0)
        halt(engine, 0, 5)
        for headers in ({}, {"Authorization": "Bearer other"}, {"Cookie": TOKEN}, {"Authorization": f"Basic {TOKEN}"}):
            answer = await request(server, "POST", "/partitions/0/retry", **headers)
            assert (401, "Bearer") == (answer.status, answer.headers["www-authenticate"])
        assert 200 == (await post(server, "/partitions/0/retry")).status
    assert [Retry(0)] == engine.operations

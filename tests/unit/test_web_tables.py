"""Values of tables over HTTP: which key is meant, who may answer, and with what."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from aiokafka.errors import KafkaConnectionError
from kio.schema.errors import ErrorCode

from portfolio_stream.compiled.seen import seen_row
from portfolio_stream.domain.activity import Activity
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.http.problem import Problem
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.web.table_paths import parse_lookup
from tables.activity import ACTIVITY
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS
from tables.table import join_key
from tests.unit.table_values import table_value
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, WebAnswer, get, serving

POSITION = table_value(Position("USD", Decimal("12"), Decimal("1215"), Decimal("101.25"), Decimal("0")))
SHOWN = {"currency": "USD", "quantity": "12", "cost_basis": "1215", "average_cost": "101.25", "realised_pnl": "0"}
PARTITION = partition_of(b"P1", PARTITIONS)
OTHERS = tuple(partition for partition in range(PARTITIONS) if partition != PARTITION)
TIMES = ("2026-11-23T04:30:00.123Z", "2026-11-23T04:30:00.123Z")


@pytest.fixture
def coordinator() -> FakeCoordinator:
    return FakeCoordinator()


@pytest.fixture
def engine(tmp_path: Path, coordinator: FakeCoordinator) -> FakeEngine:
    return FakeEngine(tmp_path, "w1", coordinator)


def expect_problem(answer: WebAnswer, status: int) -> dict[str, object]:
    assert (status, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert {"type", "title", "status", "detail"} <= answer.json.keys()
    assert status == answer.json["status"]
    assert ("retry-after" in answer.headers) == (status == 503)
    return answer.json  # type: ignore[no-any-return]


async def test_value_of_an_owned_partition(engine: FakeEngine) -> None:
    """Key, value with plain decimals, partition, the last source offset included, and the worker."""
    engine.join(*range(PARTITIONS))
    await engine.commit(PARTITION, 1041, {(POSITIONS, join_key("P1", "ACME")): POSITION})
    async with serving(engine) as server:
        answer = await get(server, "/tables/positions/P1/ACME")
    expected = {"key": ["P1", "ACME"], "value": SHOWN, "partition": PARTITION, "offset": 1041, "worker": "w1"}
    assert (200, "application/json", expected) == (answer.status, answer.headers["content-type"], answer.json)


async def test_a_minutes_activity(engine: FakeEngine) -> None:
    """The window is asked for by its start, as it stands in the key."""
    engine.join(*range(PARTITIONS))
    window = Activity(3, {"USD": Decimal("8.00000000")})
    await engine.commit(PARTITION, 7, {(ACTIVITY, join_key("P1", "2026-11-23T04:30:00Z")): table_value(window)})
    async with serving(engine) as server:
        answer = await get(server, "/tables/activity/P1/2026-11-23T04:30:00Z")
        assert 404 == (await get(server, "/tables/activity/P1/2026-11-23T04:31:00Z")).status
    assert {"events": 3, "notional": {"USD": "8"}} == answer.json["value"]


async def test_key_is_taken_from_the_raw_path(engine: FakeEngine) -> None:
    """An escaped slash or dot belongs to the key; nothing is unescaped twice or normalised."""
    engine.join(*range(PARTITIONS))
    symbols = {"BRK/B": "BRK%2FB", "/": "%2f", "..": "%2E%2E", "A": "%41"}
    values = {(POSITIONS, join_key("P1", symbol)): POSITION for symbol in symbols}
    await engine.commit(PARTITION, 1, values)
    async with serving(engine) as server:
        for symbol, path in symbols.items():
            answer = await get(server, f"/tables/positions/%50%31/{path}")
            assert (200, ["P1", symbol]) == (answer.status, answer.json["key"])
        assert 404 == (await get(server, "/tables/positions/P1/BRK%252FB")).status


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("positions/P1", 400),
        ("positions/P1/BRK/B", 400),
        ("positions/P1/", 400),
        ("positions//ACME", 400),
        ("positions/P1/%ff", 400),
        ("positions/P1/%zz", 400),
        ("positions/P1/%", 400),
        ("positions/P1/A%00B", 400),
        ("positions%2FP1%2FACME", 404),
        ("nothing/P1", 404),
        ("seen_chunks/P1/0", 404),
    ],
)
async def test_what_is_no_key_is_refused(engine: FakeEngine, path: str, status: int) -> None:
    """Wrong number of parts, wrong escapes, invalid UTF-8: 400. No such table: 404."""
    refused = parse_lookup(f"/tables/{path}")
    assert isinstance(refused, Problem)
    assert status == refused.status
    async with serving(engine) as server:
        expect_problem(await get(server, f"/tables/{path}"), status)


async def test_unknown_key_is_404_of_a_known_state(engine: FakeEngine) -> None:
    """The answer says up to which offset the key is not there; null before the first record."""
    engine.join(*range(PARTITIONS))
    async with serving(engine) as server:
        empty = expect_problem(await get(server, "/tables/portfolios/P1"), 404)
        await engine.commit(PARTITION, 7, {})
        later = expect_problem(await get(server, "/tables/portfolios/P1"), 404)
    assert [(PARTITION, None, "w1"), (PARTITION, 7, "w1")] == [
        (found["partition"], found["offset"], found["worker"]) for found in (empty, later)
    ]


async def test_seen_events_end_with_the_window(engine: FakeEngine) -> None:
    """An entry that the fold has not removed yet is no part of the table any more."""
    engine.join(*range(PARTITIONS))
    portfolio = table_value(Portfolio(10, {}, {}, {}, {"cash": 10}, *TIMES))
    entries = {(SEEN_EVENTS, join_key("P1", f"e{n}")): seen_row(n, n, b"\1" * 16) for n in (7, 8, 10)}
    await engine.commit(PARTITION, 10, {(PORTFOLIOS, join_key("P1")): portfolio, **entries})
    async with serving(engine, deduplication_window=3) as server:
        statuses = [(await get(server, f"/tables/seen_events/P1/e{n}")).status for n in (7, 8, 10)]
    assert [404, 200, 200] == statuses


async def test_no_value_unless_surely_ours(engine: FakeEngine) -> None:
    """Starting, stale membership, expelled and back, recovering, halted: each is a 503 that says to try again."""
    async with serving(engine) as server:

        async def detail() -> object:
            return expect_problem(await get(server, "/tables/positions/P1/ACME"), 503)["detail"]

        assert "starts" in str(await detail())
        engine.join(*range(PARTITIONS))
        await engine.commit(PARTITION, 1, {(POSITIONS, join_key("P1", "ACME")): POSITION})
        engine.membership.is_fresh = False
        assert "not fresh" in str(await detail())
        engine.membership.is_fresh, engine.membership.owned = True, frozenset()
        assert "does not own" in str(await detail())
        engine.join(*range(PARTITIONS))
        engine.served.discard(PARTITION)
        assert "recovering" in str(await detail())
        engine.halted[PARTITION] = Halted(partition=PARTITION, offset=1, reason="a test")
        assert "halted" in str(await detail())


async def test_forwards_to_the_owner(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    """Any worker answers for any key: found, unknown, and with the path as it was escaped."""
    first, second = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    first.join(*OTHERS)
    second.join(PARTITION)
    await second.commit(PARTITION, 5, {(POSITIONS, join_key("P1", "../B")): POSITION})
    token = {"web_token": "secret"}
    async with serving(first, **token) as one, serving(second, **token) as two:
        coordinator.members = {f"w1@{one.address}": OTHERS, f"w2@{two.address}": (PARTITION,)}
        found = await get(one, "/tables/positions/P1/%2E%2e%2FB?x=1", Authorization="Bearer secret")
        unknown = await get(one, "/tables/positions/P1/OTHER", Authorization="Bearer secret")
    expected = {"key": ["P1", "../B"], "value": SHOWN, "partition": PARTITION, "offset": 5, "worker": "w2"}
    assert (200, expected) == (found.status, found.json)
    assert "w2" == expect_problem(unknown, 404)["worker"]
    assert 1 == coordinator.asked


async def test_forwards_one_hop_at_most(tmp_path: Path) -> None:
    """Of two workers that take each other for the owner the second answers 503: it does not even ask who it is."""
    coordinators = FakeCoordinator(), FakeCoordinator()
    first, second = FakeEngine(tmp_path, "w1", coordinators[0]), FakeEngine(tmp_path, "w2", coordinators[1])
    first.join()
    second.join()
    async with serving(first) as one, serving(second) as two:
        coordinators[0].members = {f"w2@{two.address}": (PARTITION,)}
        coordinators[1].members = {f"w1@{one.address}": (PARTITION,)}
        answer = expect_problem(await get(one, "/tables/positions/P1/ACME"), 503)
        assert ("w2", 1, 0) == (answer["worker"], coordinators[0].asked, coordinators[1].asked)
        expect_problem(await get(one, "/tables/positions/P1/ACME"), 503)
        assert 2 == coordinators[0].asked  # a wrong owner is forgotten at once


async def test_no_owner(engine: FakeEngine, coordinator: FakeCoordinator) -> None:
    """Nobody owns it, the coordinator refuses or is away, the owner is ourselves, cannot be reached or refuses us."""
    engine.join(*OTHERS)
    free = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    hangs_up = f"127.0.0.1:{free.sockets[0].getsockname()[1]}"
    async with free, serving(engine) as server:
        routes: list[tuple[dict[str, tuple[int, ...]], BaseException | None, ErrorCode]] = [
            ({}, None, ErrorCode.none),
            ({"w2@127.0.0.1:1": (PARTITION,)}, KafkaConnectionError(), ErrorCode.none),
            ({"w2@127.0.0.1:1": (PARTITION,)}, None, ErrorCode.not_coordinator),
            ({"aiokafka": (PARTITION,)}, None, ErrorCode.none),
            ({f"w1@{server.address}": (PARTITION,)}, None, ErrorCode.none),
            ({"w2@127.0.0.1:1": (PARTITION,)}, None, ErrorCode.none),
            ({"w2@not an address:x": (PARTITION,)}, None, ErrorCode.none),
            ({f"w2@{hangs_up}": (PARTITION,)}, None, ErrorCode.none),
        ]
        for members, failure, error in routes:
            coordinator.members, coordinator.failure, coordinator.error = members, failure, error
            server.routing.forget()
            found = expect_problem(await get(server, "/tables/positions/P1/ACME"), 503)
            assert (PARTITION, None, "w1") == (found["partition"], found["offset"], found["worker"])


async def test_owner_with_another_token(tmp_path: Path, coordinator: FakeCoordinator) -> None:
    """The client did nothing wrong: it gets a 503, not the owner's 401."""
    first, second = (FakeEngine(tmp_path, name, coordinator) for name in ("w1", "w2"))
    first.join()
    second.join(PARTITION)
    async with serving(first) as one, serving(second, web_token="other") as two:
        coordinator.members = {f"w2@{two.address}": (PARTITION,)}
        assert "401" in str(expect_problem(await get(one, "/tables/positions/P1/ACME"), 503)["detail"])

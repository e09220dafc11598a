"""Pages and the list of tables, over one worker and over two."""

import json
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from portfolio_stream.compiled.seen import seen_row
from portfolio_stream.domain.portfolios import Portfolio
from portfolio_stream.domain.positions import Position
from portfolio_stream.exactly_once.recovery import Halted
from portfolio_stream.exactly_once.store import prefix_of
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.web import table_pages, table_sizes
from portfolio_stream.web.server import WebServer
from tables.portfolios import PORTFOLIOS
from tables.positions import POSITIONS
from tables.seen_events import SEEN_EVENTS
from tables.table import join_key
from tests.unit.table_values import table_value
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, WebAnswer, get, listening, serving

TIMES = ("2026-11-23T04:30:00.123Z", "2026-11-23T04:30:00.123Z")
FIRST, SECOND = (0, 1, 2, 3), (4, 5, 6, 7)


@dataclass
class Two:
    """Two workers that own half of the partitions each; the table's keys are P00/A, P00/B, P01/A ..."""

    engines: tuple[FakeEngine, FakeEngine]
    servers: tuple[WebServer, WebServer]
    coordinator: FakeCoordinator
    keys: list[tuple[str, str]]

    async def all(self, path: str, cursor: str | None = None) -> list[dict[str, Any]]:
        """Every page from the cursor on, asked of the two in turn."""
        found: list[dict[str, Any]] = []
        while not found or cursor:
            answer = await get(self.servers[len(found) % 2], path if cursor is None else f"{path}&cursor={cursor}")
            assert 200 == answer.status, answer
            found.append(answer.json)
            cursor = answer.json["cursor"]
        return found


def position(amount: int) -> Any:
    return table_value(Position("USD", Decimal(amount), Decimal(amount), Decimal(1), Decimal(0)))


@asynccontextmanager
async def two_workers(folder: Path, portfolios: int = 30) -> AsyncIterator[Two]:
    coordinator = FakeCoordinator()
    engines = FakeEngine(folder, "w1", coordinator), FakeEngine(folder, "w2", coordinator)
    keys = [(f"P{number:02d}", symbol) for number in range(portfolios) for symbol in "AB"]
    for engine, owned in zip(engines, (FIRST, SECOND), strict=True):
        engine.join(*owned)
        for partition in owned:
            mine = [key for key in keys if partition_of(key[0].encode(), PARTITIONS) == partition]
            values = {(POSITIONS, join_key(*key)): position(1) for key in mine}
            await engine.commit(partition, 40 + partition, values)
    async with AsyncExitStack() as stack:
        one, two = [await stack.enter_async_context(serving(engine)) for engine in engines]
        coordinator.members = {f"w1@{one.address}": FIRST, f"w2@{two.address}": SECOND}
        yield Two(engines, (one, two), coordinator, keys)


def keys_of(found: list[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [tuple(row["key"]) for page in found for row in page["rows"]]


def expect_problem(answer: WebAnswer, status: int) -> dict[str, Any]:
    assert (status, "application/problem+json") == (answer.status, answer.headers["content-type"])
    assert ("retry-after" in answer.headers) == (status == 503)
    return answer.json  # type: ignore[no-any-return]


async def test_a_page_is_of_the_whole_group(tmp_path: Path) -> None:
    """Whichever worker is asked: rows of all partitions in key order, with what each partition's share is of."""
    async with two_workers(tmp_path) as two:
        for number, server in enumerate(two.servers):
            page = (await get(server, "/tables/positions?limit=1000")).json
            assert two.keys == keys_of([page])
            expected = [{"partition": p, "offset": 40 + p, "worker": "w1" if p in FIRST else "w2"} for p in range(8)]
            assert (expected, None, f"w{number + 1}") == (page["partitions"], page["cursor"], page["worker"])
            assert ("positions", "1") == (page["table"], page["rows"][0]["value"]["quantity"])
            partitions = [partition_of(portfolio.encode(), PARTITIONS) for portfolio, _ in two.keys]
            assert partitions == [row["partition"] for row in page["rows"]]


@pytest.mark.parametrize("limit", [1, 7, 30, 60, 61])
async def test_pages_together_are_the_table(tmp_path: Path, limit: int) -> None:
    """Each key once, in order, at most `limit` at a time; a cursor of one worker is good at the other."""
    async with two_workers(tmp_path) as two:
        found = await two.all(f"/tables/positions?limit={limit}")
        assert two.keys == keys_of(found)
        assert all(len(page["rows"]) <= limit for page in found)


@pytest.mark.parametrize(
    ("query", "first", "last", "count"),
    [
        ("prefix=P1", ("P10", "A"), ("P19", "B"), 20),
        ("prefix=P10/", ("P10", "A"), ("P10", "B"), 2),
        ("prefix=P10%2FB", ("P10", "B"), ("P10", "B"), 1),
        ("from=P05/B&to=P07", ("P05", "B"), ("P06", "B"), 3),
        ("from=P29", ("P29", "A"), ("P29", "B"), 2),
        ("prefix=P1&from=P12&to=P13/B", ("P12", "A"), ("P13", "A"), 3),
    ],
)
async def test_a_range(tmp_path: Path, query: str, first: object, last: object, count: int) -> None:
    """[from, to) and prefix together, through small pages."""
    async with two_workers(tmp_path) as two:
        found = keys_of(await two.all(f"/tables/positions?{query}&limit=2"))
        assert (first, last, count) == (found[0], found[-1], len(found))


async def test_pages_while_the_table_changes(tmp_path: Path) -> None:
    """A key that stays is shown once, whatever comes and goes around the cursor; the cursor's own key may go."""
    async with two_workers(tmp_path) as two:
        first = (await get(two.servers[0], "/tables/positions?limit=10")).json
        for engine, owned in zip(two.engines, (FIRST, SECOND), strict=True):
            for partition in owned:
                home = [name for name in ("P04", "P00", "P05") if partition_of(name.encode(), PARTITIONS) == partition]
                values: dict[Any, Any] = {(POSITIONS, join_key(name, "AA")): position(2) for name in home}
                await engine.commit(partition, 90, values)
        then = await two.all("/tables/positions?limit=10", first["cursor"])
        assert two.keys[:10] == keys_of([first])
        assert sorted({*two.keys[10:], ("P05", "AA")}) == keys_of(then)
        assert {90} == {origin["offset"] for page in then for origin in page["partitions"]}


async def test_what_left_the_window_is_not_on_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does a long stretch of it make a page that takes long: the page ends early, and the cursor goes on."""
    monkeypatch.setattr(table_pages, "EXAMINED_LIMIT", 4)
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(*range(PARTITIONS))
    partition = partition_of(b"P1", PARTITIONS)
    portfolio = table_value(Portfolio(20, {}, {}, {}, {"cash": 20}, *TIMES))
    entries = {(SEEN_EVENTS, join_key("P1", f"e{n:02d}")): seen_row(n, n, b"\1" * 16) for n in range(1, 21)}
    await engine.commit(partition, 20, {(PORTFOLIOS, join_key("P1")): portfolio, **entries})
    async with serving(engine, deduplication_window=3) as server:
        two = Two((engine, engine), (server, server), FakeCoordinator(), [])
        found = await two.all("/tables/seen_events?limit=10")
    assert [("P1", f"e{n}") for n in (18, 19, 20)] == keys_of(found)
    assert [0, 0, 0, 0, 3] == [len(page["rows"]) for page in found]


async def test_a_page_needs_every_partition(tmp_path: Path) -> None:
    """RecoveryTask, halted, stale, without an owner, with one that is gone: each is named, with when to try again."""
    async with two_workers(tmp_path) as two:
        first, second = two.engines

        async def missing() -> dict[int, str]:
            two.servers[0].routing.forget()
            problem = expect_problem(await get(two.servers[0], "/tables/positions"), 503)
            named = {one["partition"]: one["detail"] for one in problem["missing"]}
            assert ", ".join(map(str, sorted(named))) in problem["detail"]
            return named

        first.served.discard(2)
        second.served.discard(5)
        second.halted[5] = Halted(partition=5, offset=1, reason="a test")
        assert {2: "The partition is recovering.", 5: "The partition is halted."} == await missing()
        first.join(*FIRST)
        second.join(*SECOND)
        second.membership.is_fresh = False
        assert set(SECOND) == (await missing()).keys()
        second.join(4, 5, 6)
        assert {7: "The worker does not own the partition any more."} == await missing()
        second.join(*SECOND)
        members = two.coordinator.members
        two.coordinator.members = {name: FIRST if name[:2] == "w1" else (4, 5, 6) for name in members}
        assert {7: "The partition has no owner at the moment."} == await missing()
        two.coordinator.members = {**members, "w3@127.0.0.1:1": (7,)}
        silent = "The partition's owner w3 does not answer: nobody listens at 127.0.0.1:1."
        assert {7: silent} == await missing()


@pytest.mark.parametrize(
    ("key", "value", "what"),
    [
        (b"P0\x00\xff", POSITIONS.encode(position(1)), "a key"),
        (b"P0", POSITIONS.encode(position(1)), "a key"),
        (b"P0\x00A", b"\xff", "a value"),
        (b"P0\x00A", msgspec.msgpack.encode((2, "USD", "1E+99999999", "0", "0", "0")), "a value"),
        (b"P0\x00A", msgspec.msgpack.encode((2, "USD", "NaN", "0", "0", "0")), "a value"),
    ],
)
async def test_what_no_worker_wrote_is_named_and_not_shown(tmp_path: Path, key: bytes, value: bytes, what: str) -> None:
    """It came by the changelog. The answer says so in bounded time; other keys and tables are answered as ever."""
    async with two_workers(tmp_path) as two:
        partition = partition_of(b"P0", PARTITIONS)
        owner = partition in SECOND
        await two.engines[owner].store.write([(prefix_of(partition) + b"positions\x00" + key, value)], {})
        path = "/tables/positions?prefix=P0"
        problem = expect_problem(await get(two.servers[owner], path), 500)
        assert f"The state has {what} of table 'positions' that cannot be read" in problem["detail"]
        assert "verify" in problem["action"]
        problem = expect_problem(await get(two.servers[not owner], path), 503)
        assert f"{what} of table 'positions'" in problem["missing"][0]["detail"]
        assert 200 == (await get(two.servers[owner], "/tables/portfolios")).status
        assert 200 == (await get(two.servers[owner], "/tables/positions/P01/A")).status


async def test_no_page_before_the_engine_has_started(tmp_path: Path) -> None:
    """Of any table, nor a list of them."""
    async with serving(FakeEngine(tmp_path, "w1", FakeCoordinator())) as server:
        for path in ("/tables", "/tables/positions"):
            assert "starts" in expect_problem(await get(server, path), 503)["detail"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/tables/nothing", 404),
        ("/tables/%ff", 400),
        ("/tables/positions?limit=0", 400),
        ("/tables/positions?cursor=AAAAAAAAAAAA", 400),
        ("/tables/prices?limit=x", 400),
    ],
)
async def test_what_is_no_page_is_refused(tmp_path: Path, path: str, status: int) -> None:
    """Before anybody is asked."""
    async with serving(FakeEngine(tmp_path, "w1", FakeCoordinator())) as server:
        expect_problem(await get(server, path), status)


async def test_an_owner_that_answers_something_else(tmp_path: Path) -> None:
    """Another version's page, or one of other partitions, is no page: nothing is left out in silence."""
    answers: list[object] = [
        [],
        {"table": "positions", "rows": [], "cursor": None, "partitions": [], "worker": "w2"},
        {"table": "positions", "rows": [], "cursor": "AAAA", "partitions": _origins(SECOND), "worker": "w2"},
        {"table": "positions", "rows": [], "cursor": None, "partitions": _origins(SECOND[1:]), "worker": "w2"},
    ]
    async with two_workers(tmp_path) as two, _other_owner(answers) as address:
        two.coordinator.members = {"w1@unused:1": FIRST, f"w2@{address}": SECOND}
        for _ in answers:
            problem = expect_problem(await get(two.servers[0], "/tables/positions"), 503)
            assert list(SECOND) == [one["partition"] for one in problem["missing"]]


def _origins(partitions: tuple[int, ...]) -> list[dict[str, object]]:
    return [{"partition": partition, "offset": None, "worker": "w2"} for partition in partitions]


@asynccontextmanager
async def _other_owner(answers: list[object]) -> AsyncIterator[str]:
    """A worker that gives one answer after the other, to the end."""
    turn = iter(answers)

    async def answer(request: web.Request) -> web.Response:
        assert "4,5,6,7" == request.headers["X-Portfolio-Partitions"]
        return web.Response(text=json.dumps(next(turn)), content_type="application/json")

    async with listening(answer, worker="w2") as address:
        yield address
    assert next(turn, None) is None


# --- the list of tables


async def test_tables_of_the_whole_group(tmp_path: Path) -> None:
    """Each table's key, and for each partition owner, offset, and counted keys and bytes."""
    async with two_workers(tmp_path) as two:
        for server in two.servers:
            listed = (await get(server, "/tables")).json
            tables = {one["table"]: one for one in listed["tables"]}
            assert ["activity", "portfolios", "positions", "prices", "seen_events"] == list(tables)
            found = tables["positions"]
            assert (["portfolio_id", "symbol"], []) == (found["key"], listed["missing"])
            assert [(p, "w1" if p in FIRST else "w2", 40 + p, 40 + p) for p in range(PARTITIONS)] == [
                (one["partition"], one["worker"], one["offset"], one["counted_offset"]) for one in found["partitions"]
            ]
            assert len(two.keys) == sum(one["keys"] for one in found["partitions"])
            size = sum(len(join_key(*key)) + len(POSITIONS.encode(position(1))) for key in two.keys)
            assert size == sum(one["bytes"] for one in found["partitions"])


async def test_tables_without_a_worker_that_does_not_answer(tmp_path: Path) -> None:
    """Its partitions have their place, with nulls, and the answer says why; so does one that recovers."""
    async with two_workers(tmp_path) as two:
        two.coordinator.members = {"w2@127.0.0.1:1": (4, 5, 6)}
        two.engines[0].served.discard(2)
        listed = (await get(two.servers[0], "/tables")).json
    reasons = {one["partition"]: (one["worker"], one["detail"]) for one in listed["missing"]}
    silent = "The partition's owner w2 does not answer: nobody listens at 127.0.0.1:1."
    gone = dict.fromkeys((4, 5, 6), ("w2", silent))
    assert gone | {
        2: ("w1", "The partition is recovering."),
        7: (None, "The partition has no owner at the moment."),
    } == (reasons)
    shown = {one["partition"]: one for one in listed["tables"][2]["partitions"]}
    assert list(range(PARTITIONS)) == sorted(shown)
    assert [0, 1, 3] == [partition for partition in shown if shown[partition]["keys"] is not None]
    assert {"partition": 5, "worker": "w2"} | dict.fromkeys(
        ("offset", "keys", "bytes", "counted_offset", "counted_seconds_ago")
    ) == shown[5]


async def test_tables_are_counted_once_in_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces; the count says of which offset it is, while the offset moves on."""
    monkeypatch.setattr(table_sizes, "PIECE_ENTRIES", 2)
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(0)
    await engine.commit(0, 5, {(POSITIONS, join_key("P", f"S{n}")): position(1) for n in range(7)})
    async with serving(engine) as server:
        engine.partition_count = 1

        async def shown() -> tuple[int, int, int]:
            (held,) = (await get(server, "/tables")).json["tables"][2]["partitions"]
            return held["keys"], held["counted_offset"], held["offset"]

        assert (7, 5, 5) == await shown()
        await engine.commit(0, 6, {(POSITIONS, join_key("P", "S9")): position(1)})
        assert (7, 5, 6) == await shown()
        server._census._due = 0.0
        assert (8, 6, 6) == await shown()


async def test_counting_takes_a_bounded_share_of_the_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next count is not before a hundred times what the last one read; a partition that is new is counted alone."""
    engine = FakeEngine(tmp_path, "w1", FakeCoordinator())
    engine.join(0)
    read: list[int] = []
    real, seconds = table_sizes._measure, 0.0

    def measure(entries: Any) -> Any:
        nonlocal seconds
        before = time.perf_counter()
        time.sleep(0.02)
        size = real(entries)
        seconds += time.perf_counter() - before
        read.append(size.keys)
        return size

    monkeypatch.setattr(table_sizes, "_measure", measure)
    monkeypatch.setattr(table_sizes, "KEPT_SECONDS", 0.0)
    for partition in (0, 1):
        await engine.commit(partition, 5, {(POSITIONS, join_key("P", "S")): position(1)})
    async with serving(engine) as server:
        begun = time.monotonic()
        for _ in range(5):
            (held,) = (await get(server, "/tables")).json["tables"][2]["partitions"][:1]
            assert (1, 0.0 <= held["counted_seconds_ago"] < 5) == (held["keys"], True)
        assert [0, 1] == sorted(set(read)) and len(read) == len(table_sizes.SHOWN)
        assert server._census._due >= begun + table_sizes.KEPT_TIMES * seconds
        engine.join(0, 1)
        assert 2 == sum(one["keys"] or 0 for one in (await get(server, "/tables")).json["tables"][2]["partitions"])
        assert len(read) == 2 * len(table_sizes.SHOWN)
        assert server._census._due >= begun + table_sizes.KEPT_TIMES * seconds

"""`tables scan` against a worker's own web server."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from pathlib import Path

import pytest
from aiohttp import web

from portfolio_stream import cli
from portfolio_stream.commands import tables as command
from portfolio_stream.domain.positions import Position
from portfolio_stream.kafka.partitioning import partition_of
from portfolio_stream.web.server import WebServer
from tables.positions import POSITIONS
from tables.table import join_key
from tests.unit.table_values import table_value
from tests.unit.web_fakes import PARTITIONS, FakeCoordinator, FakeEngine, listening, serving

KEYS = [(f"P{number:02d}", symbol) for number in range(20) for symbol in ("A", "BRK/B")]
Scan = Callable[..., object]


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    monkeypatch.setattr(command, "PAGE_ROWS", 7)
    monkeypatch.setattr(command, "RETRY_SECONDS", 0.05)
    return FakeEngine(tmp_path, "w1", FakeCoordinator())


@pytest.fixture
async def server(engine: FakeEngine) -> AsyncIterator[WebServer]:
    engine.join(*range(PARTITIONS))
    held = table_value(Position("USD", Decimal(1), Decimal(2), Decimal(2), Decimal("-0.50")))
    for partition in range(PARTITIONS):
        mine = [key for key in KEYS if partition_of(key[0].encode(), PARTITIONS) == partition]
        await engine.commit(partition, 5, {(POSITIONS, join_key(*key)): held for key in mine})
    async with serving(engine) as server:
        yield server


async def scan(server: WebServer, *arguments: str) -> int:
    address = ("--web-address", f"http://127.0.0.1:{server.port}")
    return await asyncio.to_thread(cli.run, ["tables", "scan", *arguments, *address])


async def test_all_rows_in_order(server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Through all pages; a line each, or as the worker gave them."""
    assert 0 == await scan(server, "positions")
    shown = capsys.readouterr().out.splitlines()
    assert [" ".join(key) for key in KEYS] == [line.partition(" currency=")[0] for line in shown]
    expected = "P00 BRK/B currency=USD quantity=1 cost_basis=2 average_cost=2 realised_pnl=-0.5"
    assert expected == shown[1]
    assert 0 == await scan(server, "positions", "-o", "json")
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [list(key) for key in KEYS] == [row["key"] for row in rows]
    assert {"key", "value", "partition"} == rows[0].keys()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--limit", "9"], KEYS[:9]),
        (["--prefix", "P1", "--limit", "1"], KEYS[20:21]),
        (["--prefix", "P03/BRK/"], KEYS[7:8]),
        (["--from", "P03/BRK/B", "--to", "P08"], KEYS[7:16]),
        (["--from", "Q"], []),
    ],
)
async def test_a_part_of_them(
    server: WebServer, arguments: list[str], expected: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """By prefix and range, with parts of a key joined by a slash; and no more than wanted."""
    assert 0 == await scan(server, "positions", "-o", "json", *arguments)
    assert expected == [tuple(json.loads(line)["key"]) for line in capsys.readouterr().out.splitlines()]


async def test_a_scan_outlives_a_recovery(
    server: WebServer, engine: FakeEngine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It asks again where it was, for a while; then the worker's words are shown."""
    engine.served.discard(3)
    asyncio.get_running_loop().call_later(0.2, engine.served.add, 3)
    assert 0 == await scan(server, "positions")
    assert len(KEYS) == len(capsys.readouterr().out.splitlines())
    monkeypatch.setattr(command, "PATIENCE_SECONDS", 0.0)
    engine.served.discard(3)
    assert 1 == await scan(server, "positions")
    assert "503: Partitions that recover, move or have no owner at the moment: 3." in capsys.readouterr().err


async def test_a_table_that_is_not_there(server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker's words, and no traceback."""
    assert 1 == await scan(server, "bogus")
    assert "Error: The worker answered 404: There is no such table" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["tables", "scan", "positions"], ["partitions", "retry", "3"]])
async def test_the_token_follows_no_redirect(
    command: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It goes to the address that the operator named and nowhere else; the redirect is an error."""
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", "secret")
    heard: list[str | None] = []

    async def elsewhere(request: web.Request) -> web.Response:
        heard.append(request.headers.get("Authorization"))
        return web.json_response({})

    async with listening(elsewhere) as target:

        async def move(request: web.Request) -> web.Response:
            raise web.HTTPFound(f"http://{target}/")

        async with listening(move) as address:
            assert 1 == await asyncio.to_thread(cli.run, [*command, "--web-address", f"http://{address}"])
    assert "302" in capsys.readouterr().err
    assert [] == heard

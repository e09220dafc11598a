"""portfolio-stream checkpoints: the last ones as a table, one by partition, and the worker's words where it refuses."""

import asyncio
import json

import pytest

from portfolio_stream import cli
from portfolio_stream.web.server import WebServer
from tests.unit.test_web_checkpoints import COMPLETED, FAILED, IN_PROGRESS, server

__all__ = ["server"]


async def run(server: WebServer, *arguments: str) -> int:
    return await asyncio.to_thread(cli.run, ["checkpoints", "--web-address", f"http://{server.address}", *arguments])


async def test_the_last_checkpoints(server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Newest first; a failed one names each partition with the reason."""
    assert 0 == await run(server)
    told = capsys.readouterr()
    header, *rows = told.out.splitlines()
    assert "CHANGELOG-BYTES" in header
    assert [str(IN_PROGRESS), str(FAILED), str(COMPLETED)] == [row.split()[0] for row in rows]
    assert rows[1].endswith("1 halted")
    assert "1 completed, 1 failed, 1 in progress since 1970-01-01T00:16:50.000Z." in told.err
    assert 0 == await run(server, "--limit", "1")
    assert 2 == len(capsys.readouterr().out.splitlines())


async def test_one_by_partition(server: WebServer, capsys: pytest.CaptureFixture[str]) -> None:
    """A partition of which nothing is known is there, too."""
    assert 0 == await run(server, str(IN_PROGRESS))
    lines = capsys.readouterr().out.splitlines()
    assert [["0", "IN_PROGRESS", "-", "-"], ["1", "IN_PROGRESS", "w2", "-"]] == [
        line.split()[:4] for line in lines[-2:]
    ]
    assert 0 == await run(server, str(FAILED), "-o", "json")
    assert "halted" == json.loads(capsys.readouterr().out)["parts"][1]["reason"]


@pytest.mark.parametrize(("arguments", "code", "words"), [
    (["7"], 1, "404: The last 100 checkpoints have none with this id"),
    (["x"], 2, "Invalid value for '[ID]'"),
    (["--limit", "101"], 2, "Invalid value for '--limit'"),
])  # fmt: skip
async def test_what_is_refused(
    server: WebServer, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, words: str
) -> None:
    assert code == await run(server, *arguments)
    assert words in capsys.readouterr().err

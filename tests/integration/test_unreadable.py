"""Strangers' records in the topics of a real group: batches too large to decompress, header names that are not UTF-8.

The worker names each such batch. An operator gets its partition past it, the other partitions go on, and `verify` holds
afterwards.
"""

import asyncio
import io
import json
import sys
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from portfolio_stream import cli
from portfolio_stream.kafka.partitioning import partition_of
from tests.bombs import batch_of, bomb, record, send
from tests.integration.histories import Load, wait_for_no_lag
from tests.integration.workers import Worker, WorkersStage, until

TOKEN = "an operator's secret"
BAD_NAME = b"\xff\xfe"
MIB = 1 << 20
MEMORY_LIMIT_MIB = 900  # without the bound, a batch of 1 GiB makes a worker take 2.2 GB


def answer(worker: Worker, path: str) -> tuple[int, Any]:
    request = Request(f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}{path}")
    request.add_header("Authorization", f"Bearer {TOKEN}")
    try:
        with urlopen(request, timeout=10) as reply:
            return reply.status, json.loads(reply.read())
    except HTTPError as error:
        return error.code, json.loads(error.read())


def peak_mib(worker: Worker) -> int:
    assert worker.process is not None
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return next(int(line.split()[1]) >> 10 for line in status.splitlines() if line.startswith("VmHWM"))


def event(portfolio_id: str, event_id: str) -> bytes:
    members = {
        "event_id": event_id, "type": "cash", "portfolio_id": portfolio_id, "occurred_at": "2026-11-23T04:30:00Z",
        "amount": "5", "currency": "USD",
    }  # fmt: skip
    return json.dumps(members).encode()


def price(symbol: str) -> bytes:
    members = {"symbol": symbol, "price": "1", "currency": "USD", "as_of": "2026-11-23T04:30:00Z"}
    return json.dumps(members).encode()


def named(key: bytes, value: bytes) -> bytes:
    """Returns a batch of one record with a header name that is not UTF-8."""
    return batch_of(1, record(0, key, value, [(BAD_NAME, b"x")]))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc tells a process's memory")
async def test_nothing_that_strangers_send_ends_a_reader(
    stage: WorkersStage, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Two batches that decompress to a gigabyte ("bombs") halt their source partition, one after the other.

    Such batches and header names in prices and dead letters end no reader.
    """
    monkeypatch.setenv("PORTFOLIO_BOOTSTRAP_SERVERS", stage.settings.bootstrap_servers)
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    servers, settings = stage.settings.bootstrap_servers, stage.settings

    async def run(*arguments: str, code: int = 0) -> str:
        ended = await asyncio.to_thread(cli.run, arguments)
        shown = capfd.readouterr()
        assert code == ended, shown
        return shown.out + shown.err

    worker = stage.worker("w1", PORTFOLIO_WEB_TOKEN=TOKEN)
    worker.start()
    await stage.serving(worker)
    partition = partition_of(b"P1", settings.partitions)

    # in the prices
    await send(servers, settings.prices_topic, 0, named(b"S0001", price("S0001")))
    await send(servers, settings.prices_topic, 0, bomb(64, 16 * MIB))
    await send(servers, settings.prices_topic, 0, batch_of(1, record(0, b"S0002", price("S0002"))))
    await until(lambda: answer(worker, "/tables/prices/S0002")[0] == 200, 20, "prices are read on", worker)
    assert 200 == answer(worker, "/tables/prices/S0001")[0]

    # in the source
    first = await send(servers, settings.input_topic, partition, named(b"P1", event("P1", "named")))
    await Load.of(settings, 500, 0).run()
    bombs = [
        await send(servers, settings.input_topic, partition, bomb(*size)) for size in ((64, 16 * MIB), (128, 16 * MIB))
    ]
    last = await send(servers, settings.input_topic, partition, named(b"P1", b"no event"))
    await Load.of(settings, 500, 0, seed=8).run()
    for at, behind in zip(bombs, (bombs[1], last), strict=True):
        await until(
            lambda at=at: f"halted at offset {at}" in str(answer(worker, "/health/ready")), 20, "it halts", worker
        )
        code, ready = answer(worker, "/health/ready")
        assert (503, 1) == (code, len(ready["reasons"]))
        reason = f"offsets {at} to {behind - 1} of {settings.input_topic}-{partition} cannot be read"
        assert reason in ready["reasons"][0]
        address = f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}"
        await run("partitions", "dead-letter", str(partition), "--offset", str(at), "--web-address", address)
    await wait_for_no_lag(settings, 30)
    assert peak_mib(worker) < MEMORY_LIMIT_MIB
    assert first < bombs[0] and 200 == answer(worker, "/health/ready")[0]
    assert 200 == answer(worker, "/portfolios/P1")[0]
    lines = (await run("verify", "-o", "json")).splitlines()
    verified = next(json.loads(line) for line in lines if line.startswith("{"))
    assert verified["holds"]

    # what others read
    readable = verified["records"] - 64 - 128  # the bombs' records count although they cannot be read
    shown = await run(
        "consume", "--topic", settings.input_topic, "--from-beginning", "--max-messages", str(readable), "-o", "json"
    )
    assert '"name_base64":"//4="' in shown and f"Passed over: the record batch of offsets {bombs[0]} to" in shown
    listed = await run("dlq", "list", "--code", "operator_dead_letter", "-o", "json")
    assert bombs == [json.loads(line)["source"]["offset"] for line in listed.splitlines()]
    replayed = await run("dlq", "replay", "--partition", str(partition), "-y")
    assert "Not sent: 2, each a whole record batch that no worker could read" in replayed
    await wait_for_no_lag(settings, 30)
    assert "Exactly-once holds." in await run("verify")
    letters = await run(
        "consume", "--topic", settings.dlq_topic, "--from-beginning", "--max-messages", "4", "-o", "json"
    )
    assert letters.count('"name_base64":"//4="') == 2  # the bad record's dead letter, and that of its replay

    # and in the dead letters
    await send(servers, settings.dlq_topic, partition, bomb(64, 16 * MIB))
    assert "Passed over: the record batch of offsets" in await run("dlq", "list")
    cannot = await run("verify", code=2)
    assert "Exactly-once cannot be verified: the record batch of offsets" in cannot and "Traceback" not in cannot

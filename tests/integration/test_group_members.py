"""Real workers, with others in their group: strangers, a stranger with an address, two workers of one instance id."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiokafka import AIOKafkaConsumer

from portfolio_stream import cli
from portfolio_stream.broker.cluster import Cluster
from portfolio_stream.http.access import IDENTITY_PATH
from tests.integration.workers import Worker, until
from tests.ports import free_port

TOKEN = "the operator's secret"
PARTITIONS, PORTFOLIOS = 4, 30
START_SECONDS, NOTICED_SECONDS = 60.0, 30.0

Start = Callable[..., Worker]


@pytest.fixture
def start(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Start]:
    """Starts workers, each with a data folder of its own. The topics exist and have some events."""
    assert 0 == cli.run(["topics", "create"])
    assert 0 == cli.run(["produce", "--events", "300", "--rate", "0", "--portfolios", str(PORTFOLIOS)])
    capsys.readouterr()
    started: list[Worker] = []

    def make(instance_id: str, **environment: str) -> Worker:
        own = {
            "PORTFOLIO_DATA_DIR": str(tmp_path / f"data-{len(started)}"),
            "PORTFOLIO_INSTANCE_ID": instance_id,
            "PORTFOLIO_WEB_PORT": str(free_port()),
            "PORTFOLIO_WEB_TOKEN": TOKEN,
        }
        worker = Worker(instance_id, own | environment, tmp_path / f"worker-{len(started)}.log")
        worker.start()
        started.append(worker)
        return worker

    yield make
    for worker in started:
        worker.end()


async def ask(worker: Worker, path: str) -> tuple[int, Any]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    url = f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}{path}"
    try:
        async with aiohttp.ClientSession() as http, http.get(url, headers=headers) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if "json" in answer.content_type else text
    except aiohttp.ClientError:
        return 0, {}


async def is_ready(worker: Worker) -> bool:
    return (await ask(worker, "/health/ready"))[0] == 200


async def all_run(worker: Worker, workers: int) -> bool:
    status, group = await ask(worker, "/partitions")
    members = {partition["worker"] for partition in group.get("partitions", ())}
    states = [partition["state"] for partition in group.get("partitions", ())]
    return status == 200 and states == ["running"] * PARTITIONS and len(members) == workers


@asynccontextmanager
async def stranger(kafka: Cluster, name: str, client_id: str) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer of the classic protocol in the workers' group, which gets partitions."""
    consumer = AIOKafkaConsumer(
        f"{name}-input",
        bootstrap_servers=kafka.bootstrap_servers,
        group_id=name,
        client_id=client_id,
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        await until(lambda: bool(consumer.assignment()), NOTICED_SECONDS, "the stranger has partitions")
        yield consumer
    finally:
        await consumer.stop()


async def test_strangers(kafka: Cluster, name: str, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    """A stranger in the group is named within seconds, gets no secret, and leaves no trace when it goes."""
    worker = start("w1")
    await until(lambda: all_run(worker, 1), START_SECONDS, "all partitions run", worker)
    await until(lambda: is_ready(worker), START_SECONDS, "prices are read", worker)

    async with stranger(kafka, name, "console-consumer") as consumer:
        held = sorted(place.partition for place in consumer.assignment())

        async def is_named() -> bool:
            status, told = await ask(worker, "/health/ready")
            return status == 503 and "client id console-consumer" in "".join(told["reasons"])

        await until(is_named, NOTICED_SECONDS, "the stranger is named", worker)
        group = (await ask(worker, "/partitions"))[1]
        assert held == [one["partition"] for one in group["partitions"] if one["state"] == "foreign"]
        assert f"portfolio_stream_foreign_partitions {len(held)}.0" in (await ask(worker, "/metrics"))[1]
        capsys.readouterr()
        assert 0 == await asyncio.to_thread(cli.run, ["lag", "-o", "json"])
        lag = json.loads(capsys.readouterr().out)
        assert [("console-consumer", held)] == [(one["client_id"], one["partitions"]) for one in lag["strangers"]]
        assert held == [one["partition"] for one in lag["partitions"] if one["worker"] is None]
        assert 0 == await asyncio.to_thread(cli.run, ["lag"])
        assert "client id console-consumer" in capsys.readouterr().err
    await until(lambda: is_ready(worker), NOTICED_SECONDS, "ready again", worker)

    heard: list[str] = []

    async def listen(request: web.Request) -> web.Response:
        heard.append(f"{request.path} {dict(request.headers)}")
        return web.json_response({})

    async with _listening(listen) as address, stranger(kafka, name, f"x@{address}"):

        async def is_unproved() -> bool:
            await ask(worker, "/tables/positions")
            await ask(worker, "/portfolios/P00000001")
            status, told = await ask(worker, "/health/ready")
            return status == 503 and f"x@{address}" in "".join(told["reasons"])

        await until(is_unproved, NOTICED_SECONDS, "the address proved nothing", worker)
    assert heard
    assert all(line.startswith(f"{IDENTITY_PATH} ") and "Authorization" not in line for line in heard), heard
    await until(lambda: is_ready(worker), NOTICED_SECONDS, "ready again", worker)
    assert 2 == len(worker.logged("foreign member left"))


@asynccontextmanager
async def _listening(handler: Any) -> AsyncIterator[str]:
    runner = web.ServerRunner(web.Server(handler))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def test_two_workers_with_one_instance_id(
    name: str, start: Start, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two workers of one instance id serve every key, forward requests to each other, and warn about the name."""
    workers = [start("w1"), start("w1")]
    for worker in workers:
        await until(lambda worker=worker: all_run(worker, 1), START_SECONDS, "all partitions run", worker)

        async def answers_all(worker: Worker = worker) -> bool:
            pages = [await ask(worker, "/tables/positions?limit=1000"), await ask(worker, "/tables")]
            owners = {len(place) for place in await _placed(workers)}
            return [200, 200] == [status for status, _ in pages] and not pages[1][1]["missing"] and owners == {2}

        await until(answers_all, NOTICED_SECONDS, "both serve everything", worker)

        async def is_named(worker: Worker = worker) -> bool:
            status, told = await ask(worker, "/health/ready")
            return status == 200 and any("2 workers are named w1: at 127.0.0.1:" in text for text in told["warnings"])

        await until(is_named, NOTICED_SECONDS, "the name is told", worker)
        assert "portfolio_stream_namesakes 1.0" in (await ask(worker, "/metrics"))[1]
    for number in range(PORTFOLIOS):
        found = [await ask(worker, f"/portfolios/P{number:08d}") for worker in workers]
        assert found[0][0] == found[1][0] in (200, 404), found
        assert found[0][1].get("sequence") == found[1][1].get("sequence")
    monkeypatch.setenv("PORTFOLIO_WEB_TOKEN", TOKEN)
    capsys.readouterr()
    assert 0 == await asyncio.to_thread(cli.run, ["verify", "-o", "json"])
    assert json.loads(capsys.readouterr().out)["served"] > 0
    assert all("signature" not in worker.text and TOKEN not in worker.text for worker in workers)


async def _placed(workers: list[Worker]) -> list[list[str]]:
    """Returns the partitions that each worker owns."""
    return [list((await ask(worker, "/worker"))[1].get("partitions", ())) for worker in workers]

"""Flink's REST interface on a real worker and a real broker: its figures are the worker's own."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from portfolio_stream.flink import ids
from portfolio_stream.flink.figures import KnownWorker
from portfolio_stream.flink.serving import serving
from tests.integration.histories import Load
from tests.integration.workers import Worker, WorkersStage, until
from tests.ports import free_port

EVENTS = 3_000
TOKEN = "a token of sixteen characters or more"
SECONDS = 20.0


class Client:
    def __init__(self, http: aiohttp.ClientSession, port: int) -> None:
        self._http = http
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str) -> Any:
        async with self._http.get(f"{self._url}{path}") as answer:
            text = await answer.text()
            assert 200 == answer.status, (path, answer.status, text)
            return json.loads(text) if answer.content_type == "application/json" else text

    async def state(self, job: str) -> str:
        return str((await self.get(f"/jobs/{job}/status"))["status"])


async def metrics_of(http: aiohttp.ClientSession, worker: Worker) -> Mapping[str, float]:
    async with http.get(f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}/metrics") as answer:
        families = text_string_to_metric_families(await answer.text())
        sums: dict[str, float] = {}
        for family in families:
            for one in family.samples:
                sums[one.name] = sums.get(one.name, 0.0) + one.value
        return sums


async def test_flinks_figures_are_the_workers_own(stage: WorkersStage) -> None:
    """A worker folds, is killed, and comes back; the token signs, and never travels to the workers.

    Counts are those of /metrics; the job is RUNNING, FAILED and RUNNING again; the exceptions name the new process.
    """
    (worker,) = await stage.started("w1", PORTFOLIO_CHECKPOINT_INTERVAL="2s", PORTFOLIO_WEB_TOKEN=TOKEN)
    load = Load.of(stage.settings, EVENTS, 0)
    load.start()
    await load.done()
    settings = replace(stage.settings, web_token=TOKEN, flink_port=free_port())
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with (
        serving(settings, lambda: [known(worker)], list, 1),
        aiohttp.ClientSession(headers=headers) as http,
    ):
        client = Client(http, settings.flink_port)
        job = ids.job_id(settings.group, 1)
        await until(lambda: has_read(client, job), SECONDS, "all events are committed, and told", worker)
        assert {"RUNNING"} == {one["status"] for one in (await client.get("/jobs"))["jobs"]}
        await compare(client, job, await metrics_of(http, worker))
        await look_everywhere(client, job)
        worker.kill()
        await until(lambda: has_state(client, job, "FAILED", "RESTARTING"), SECONDS, "the dead worker is missed")
        assert 1 == (await client.get("/overview"))["jobs-failed"] + (await client.get("/overview"))["jobs-running"]
        worker.start()
        await until(lambda: has_state(client, job, "RUNNING"), SECONDS * 3, "the worker is back", worker)
        told = await client.get(f"/jobs/{job}/exceptions")
        assert "worker restarted" in {one["exceptionName"] for one in told["exceptionHistory"]["entries"]}


def known(worker: Worker) -> KnownWorker:
    is_alive = worker.process is not None and worker.process.poll() is None
    return KnownWorker("w1", f"127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}", is_alive, log=Path(worker.log))


async def has_read(client: Client, job: str) -> bool:
    """A look is kept for a moment: the interface tells last what /metrics tells."""
    return [EVENTS] == [row["metrics"]["read-records"] for row in (await client.get(f"/jobs/{job}"))["vertices"][:1]]


async def has_state(client: Client, job: str, *states: str) -> bool:
    return await client.state(job) in states


async def compare(client: Client, job: str, metrics: Mapping[str, float]) -> None:
    """The counts of each vertex and of the job are sums of the worker's own."""
    rows = (await client.get(f"/jobs/{job}"))["vertices"]
    source, fold, commit = (row["metrics"] for row in rows)
    assert EVENTS == source["read-records"] == source["write-records"] == fold["read-records"]
    assert metrics["portfolio_stream_source_bytes_total"] == source["read-bytes"] == fold["read-bytes"]
    written = metrics["portfolio_stream_written_records_total"]
    assert written == fold["write-records"] == commit["read-records"] == commit["write-records"]
    assert metrics["portfolio_stream_written_bytes_total"] == commit["write-bytes"]
    by_name = await metrics_by_name(client, job)
    assert (EVENTS, written) == (by_name["numRecordsIn"], by_name["numRecordsOut"])

    async def has_rates() -> bool:
        rates = {"recordsReceivedPerSecond", "numRecordsInPerSecond"}
        return rates <= (await metrics_by_name(client, job)).keys()

    await until(has_rates, SECONDS, "two looks make a rate")


async def metrics_by_name(client: Client, job: str) -> Mapping[str, float]:
    return {one["id"]: float(one["value"]) for one in await client.get(f"/jobs/{job}/metrics")}


async def look_everywhere(client: Client, job: str) -> None:
    """Every page of the interface has an answer; a flame graph has the samples of a second."""
    vertex, worker = ids.vertex_id(job, "fold"), (await client.get("/taskmanagers"))["taskmanagers"][0]["id"]
    for path in (
        *("/config", "/overview", "/jobs/overview", "/applications/overview", f"/applications/{job}", "/jars"),
        *(f"/jobs/{job}{of}" for of in ("", "/config", "/plan", "/exceptions", "/checkpoints", "/checkpoints/config")),
        *(
            f"/jobs/{job}/vertices/{vertex}{of}"
            for of in ("", "/backpressure", "/metrics", "/subtasktimes", "/taskmanagers")
        ),
        *(f"/taskmanagers/{worker}{of}" for of in ("", "/metrics", "/log", "/logs", "/thread-dump")),
        *(f"/jobmanager/{of}" for of in ("config", "environment", "metrics", "logs", "thread-dump")),
    ):
        await client.get(path)

    async def is_completed() -> bool:
        return (await client.get(f"/jobs/{job}/checkpoints"))["latest"]["completed"] is not None

    await until(is_completed, SECONDS, "a checkpoint is completed")
    newest = (await client.get(f"/jobs/{job}/checkpoints"))["latest"]["completed"]["id"]
    details = await client.get(f"/jobs/{job}/checkpoints/details/{newest}")
    assert 3 == len(details["tasks"])
    path = f"/jobs/{job}/vertices/{vertex}/flamegraph"

    async def is_sampled() -> bool:
        return int((await client.get(path))["endTimestamp"]) > 0

    await until(is_sampled, SECONDS, "the stacks are sampled")

"""Checkpoints of three real workers: any worker tells all of them, also what a dead one had told."""

import json
from collections.abc import Mapping
from typing import Any

import aiohttp
import pytest

from portfolio_stream import cli
from portfolio_stream.exactly_once.signals import cancelled
from tests.integration.histories import Load
from tests.integration.workers import Worker, WorkersStage, until

INTERVAL, TIMEOUT = "500ms", "2s"
TOLD_SECONDS = 30.0  # two cores may be busy with other tests
Answer = Mapping[str, Any]


async def ask(worker: Worker, path: str = "/checkpoints?limit=100") -> Answer:
    """The worker's answer; nothing while the worker has none."""
    url = f"http://127.0.0.1:{worker.environment['PORTFOLIO_WEB_PORT']}{path}"
    try:
        async with aiohttp.ClientSession() as http, http.get(url) as answer:
            return await answer.json() if answer.status == 200 else {}
    except aiohttp.ClientError:
        return {}


async def told(worker: Worker, status: str, after: int = 0, reason: str | None = None) -> Answer:
    """Wait for a checkpoint with this status, a greater id than `after`, and this reason. Returns the newest one."""
    found: dict[str, Any] = {}

    def fits(one: Answer) -> bool:
        reasons = {failure["reason"] for failure in one["failures"]}
        return one["status"] == status and one["id"] > after and (reason is None or reason in reasons)

    async def is_told() -> bool:
        nonlocal found
        found = next(filter(fits, (await ask(worker)).get("history", ())), {})
        return bool(found)

    await until(is_told, TOLD_SECONDS, f"{worker.name} tells of a checkpoint {status} after {after}", worker)
    return found


@pytest.mark.slow  # `make proof` runs it
async def test_checkpoints_outlive_a_worker(
    stage: WorkersStage, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker is killed under load. The others tell what it had told, and complete later checkpoints.

    The checkpoints that fail name the dead worker's partitions. When it starts again it has the whole history.
    """
    settings = {"PORTFOLIO_CHECKPOINT_INTERVAL": INTERVAL, "PORTFOLIO_CHECKPOINT_TIMEOUT": TIMEOUT}
    load = Load.of(stage.settings, 100_000, 1_000)
    workers = await stage.started("w1", "w2", "w3", **settings)
    first, victim, last = workers
    load.start()

    async def is_shared() -> bool:
        newest = await told(first, "COMPLETED")
        parts = (await ask(first, f"/checkpoints/{newest['id']}"))["parts"]
        return len({part["worker"] for part in parts}) == 3 and newest["records"] > 0

    await until(is_shared, TOLD_SECONDS, "a checkpoint of three workers", first)
    completed = await told(first, "COMPLETED")
    whole = await ask(victim, f"/checkpoints/{completed['id']}")
    assert stage.settings.partitions == whole["completed_partitions"] == len(whole["parts"])
    assert all(part["offset"] is not None and part["duration_seconds"] >= 0 for part in whole["parts"])
    assert whole["changelog_bytes"] > 0
    lost = {part["partition"] for part in whole["parts"] if part["worker"] == victim.name}

    victim.kill()
    failed = await told(last, "FAILED", completed["id"], "no owner")
    assert lost >= {one["partition"] for one in failed["failures"]}
    for worker in (first, last):
        before = await ask(worker, f"/checkpoints/{completed['id']}")
        assert {**whole, "worker": worker.name} == before
    after = await told(last, "COMPLETED", failed["id"])
    parts = (await ask(last, f"/checkpoints/{after['id']}"))["parts"]
    assert {first.name, last.name} == {part["worker"] for part in parts}

    victim.start()
    assert after["id"] <= (await told(victim, "COMPLETED", failed["id"]))["id"]
    assert failed == {
        key: value for key, value in (await ask(victim, f"/checkpoints/{failed['id']}")).items() if key in failed
    }

    monkeypatch.setenv("PORTFOLIO_WEB_PORT", first.environment["PORTFOLIO_WEB_PORT"])
    assert 0 == cli.run(["checkpoints", str(failed["id"]), "-o", "json"])
    assert failed["failures"] == json.loads(capsys.readouterr().out)["failures"]
    await cancelled(load.task)
    for worker in workers:
        assert "task failed" not in worker.text

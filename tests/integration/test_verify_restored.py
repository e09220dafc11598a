"""The audit of a live job that writes savepoints, loses its oldest records to retention, and is restored."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from portfolio_stream.audit.board import Board
from portfolio_stream.audit.follow import FollowPlan, follow
from portfolio_stream.audit.savepoint import verify_savepoint
from portfolio_stream.audit.verify import verify
from portfolio_stream.control.values import OperationKind, OperationState
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.savepoints.coverage import covered
from portfolio_stream.savepoints.manifest import Manifest
from portfolio_stream.savepoints.read import load
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, wait_for_no_lag
from tests.integration.job_stage import JobStage, job_stage
from tests.integration.test_verify_live import address
from tests.integration.workers import WorkersStage, until

EVENTS, RATE = 6_000, 1_000


async def saved(job: JobStage) -> Manifest:
    """Have the workers write a savepoint, while they fold."""
    wanted = asking.asked(OperationKind.SAVEPOINT, "test", savepoint=asking.new_id(), reason="asked")
    begun = await asking.begin_savepoint(job.control, wanted)
    last = [operation async for operation, _ in asking.follow(job.control, begun.id)][-1]
    assert OperationState.DONE is last.state, last.reason
    return await load(job.objects, last.arguments["savepoint"])


async def delete_covered(settings: Settings, manifest: Manifest) -> None:
    """Delete what the savepoint covers, as kafka-delete-records does."""
    places = {TopicPartition(topic, p): at for topic, offsets in covered(manifest).items() for p, at in offsets.items()}
    async with admin_client(settings) as admin:
        await admin.delete_records({place: RecordsToDelete(at) for place, at in places.items()})


@pytest.mark.slow  # `make proof` runs it
async def test_a_restored_job_is_audited_from_its_savepoint_on(stage: WorkersStage) -> None:
    """Savepoint under load, records deleted up to it, a restore under `verify --follow`: no alarm, all is judged."""
    settings = stage.settings = replace(stage.settings, savepoint_dir=str(stage.folder / "savepoints"))
    workers = await stage.started("w1", "w2", PORTFOLIO_SAVEPOINT_DIR=settings.savepoint_dir)

    async def addresses() -> Sequence[str]:
        return [address(worker) for worker in workers]

    load_ = Load.of(settings, EVENTS, RATE, seed=7, duplicates=0.03, invalid=0.03)
    board = Board()
    plan = FollowPlan(interval=0.2, keep_going=False, coverage="sample", find_workers=addresses)
    auditing = asyncio.create_task(follow(settings, plan, board, lambda: None))
    try:
        async with job_stage(settings) as job:
            load_.start()
            await load_.reached(2_000)
            manifest = await saved(job)
            await load_.done()
            await wait_for_no_lag(settings, 60)
            judged = await verify_savepoint(settings, manifest.id)
            assert ({}, manifest.id) == (judged.anomaly_counts, judged.savepoint)
            await delete_covered(settings, manifest)
            trimmed = await verify(settings, coverage="all", find_workers=addresses)
            assert trimmed.base is not None
            assert ({}, manifest.id, 0) == (trimmed.anomaly_counts, trimmed.base.savepoint, trimmed.lag)
            assert EVENTS - sum(manifest.offsets.values()) == trimmed.figures["records"]

            wanted = Wanted(OperationKind.RESTORE, savepoint=manifest.id)
            done = await job.switcher.carry_out(wanted, await job.switcher.preview(wanted), by="test")
            assert (OperationState.DONE, 2) == (done.state, done.result["generation"])
            at_once = await verify(settings, coverage="sample", find_workers=addresses)
            assert ({}, 2) == (at_once.anomaly_counts, at_once.generation)
            await wait_for_no_lag(settings, 60)
        await until(lambda: board.moves == 1 and board.lag == 0 and board.verdict == "holds", 30, f"follows: {board}")
        more = Load.of(settings, EVENTS // 2, RATE, seed=8, duplicates=0.03, invalid=0.03)
        more.start()
        await more.done()
        await wait_for_no_lag(settings, 60)
        result: Any = await verify(settings, coverage="all", find_workers=addresses)
        assert ({}, 2, 0) == (result.anomaly_counts, result.generation, result.lag)
        assert result.figures["outputs"] == result.figures["accepted"] > 0
        assert result.figures["served"] > 0
        await until(lambda: board.lag == 0 and board.verdict == "holds", 30, f"it holds: {board}")
        assert not auditing.done()
        assert {} == board.findings.counts
    finally:
        auditing.cancel()
        await asyncio.wait([auditing])

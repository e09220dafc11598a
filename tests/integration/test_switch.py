"""Switches to another generation on a real broker with real workers: state and offsets move together."""

from dataclasses import replace

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import OperationKind, OperationState
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.gathering import Wanted
from tests.integration.histories import Load, read, wait_for_no_lag
from tests.integration.job_stage import holds, is_empty, job_stage, save
from tests.integration.workers import WorkersStage, until

EVENTS = 3_000


async def send(stage: WorkersStage, events: int, seed: int) -> None:
    load = Load.of(stage.settings, events, 0, seed=seed)
    load.start()
    await load.done()


async def test_a_restore_takes_the_state_back_and_writes_no_output_twice(stage: WorkersStage) -> None:
    """Savepoint, more events, restore while the job runs: the same outputs stand once, and the job goes on."""
    settings = stage.settings = replace(stage.settings, savepoint_dir=str(stage.folder / "savepoints"))
    await stage.started("one")
    await send(stage, EVENTS, 1)
    await wait_for_no_lag(settings, 60)
    steps: list[str] = []
    async with job_stage(settings, lambda progress: steps.append(progress.step)) as job:
        await asking.change_at_once(job.control, asking.asked(OperationKind.STOP, "test"))
        await until(lambda: is_empty(job), 30, "the worker leaves")
        manifest = await save(job)
        await asking.change_at_once(job.control, asking.asked(OperationKind.START, "test"))
        await send(stage, EVENTS, 2)
        await wait_for_no_lag(settings, 60)
        before = {topic: await read(settings, topic) for topic in (settings.output_topic, settings.dlq_topic)}
        wanted = Wanted(OperationKind.RESTORE, savepoint="latest")
        plan = await job.switcher.preview(wanted)
        assert (manifest.id, 6_000 - sum(manifest.offsets.values())) == (plan.savepoint, plan.folded_again)
        done = await job.switcher.carry_out(wanted, plan, by="test")
        assert (OperationState.DONE, 2) == (done.state, done.result["generation"])
        assert JobState.RUNNING.value == done.result["job"]
        await wait_for_no_lag(settings, 60)
        await send(stage, EVENTS, 3)
        await wait_for_no_lag(settings, 60)
    after = {topic: await read(settings, topic) for topic in before}
    for topic, partitions in before.items():
        for partition, records in partitions.items():
            assert records == after[topic][partition][: len(records)]
    await holds(settings)

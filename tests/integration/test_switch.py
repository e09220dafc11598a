"""Switches to another generation on a real broker with real workers: state and offsets move together.

Each stage has a cluster of its own, which takes seconds to start: so a test makes several switches.
"""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from portfolio_stream.control.job_life import JobState
from portfolio_stream.control.values import JobOperation, OperationKind, OperationState
from portfolio_stream.errors import SwitchOvertaken
from portfolio_stream.jobs import asking
from portfolio_stream.jobs.gathering import Wanted
from portfolio_stream.jobs.generations import expire
from portfolio_stream.jobs.switch import SwitchProgress
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.changelog_topics import ChangelogTopics
from portfolio_stream.kafka.topics import describe_topics
from portfolio_stream.settings import Settings
from tests.integration.histories import Load, read, wait_for_no_lag
from tests.integration.job_stage import JobStage, holds, is_empty, job_stage, save
from tests.integration.kafka_tools import tool
from tests.integration.workers import Worker, WorkersStage, until

EVENTS = 2_000
OUTPUTS = Mapping[str, Mapping[int, list[Any]]]
GROUP_TOOL = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"


def with_savepoints(stage: WorkersStage) -> Settings:
    stage.settings = replace(stage.settings, savepoint_dir=str(stage.folder / "savepoints"))
    return stage.settings


async def send(settings: Settings, seed: int) -> None:
    load = Load.of(settings, EVENTS, 0, seed=seed)
    load.start()
    await load.done()


async def folded(settings: Settings, seed: int) -> None:
    """Send events, and wait until the job has folded them."""
    await send(settings, seed)
    await wait_for_no_lag(settings, 60)


async def stop(job: JobStage) -> None:
    await asking.change_at_once(job.control, asking.asked(OperationKind.STOP, "test"))
    await until(lambda: is_empty(job), 30, "the workers leave")


async def start(job: JobStage) -> None:
    await asking.change_at_once(job.control, asking.asked(OperationKind.START, "test"))


async def switch(job: JobStage, wanted: Wanted) -> JobOperation:
    done = await job.switcher.carry_out(wanted, await job.switcher.preview(wanted), by="test")
    assert OperationState.DONE is done.state
    return done


async def outputs_of(settings: Settings) -> OUTPUTS:
    return {topic: await read(settings, topic) for topic in (settings.output_topic, settings.dlq_topic)}


async def stands_once(settings: Settings, before: OUTPUTS) -> None:
    """Everything is folded, `verify` holds, and no output of before was written again."""
    await wait_for_no_lag(settings, 60)
    after = await outputs_of(settings)
    for topic, partitions in before.items():
        for partition, records in partitions.items():
            assert records == after[topic][partition][: len(records)]
    await holds(settings)


async def test_a_restore_takes_the_state_back_and_writes_no_output_twice(stage: WorkersStage) -> None:
    """Savepoint, more events, restore while the job runs: the same outputs stand once, and the job goes on."""
    settings = with_savepoints(stage)
    await stage.started("one")
    await folded(settings, 1)
    async with job_stage(settings) as job:
        await stop(job)
        manifest = await save(job)
        await start(job)
        await folded(settings, 2)
        before = await outputs_of(settings)
        wanted = Wanted(OperationKind.RESTORE, savepoint="latest")
        plan = await job.switcher.preview(wanted)
        assert (manifest.id, 2 * EVENTS - sum(manifest.offsets.values())) == (plan.savepoint, plan.folded_again)
        done = await job.switcher.carry_out(wanted, plan, by="test")
        assert (OperationState.DONE, 2, "running") == (done.state, done.result["generation"], done.result["job"])
        await stands_once(settings, before)
        await folded(settings, 3)
        await holds(settings)


async def test_a_switch_that_was_overtaken_while_it_waited_says_so_at_once(stage: WorkersStage) -> None:
    """A worker stands still, so the switch waits for it. `job start` comes between."""
    settings = with_savepoints(stage)
    (worker,) = await stage.started("one")
    await folded(settings, 1)
    waits = asyncio.Event()

    def report(progress: SwitchProgress) -> None:
        if progress.step == "waiting":
            waits.set()

    async with job_stage(settings, report) as job:
        worker.signal(signal.SIGSTOP)
        switching = asyncio.create_task(switch(job, Wanted(OperationKind.FRESH)))
        await asyncio.wait_for(waits.wait(), 30)
        await start(job)
        worker.signal(signal.SIGCONT)
        with pytest.raises(SwitchOvertaken):
            await asyncio.wait_for(switching, 30)
    await folded(settings, 2)
    await holds(settings)


def move_offset(settings: Settings, partition: int, *how: str) -> None:
    """As an operator does it with Kafka's own tool. The group is empty."""
    server = ("--bootstrap-server", settings.bootstrap_servers)
    of = ("--group", settings.group, "--topic", f"{settings.input_topic}:{partition}")
    tool(GROUP_TOOL, *server, *of, "--reset-offsets", *how, "--execute")


async def is_halted(worker: Worker) -> bool:
    return any("the group's offset is" in fields.get("reason", "") for fields in worker.events("partition stopped"))


@pytest.mark.slow  # `make proof` runs it
async def test_offsets_are_reset_and_adopted_and_a_switch_is_taken_back(stage: WorkersStage) -> None:
    """One partition, moved offsets behind our back, everything, and back again: each with its state."""
    settings = with_savepoints(stage)
    (worker,) = await stage.started("one")
    await folded(settings, 1)
    async with job_stage(settings) as job:
        await stop(job)
        saved = (await save(job)).offsets
        await start(job)
        await folded(settings, 2)
        before = await outputs_of(settings)

        plan = await job.switcher.preview(Wanted(OperationKind.RESET, offsets={3: saved[3] + 5}))
        assert [("savepoint", saved[3], saved[3] + 5)] == [
            (one.base, one.offset, one.asked) for one in plan.partitions if one.base != "current"
        ]
        await switch(job, Wanted(OperationKind.RESET, offsets={3: saved[3] + 5}))
        await stands_once(settings, before)

        await stop(job)
        move_offset(settings, 0, "--to-offset", str(saved[0] + 1))
        await start(job)
        await until(lambda: is_halted(worker), 60, "partition 0 halts", worker)
        await switch(job, Wanted(OperationKind.ADOPT))
        await stands_once(settings, before)

        await stop(job)
        await send(settings, 3)
        move_offset(settings, 1, "--to-latest")
        done = await switch(job, Wanted(OperationKind.ADOPT))
        assert ("stopped", 0) == (done.result["job"], done.result["folded_again"])
        await start(job)
        await stands_once(settings, before)
        before = await outputs_of(settings)

        await switch(job, Wanted(OperationKind.RESET, to_earliest=True))
        await stands_once(settings, before)
        await switch(job, Wanted(OperationKind.ROLLBACK, generation=2))
        await stands_once(settings, before)
        await folded(settings, 4)
        await holds(settings)

        done_now = await expire(job.control, ChangelogTopics(settings), 0)
        assert 2 not in done_now.generations  # its changelog is the job's
        async with admin_client(settings) as admin:
            present = await describe_topics(admin)
        assert [] == [topic for topic in done_now.changelogs if topic in present]
        await folded(settings, 5)
        await holds(settings)


def command(stage: WorkersStage, savepoint: str) -> "subprocess.Popen[bytes]":
    """`portfolio-stream job start --from`, in a process of its own."""
    environment = os.environ | {
        "PORTFOLIO_BOOTSTRAP_SERVERS": stage.settings.bootstrap_servers,
        "PORTFOLIO_SAVEPOINT_DIR": stage.settings.savepoint_dir,
    }
    program = Path(sys.executable).with_name("portfolio-stream")
    log = (stage.folder / f"command-{os.urandom(4).hex()}.log").open("wb")
    arguments = [str(program), "job", "start", "--from", savepoint, "--yes"]
    with log:
        return subprocess.Popen(arguments, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)


@pytest.mark.slow  # `make proof` runs it
async def test_a_lost_changelog_and_all_lost_folders_come_back_from_a_savepoint(stage: WorkersStage) -> None:
    """And the command that restores is killed some moments after its start, at other moments each time."""
    settings = with_savepoints(stage)
    (worker,) = await stage.started("one")
    await folded(settings, 1)
    async with job_stage(settings) as job:
        await stop(job)
        manifest = await save(job)
        await start(job)
        await folded(settings, 2)
        before = await outputs_of(settings)
        worker.kill()
        shutil.rmtree(stage.folder / "data")
        await ChangelogTopics(settings).delete([settings.changelog_topic])
        for seconds in (0.8, 1.2, 1.6, 2.0, 2.6):
            process = command(stage, manifest.id)
            await asyncio.sleep(seconds)  # a kill at a moment that nobody chose
            process.send_signal(signal.SIGKILL)
            process.wait(10)
            state = await job.control.newest()
            assert state.job is not None and state.current is not None
            assert state.job.state in (JobState.RUNNING, JobState.MIGRATING)
        process = command(stage, manifest.id)
        await until(lambda: process.poll() is not None, 120, "the command ends")
        logs = "".join(path.read_text() for path in stage.folder.glob("command-*.log"))
        assert 0 == process.returncode, logs
        worker.start()
        await stands_once(settings, before)
        running = [operation for operation in (await job.control.newest()).operations if not operation.state.is_final]
        assert [] == running
        await folded(settings, 3)
        await holds(settings)

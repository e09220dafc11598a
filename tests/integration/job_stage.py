"""A job on a stage of real workers, for tests of switches: its control topic, a switcher, and savepoints by hand."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

from portfolio_stream.audit.verify import verify
from portfolio_stream.control.job_control import JobControl
from portfolio_stream.control.job_life import JobState
from portfolio_stream.jobs.contents import state_of
from portfolio_stream.jobs.job_configuration import job_configuration
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.jobs.switch import Switcher, TellSwitch, unreported
from portfolio_stream.kafka.changelog_topics import ChangelogTopics
from portfolio_stream.kafka.client import kafka_connections
from portfolio_stream.savepoints.manifest import Head, Manifest, new_id, utc_text
from portfolio_stream.savepoints.objects import Objects, open_objects
from portfolio_stream.savepoints.write import complete, write_part
from portfolio_stream.settings import Settings
from tables.catalog import TABLES
from tables.row_form import TableRows
from tests.integration.workers import until


class JobStage(NamedTuple):
    settings: Settings
    control: JobControl
    switcher: Switcher
    observation: Observation
    objects: Objects


@asynccontextmanager
async def job_stage(settings: Settings, report: TellSwitch = unreported) -> AsyncIterator[JobStage]:
    """The job of these settings. Its control topic exists."""
    kafka = kafka_connections(settings, "test")
    control = JobControl(kafka, group=settings.group, source_topic=settings.input_topic)
    objects = open_objects(settings.savepoint_dir)
    await control.open()
    try:
        made = Switcher(control, kafka, ChangelogTopics(settings), objects, job_configuration(settings), report)
        async with made as switcher, Observation(kafka, job_configuration(settings)) as observation:
            yield JobStage(settings, control, switcher, observation, objects)
    finally:
        await control.stop()


async def save(job: JobStage, savepoint: str | None = None) -> Manifest:
    """Write a savepoint of a job that folds nothing now: its state is the changelog's."""
    name, seen = savepoint or new_id(), job.observation
    current = (await job.control.newest()).current
    assert current is not None
    changelog = (await seen.topics(current.changelog_topic))[current.changelog_topic].id.hex
    metas = await seen.metas(current.changelog_topic)
    ends = {topic: await seen.bounds(topic) for topic in (*seen.outputs, current.changelog_topic)}
    source = await seen.bounds(job.settings.input_topic)
    for partition in seen.partitions:
        state = await state_of(seen, current.changelog_topic, partition)
        await write_part(
            job.objects,
            savepoint=name,
            partition=partition,
            offset=metas[partition].offset if partition in metas else source[partition].start,
            changelog_topic_id=changelog,
            changelog_offset=ends[current.changelog_topic][partition].end,
            outputs={topic: ends[topic][partition].end for topic in seen.outputs},
            fold=job.settings.fold_signature,
            rows=sorted(state.items()),  # META among them is left out
            form=TableRows(TABLES),
        )
    head = Head(
        id=name,
        reason="asked",
        generation=current.number,
        cluster_id=await seen.cluster_id(),
        group=job.settings.group,
        source_topic=job.settings.input_topic,
        source_topic_id=seen.source.id.hex,
        partitions=len(seen.partitions),
        changelog_topic=current.changelog_topic,
        output_topics={name: found.id.hex for name, found in seen.outputs.items()},
        fold=job.settings.fold_signature,
        writer="test",
        created_at=utc_text(),
    )
    return await complete(job.objects, head)


async def is_empty(job: JobStage) -> bool:
    """The group has no member."""
    return not await job.observation.members()


async def reaches(job: JobStage, state: JobState) -> None:
    async def is_there() -> bool:
        known = (await job.control.newest()).job
        return known is not None and known.state is state

    await until(is_there, 60, f"the job is {state.value}")


async def holds(settings: Settings) -> None:
    """`verify` finds no anomaly, and the job has folded everything."""
    result = await verify(settings)
    assert ({}, 0) == (result.anomaly_counts, result.lag)

"""Opens the job of the settings' group, for processes that are no worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.errors import JobNotBegun
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.client import kafka_connections
from portfolio_stream.kafka.topics import describe_topics
from portfolio_stream.settings import Settings


async def open_begun(control: JobControl, settings: Settings) -> None:
    """Open the connection to a job that has begun. Raises JobNotBegun, and the errors of `JobControl.open`."""
    async with admin_client(settings) as admin:
        if not await describe_topics(admin, [control.topic]):
            raise JobNotBegun(control.group)
    if (await control.open()).job is None:
        raise JobNotBegun(control.group)


@asynccontextmanager
async def open_job(settings: Settings) -> AsyncIterator[JobControl]:
    """Yields a connection to the job. Raises what `open_begun` raises."""
    kafka = kafka_connections(settings, "portfolio-stream")
    control = JobControl(kafka, group=settings.group, source_topic=settings.input_topic)
    try:
        await open_begun(control, settings)
        yield control
    finally:
        await control.stop()

"""Refuses the first start of a job where outputs stand that the job has not written.

A new job folds the source from its start. With a mistyped PORTFOLIO_GROUP, or after changelog, control topic and group
are all lost, it would write every output again.
"""

from portfolio_stream.control.job_control import JobControl
from portfolio_stream.errors import OutputsStand
from portfolio_stream.exactly_once.configuration import Configuration
from portfolio_stream.jobs.observation import Observation
from portfolio_stream.kafka.connections import Connections
from portfolio_stream.kafka.offset_lookup import NO_OFFSET


async def require_no_outputs(control: JobControl, kafka: Connections, configuration: Configuration) -> None:
    """Raises OutputsStand, and the errors of Observation. Another worker may begin the job meanwhile.

    A job of an earlier version has no control topic, but a group offset or a changelog.
    """
    async with Observation(kafka, configuration) as seen:
        await seen.topics(configuration.changelog_topic)
        positions = await seen.positions(is_stable=False)
        changelog = await seen.bounds(configuration.changelog_topic)
        for topic in configuration.output_topics:
            outputs = await seen.bounds(topic)
            for partition in seen.partitions:
                is_new = positions[partition].offset == NO_OFFSET and changelog[partition].end == 0
                if is_new and outputs[partition].end > 0 and (await control.newest()).job is None:
                    raise OutputsStand(configuration.group, topic, partition)

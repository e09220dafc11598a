"""Evidence of the control topic: the job, its generations and operations."""

from dataclasses import replace
from typing import Any

from portfolio_stream.control.log import FETCH, ControlLog
from portfolio_stream.control.state import ControlState
from portfolio_stream.doctor.evidence import NotThere, Unseen
from portfolio_stream.doctor.findings import say
from portfolio_stream.kafka.client import client_options
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.reader import BatchReader
from portfolio_stream.kafka.topics import Topic
from portfolio_stream.settings import Settings


async def look_at_control(client: Any, settings: Settings, *, exists: bool) -> ControlState:
    """Read the control topic to its end. `client` knows the topic. Raises NotThere before the first worker's start."""
    if not exists:
        raise NotThere(say("topic {topic} does not exist: no worker has started a job", topic=settings.control_topic))
    reader = BatchReader(settings.control_topic, 1, client_options(settings), FETCH)
    await reader.start()
    try:
        return await ControlLog(client, reader, settings.control_topic).read_to_end()
    finally:
        await reader.stop()


def contract_of(settings: Settings, control: ControlState | Unseen) -> tuple[Topic, ...]:
    """The contract's topics, with the changelog of the job's generation."""
    generation = control.current if isinstance(control, ControlState) else None
    if generation is None:
        return all_topics(settings)
    return tuple(
        replace(topic, name=generation.changelog_topic) if topic.role == "changelog" else topic
        for topic in all_topics(settings)
    )

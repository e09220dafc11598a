"""Checks the topics of a cluster against the rules: before a worker starts, and every two minutes while it runs.

Somebody may change a setting under a running worker. A single look never ends the worker: it ends only if a second look
finds the same fault.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Any

from aiokafka.errors import KafkaError

from portfolio_stream.errors import PortfolioStreamError, TopicMisconfigured
from portfolio_stream.kafka.reach import LOST, answered
from portfolio_stream.kafka.topic_rules import TopicFault, faults_of
from portfolio_stream.kafka.topics import Topic, TopicDescription, describe_topics

log = logging.getLogger(__name__)

LOOK_SECONDS = 120.0  # short beside half of the shortest delete.retention.ms; a look costs one small connection
CONFIRM_SECONDS = 5.0  # from a fault that ends a worker to the second look

#: opens and closes an admin client for one look
OpenAdmin = Callable[[], AbstractAsyncContextManager[Any]]


async def find_faults(admin: Any, topics: Iterable[Topic]) -> tuple[TopicFault, ...]:
    """Returns the faults of the topics that exist, in the order of `topics`."""
    wanted = tuple(topics)
    return _faults(wanted, await describe_topics(admin, [topic.name for topic in wanted]))


async def check_present(admin: Any, topics: Iterable[Topic], bootstrap_servers: str) -> tuple[TopicFault, ...]:
    """Returns the faults that only warn. Raises TopicMisconfigured for the first fault that refuses a topic."""
    faults = await find_faults(admin, topics)
    for fault in faults:
        if fault.verdict == "refuse":
            raise refusal(fault, bootstrap_servers)
    return faults


def refusal(fault: TopicFault, bootstrap_servers: str) -> TopicMisconfigured:
    return TopicMisconfigured(
        fault.topic, fault.setting, fault.found, fault.expected, fault.consequence, fault.remedy(bootstrap_servers)
    )


class TopicCheck:
    """Checks the topics of one worker. Call `begin` before the engine starts, and `run` beside it."""

    def __init__(self, open_admin: OpenAdmin, topics: Iterable[Topic], bootstrap_servers: str) -> None:
        #: how long the changelog keeps deletions (delete.retention.ms), as of the last look
        self.tombstone_seconds = 0.0
        self.faults: tuple[TopicFault, ...] = ()
        self._open_admin = open_admin
        self._topics = tuple(topics)
        self._servers = bootstrap_servers
        self._suspected: frozenset[TopicFault] = frozenset()

    @property
    def findings(self) -> Mapping[tuple[str, str], str]:
        """Describes each fault, by topic and setting."""
        return {(fault.topic, fault.setting): str(fault) for fault in self.faults}

    async def begin(self, admin: Any) -> None:
        """Check all topics; they exist by now. Raises TopicMisconfigured for the first fault that refuses a topic."""
        await answered(admin._client, lambda: self._begin(admin))

    async def _begin(self, admin: Any) -> None:
        await check_present(admin, self._topics, self._servers)
        await self._look(admin)

    async def follow(self, changelog_topic: str) -> None:
        """Check this changelog topic from now on. Raises TopicMisconfigured, and the errors of the admin client."""
        topics = tuple(
            replace(topic, name=changelog_topic) if topic.role == "changelog" else topic for topic in self._topics
        )
        if topics == self._topics:
            return
        self._topics = topics
        async with self._open_admin() as admin:
            await self.begin(admin)

    async def run(self) -> None:
        """Check until cancelled. Raises TopicMisconfigured for a confirmed fault that must end a running worker."""
        while True:
            await asyncio.sleep(CONFIRM_SECONDS if self._suspected else LOOK_SECONDS)
            try:
                async with self._open_admin() as admin:
                    await self._look(admin)
            except TopicMisconfigured:
                raise
            except (*LOST, KafkaError, PortfolioStreamError) as error:
                log.info("topic settings not looked at error=%s", type(error).__name__)

    async def _look(self, admin: Any) -> None:
        found = await describe_topics(admin, [topic.name for topic in self._topics])
        for topic in self._topics:
            if topic.role == "changelog" and topic.name in found:
                self.tombstone_seconds = int(found[topic.name].configuration["delete.retention.ms"]) / 1000
        faults = _faults(self._topics, found)
        self._tell(faults)
        self.faults = faults
        ending = frozenset(fault for fault in faults if fault.ends_running)
        for fault in faults:
            if fault in ending & self._suspected:
                raise refusal(fault, self._servers)
        self._suspected = ending

    def _tell(self, faults: tuple[TopicFault, ...]) -> None:
        """Log each new fault, and each fault that is mended."""
        for fault in faults:
            if fault not in self.faults:
                level = logging.ERROR if fault.verdict == "refuse" else logging.WARNING
                log.log(level, "%s. Operator action: %s.", fault, fault.remedy(self._servers))
        for fault in self.faults:
            if fault not in faults:
                log.warning("topic mended topic=%s setting=%s", fault.topic, fault.setting)


def _faults(topics: Iterable[Topic], found: Mapping[str, TopicDescription]) -> tuple[TopicFault, ...]:
    return tuple(fault for topic in topics if topic.name in found for fault in faults_of(topic, found[topic.name]))

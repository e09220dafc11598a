"""What an engine is told: names and limits, and what its topics are set to."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

ASSUMED_TOMBSTONE_SECONDS = 7 * 24 * 3600.0  # the contract's delete.retention.ms


class TopicSettings(Protocol):
    """Looks at the topics' settings while the engine runs."""

    @property
    def tombstone_seconds(self) -> float:
        """How long the changelog keeps deletions."""
        ...

    @property
    def findings(self) -> Mapping[tuple[str, str], str]:
        """What is wrong, by topic and setting."""
        ...

    async def run(self) -> None:
        """Until cancelled. Raises PortfolioStreamError if the worker must end."""
        ...


class AssumedTopics:
    """Topics that are as the contract says, and that nobody changes."""

    findings: Mapping[tuple[str, str], str] = {}

    @property
    def tombstone_seconds(self) -> float:
        return ASSUMED_TOMBSTONE_SECONDS

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    group: str
    source_topic: str
    changelog_topic: str
    #: topics that folds append to
    output_topics: tuple[str, ...]
    #: fold version and settings: a state that was folded otherwise is refused
    fold: str
    #: None: adaptive
    commit_interval_seconds: float | None = None

    @property
    def topics(self) -> list[str]:
        """All that it reads or writes, the source first."""
        return [self.source_topic, self.changelog_topic, *self.output_topics]

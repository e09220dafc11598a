"""The settings of an engine: its names and limits, and the settings of its topics."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

ASSUMED_TOMBSTONE_SECONDS = 7 * 24 * 3600.0  # the contract's delete.retention.ms


class TopicSettings(Protocol):
    """Reads the topics' settings again and again while the engine runs."""

    @property
    def tombstone_seconds(self) -> float:
        """How long the changelog keeps a tombstone."""
        ...

    @property
    def findings(self) -> Mapping[tuple[str, str], str]:
        """The wrong settings: a description of each, by topic and setting."""
        ...

    async def follow(self, changelog_topic: str) -> None:
        """From now on, look at this changelog topic. Raises PortfolioStreamError for one that breaks a rule."""
        ...

    async def run(self) -> None:
        """Run until cancelled. Raises PortfolioStreamError if the worker must end."""
        ...


class AssumedTopics:
    """Topics with the contract's settings, which nobody changes."""

    findings: Mapping[tuple[str, str], str] = {}

    @property
    def tombstone_seconds(self) -> float:
        return ASSUMED_TOMBSTONE_SECONDS

    async def follow(self, changelog_topic: str) -> None:
        """There is nothing to look at."""

    async def run(self) -> None:
        await asyncio.Event().wait()


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    group: str
    source_topic: str
    #: the topic of the job's generation
    changelog_topic: str
    #: the topics to which folds append
    output_topics: tuple[str, ...]
    #: the fold's version and settings; the engine refuses a state that another fold has made
    fold: str
    #: earlier folds whose state this fold can read and go on with; the next META names `fold`
    older_folds: frozenset[str] = frozenset()
    #: the generation of the job whose state this is; its offsets name it
    generation: int = 1
    #: None: the interval follows the load and the usual time of a commit (`commit_interval`)
    commit_interval_seconds: float | None = None
    #: how many workers besides the owner follow a partition's changelog
    standbys: int = 0

    @property
    def topics(self) -> list[str]:
        """All topics that the engine reads or writes, the source first."""
        return [self.source_topic, self.changelog_topic, *self.output_topics]

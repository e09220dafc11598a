"""What an engine is told: names and limits."""

from dataclasses import dataclass


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

"""What an engine is told: names, limits, and how its clients connect."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


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
    #: aiokafka's options of every client: bootstrap_servers, security
    client_options: Mapping[str, Any] = field(default_factory=dict)
    #: what other members see of us, e.g. instance@host:port
    client_id: str = "portfolio-stream"

    @property
    def topics(self) -> list[str]:
        """All that it reads or writes, the source first."""
        return [self.source_topic, self.changelog_topic, *self.output_topics]

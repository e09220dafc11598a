"""What a switch does to topics. The engine's own port (`kafka.connections`) knows no such requests."""

from collections.abc import Collection
from typing import Protocol


class JobCluster(Protocol):
    """Each method raises a PortfolioStreamError if the cluster does not do what is asked for."""

    async def make_changelog(self, topic: str) -> None:
        """Make an empty changelog. A topic that has the name, which a dead attempt left, is deleted first.

        Returns when every broker knows the topic.
        """
        ...

    async def delete(self, topics: Collection[str]) -> None:
        """Delete topics. A topic that is not there counts as deleted."""
        ...

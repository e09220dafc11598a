"""A Kafka under test, real or simulated: what a scenario needs beside the engine's own ports."""

from collections.abc import Mapping
from typing import Protocol

from portfolio_stream.kafka.connections import Connections


class Kafka(Protocol):
    @property
    def connections(self) -> Connections: ...

    def unique(self, name: str) -> str:
        """A name that no other scenario uses: of a transactional id, a group."""
        ...

    async def create_topic(self, partitions: int, settings: Mapping[str, str] | None = None, name: str = "") -> str:
        """Its name, which is a new one where none is given. It can be written to when this returns."""
        ...

    async def delete_topic(self, topic: str) -> None:
        """Brokers may tell of it for a moment longer."""
        ...

    async def trim(self, topic: str, start: int) -> None:
        """Delete what partition 0 has before an offset."""
        ...

    async def compact(self, topic: str) -> None:
        """Returns at once; a real one compacts when it gets to it."""
        ...

    async def restart(self) -> None:
        """Kill every broker, and start them again. Returns when they serve, or soon will."""
        ...

    async def kill(self, node: int) -> None:
        """One broker."""
        ...

    async def start(self, node: int) -> None:
        """One that was killed. Returns when it has everything that the others have."""
        ...

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        """Producer epochs of transactional ids that have no open transaction."""
        ...

"""The needs of a scenario beside the engine's own ports, for a real Kafka and for the simulated one."""

from collections.abc import Mapping
from typing import Protocol

from portfolio_stream.kafka.connections import Connections


class Kafka(Protocol):
    @property
    def connections(self) -> Connections: ...

    def unique(self, name: str) -> str:
        """Returns a name that no other scenario uses, for a transactional id or a group."""
        ...

    async def create_topic(self, partitions: int, settings: Mapping[str, str] | None = None, name: str = "") -> str:
        """Make a topic and return its name, a new one if none is given. The topic takes records when this returns."""
        ...

    async def delete_topic(self, topic: str) -> None:
        """Delete a topic. Brokers may name the topic for a moment longer."""
        ...

    async def trim(self, topic: str, start: int) -> None:
        """Delete the records of partition 0 before an offset."""
        ...

    async def compact(self, topic: str) -> None:
        """Ask for a compaction. A real Kafka compacts later."""
        ...

    async def restart(self) -> None:
        """Kill every broker, and start all of them again. Returns when they serve, or soon will."""
        ...

    async def kill(self, node: int) -> None:
        """Kill one broker."""
        ...

    async def start(self, node: int) -> None:
        """Start a killed broker again. Returns when the broker has all data of the others."""
        ...

    async def set_epochs(self, epochs: Mapping[str, int]) -> None:
        """Set the producer epochs of transactional ids without an open transaction."""
        ...

"""How far the source reaches, and how far the group has committed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.kafka.group import Group


class Offsets(NamedTuple):
    """Of every partition of the source."""

    ends: Mapping[int, int]
    #: the group's next offset; 0 where it has none
    committed: Mapping[int, int]

    @property
    def produced(self) -> int:
        return sum(self.ends.values())

    @property
    def processed(self) -> int:
        return sum(self.committed.values())

    @property
    def behind(self) -> dict[int, int]:
        """Lag by partition, of those that have any."""
        return {
            partition: end - self.committed[partition]
            for partition, end in self.ends.items()
            if end > self.committed[partition]
        }


class Ruler:
    """Reads offsets. Errors of Kafka's are raised as they come: `connected` around it makes them ours."""

    def __init__(self, group: "Group", partitions: int) -> None:
        self.partitions = partitions
        self._group = group

    async def read(self) -> Offsets:
        from aiokafka.errors import KafkaError

        try:
            found = await self._group.offsets(range(self.partitions))
        except KafkaError:
            await self._group.forget()
            raise
        return Offsets(
            ends={partition: at.high_watermark for partition, at in found.items()},
            committed={partition: at.committed or 0 for partition, at in found.items()},
        )


@asynccontextmanager
async def open_ruler(settings: Settings) -> AsyncIterator[Ruler]:
    """Makes the contract's topics first, where they are missing."""
    from portfolio_stream.kafka.admin import admin_client, create_all
    from portfolio_stream.kafka.group import open_group

    async with admin_client(settings) as admin:
        await create_all(admin, settings)
    async with open_group(settings) as (group, partitions):
        yield Ruler(group, partitions)

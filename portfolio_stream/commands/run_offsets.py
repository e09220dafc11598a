"""The ends of the source partitions, and the group's committed offsets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.kafka.group import GroupClient


class RunOffsets(NamedTuple):
    """Offsets by partition, for every partition of the source."""

    ends: Mapping[int, int]
    #: the group's next offset; 0 if the group has committed none
    committed: Mapping[int, int]

    @property
    def produced(self) -> int:
        return sum(self.ends.values())

    @property
    def processed(self) -> int:
        return sum(self.committed.values())

    @property
    def behind(self) -> dict[int, int]:
        """Lag by partition, without the partitions that have none."""
        return {
            partition: end - self.committed[partition]
            for partition, end in self.ends.items()
            if end > self.committed[partition]
        }


class OffsetReader:
    """Reads offsets. It raises aiokafka's errors; `connected`, in `open_group`, turns them into ours."""

    def __init__(self, group: "GroupClient", partitions: int) -> None:
        self.partitions = partitions
        self._group = group

    async def read(self) -> RunOffsets:
        from aiokafka.errors import KafkaError

        try:
            found = await self._group.offsets(range(self.partitions))
        except KafkaError:
            await self._group.forget()
            raise
        return RunOffsets(
            ends={partition: at.high_watermark for partition, at in found.items()},
            committed={partition: at.committed or 0 for partition, at in found.items()},
        )


@asynccontextmanager
async def open_offset_reader(settings: Settings) -> AsyncIterator[OffsetReader]:
    """Create the contract's missing topics, then open the group."""
    from portfolio_stream.kafka.admin import admin_client, create_all
    from portfolio_stream.kafka.group import open_group

    async with admin_client(settings) as admin:
        await create_all(admin, settings)
    async with open_group(settings) as (group, partitions):
        yield OffsetReader(group, partitions)

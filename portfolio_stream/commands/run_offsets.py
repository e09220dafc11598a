"""The ends of the source partitions, and the group's committed offsets."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from portfolio_stream.settings import Settings

if TYPE_CHECKING:
    from portfolio_stream.kafka.group import GroupClient, Offsets


class RunOffsets(NamedTuple):
    """How far the source's producers and the group are."""

    #: of each partition of the source
    partitions: "Mapping[int, Offsets]"

    @property
    def produced(self) -> int:
        return sum(at.high_watermark for at in self.partitions.values())

    @property
    def processed(self) -> int:
        return sum(at.committed or 0 for at in self.partitions.values())

    @property
    def behind(self) -> dict[int, int]:
        """Lag by partition, without the partitions that have none."""
        return {partition: at.lag for partition, at in self.partitions.items() if at.lag}


class OffsetReader:
    """Reads offsets. It raises aiokafka's errors; `connected`, in `open_group`, turns them into ours."""

    def __init__(self, group: "GroupClient", partitions: int) -> None:
        self.partitions = partitions
        self._group = group

    async def read(self) -> RunOffsets:
        from aiokafka.errors import KafkaError

        try:
            return RunOffsets(await self._group.offsets(range(self.partitions)))
        except KafkaError:
            await self._group.forget()
            raise


@asynccontextmanager
async def open_offset_reader(settings: Settings) -> AsyncIterator[OffsetReader]:
    """Create the contract's missing topics, then open the group."""
    from portfolio_stream.kafka.admin import admin_client, create_all
    from portfolio_stream.kafka.group import open_group

    async with admin_client(settings) as admin:
        await create_all(admin, settings)
    async with open_group(settings) as (group, partitions):
        yield OffsetReader(group, partitions)

"""The ruler of a run, over topics that may not exist yet."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from portfolio_stream.offsets import Ruler
from portfolio_stream.settings import Settings


@asynccontextmanager
async def open_ruler(settings: Settings) -> AsyncIterator[Ruler]:
    """Makes the contract's topics first, where they are missing."""
    from aiokafka import AIOKafkaConsumer

    from portfolio_stream.admin import admin_client, create_all
    from portfolio_stream.kafka_client import client_options, connected

    consumer = AIOKafkaConsumer(**client_options(settings), enable_auto_commit=False)
    async with admin_client(settings) as admin, connected(settings, consumer):
        await create_all(admin, settings)
        yield Ruler(admin, consumer, settings.input_topic, settings.partitions)

"""The topics of the two-table fold."""

import asyncio
from collections.abc import Sequence

from benchmarks.system import System
from benchmarks.two_tables import PARTITIONS
from portfolio_stream.kafka.admin import admin_client
from portfolio_stream.kafka.topics import ANY_TIMESTAMP, Role, Topic, create_missing
from portfolio_stream.settings import Settings


def topic(name: str, policy: str) -> Topic:
    """Returns a topic that never expires or refuses a record because of its old timestamp."""
    configuration = {"cleanup.policy": policy, "retention.ms": "-1"} | ANY_TIMESTAMP
    role: Role = "changelog" if policy == "compact" else "source"
    return Topic(name=name, role=role, partitions=PARTITIONS, replication_factor=1, configuration=configuration)


def create(made: System, names: Sequence[str], changelogs: Sequence[str] = ()) -> None:
    settings = Settings(bootstrap_servers=made.cluster.bootstrap_servers)
    topics = [topic(name, "delete") for name in names] + [topic(name, "compact") for name in changelogs]

    async def create_all() -> None:
        async with admin_client(settings) as admin:
            await create_missing(admin, topics)

    asyncio.run(create_all())

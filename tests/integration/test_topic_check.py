"""Topics on a real broker that are weaker than the contract: commands name them, and a worker warns or ends."""

import asyncio
import os
from typing import Any

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from portfolio_stream import cli
from portfolio_stream.errors import TopicMisconfigured
from portfolio_stream.kafka import topic_check
from portfolio_stream.kafka.admin import admin_client, create_all, prepare_for_worker
from portfolio_stream.kafka.contract_topics import all_topics
from portfolio_stream.kafka.topics import Topic, describe_topics
from portfolio_stream.settings import Settings
from tests.integration.workers import until


@pytest.fixture
def settings(name: str) -> Settings:
    return Settings.from_environment(os.environ)


async def alter(admin: Any, topic: Topic, **settings: str) -> None:
    """Change settings of a topic; its other settings stay as the contract says. Returns when the broker knows them."""
    changed = dict(topic.configuration) | {name.replace("_", "."): value for name, value in settings.items()}
    await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic.name, changed)])

    async def is_known() -> bool:
        found = await describe_topics(admin, [topic.name])
        return changed.items() <= found[topic.name].configuration.items()

    await until(is_known, 10, f"the broker knows the settings of {topic.name}")


def test_create_names_what_is_weaker(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    """`topics create` has exit code 1 and prints the command that mends the topic. It does not change the topic."""
    output = all_topics(settings)[1]

    async def weaken() -> None:
        async with admin_client(settings) as admin:
            await create_all(admin, settings)
            await alter(admin, output, retention_ms="60000")

    asyncio.run(weaken())
    assert 1 == cli.run(["topics", "create"])
    said = capsys.readouterr().out
    assert f"! topic {output.name} has retention.ms 60000, not -1" in said
    assert f"--entity-name {output.name} --add-config retention.ms=-1`" in said
    assert 0 == cli.run(["topics", "describe", output.name])
    assert "! retention.ms is 60000, the contract says -1" in capsys.readouterr().out


async def test_a_worker_looks_at_its_topics_again_and_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker starts in spite of a warning. A setting that breaks a guarantee ends it and stops its next start.

    The worker also knows how long the changelog keeps tombstones.
    """
    monkeypatch.setattr(topic_check, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(topic_check, "CONFIRM_SECONDS", 0.05)
    _, output, dead_letters, changelog, *_ = all_topics(settings)
    async with admin_client(settings) as admin:
        await create_all(admin, settings)
        await alter(admin, dead_letters, retention_ms="60000")
        await alter(admin, changelog, delete_retention_ms="7200000")
        check, _ = await prepare_for_worker(admin, settings)
        assert {(dead_letters.name, "retention.ms"), (changelog.name, "delete.retention.ms")} == set(check.findings)
        assert 7200.0 == check.tombstone_seconds
        running = asyncio.create_task(check.run())
        await alter(admin, output, message_timestamp_type="LogAppendTime")
        with pytest.raises(TopicMisconfigured, match=r"message\.timestamp\.type LogAppendTime"):
            await asyncio.wait_for(running, 30)
        await alter(admin, output)
        await alter(admin, changelog, delete_retention_ms="1")
        with pytest.raises(TopicMisconfigured, match=r"delete\.retention\.ms 1, but must have 3600000 or more"):
            await prepare_for_worker(admin, settings)

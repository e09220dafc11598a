"""A topic that is not what it was."""

import asyncio
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from aiokafka import errors as kafka_errors

from portfolio_stream.errors import TopicMissing, TopicReplaced
from portfolio_stream.kafka import topic_watch as module
from portfolio_stream.kafka.topic_watch import TopicIdentity, TopicWatch

Description = dict[str, TopicIdentity] | Exception
HERE: dict[str, TopicIdentity] = {"in": TopicIdentity(UUID(int=1), 8), "log": TopicIdentity(UUID(int=2), 8)}
REPLACED = HERE | {"log": TopicIdentity(UUID(int=3), 8)}
GONE = {"in": HERE["in"]}


class WatchedCluster:
    """Answers in turn, the last one for ever; each look takes four seconds of its clock."""

    def __init__(self, *answers: Description) -> None:
        self.answers: Iterator[Description] = iter(answers)
        self.last: Description = HERE
        self.now = 0.0
        self.looks = 0

    async def describe(self, *_: Any) -> dict[str, TopicIdentity]:
        self.last = next(self.answers, self.last)
        self.looks += 1
        self.now += 4
        if isinstance(self.last, Exception):
            raise self.last
        return self.last


async def watch(monkeypatch: pytest.MonkeyPatch, cluster: WatchedCluster) -> None:
    monkeypatch.setattr(module, "describe", cluster.describe)
    monkeypatch.setattr(module, "WATCH_SECONDS", 0.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: cluster.now))
    watched = TopicWatch(SimpleNamespace(), ["in", "log"])  # type: ignore[arg-type]
    await watched.start()
    async with asyncio.timeout(5):
        await watched.run()


async def test_a_missing_topic_is_named_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker does not begin."""
    with pytest.raises(TopicMissing, match="log"):
        await watch(monkeypatch, WatchedCluster(GONE))


async def test_a_topic_that_its_broker_does_not_know_yet_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At the start, too: all brokers may have been started a moment ago."""
    monkeypatch.setattr(module, "MISSING_SECONDS", 10.0)
    monkeypatch.setattr(module, "MISSING_POLL_SECONDS", 0.0)
    cluster = WatchedCluster(GONE, GONE, HERE, REPLACED)
    with pytest.raises(TopicReplaced, match="log"):
        await watch(monkeypatch, cluster)
    assert 4 == cluster.looks


async def test_a_topic_that_was_made_again_ends_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: every write since went astray."""
    cluster = WatchedCluster(HERE, HERE, REPLACED)
    with pytest.raises(TopicReplaced, match="log"):
        await watch(monkeypatch, cluster)
    assert 3 == cluster.looks


async def test_a_topic_that_is_gone_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """15 seconds; a broker that has just started may not know it yet, and one that is away says nothing."""
    away = kafka_errors.NodeNotReadyError()
    cluster = WatchedCluster(HERE, GONE, GONE, HERE, away, away, away, away, away, GONE)
    with pytest.raises(TopicMissing, match="log"):
        await watch(monkeypatch, cluster)
    assert 13 == cluster.looks

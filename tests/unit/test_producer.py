"""Batches on their way: what Kafka has of them is known, whatever becomes of the rest."""

import asyncio
import gc
from typing import Any

import pytest
from aiokafka.errors import KafkaConnectionError

from portfolio_stream.kafka.aiokafka_stop import stop_producer
from portfolio_stream.load.events import Generated
from portfolio_stream.load.producer import BatchedTopic


class FakeBatch:
    def __init__(self) -> None:
        self.records = 0

    def append(self, **_: Any) -> object:
        self.records += 1
        return object()

    def record_count(self) -> int:
        return self.records


class FakeProducer:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.answers: list[asyncio.Future[None]] = []

    def create_batch(self) -> FakeBatch:
        return FakeBatch()

    async def send_batch(self, *_: Any, **__: Any) -> "asyncio.Future[None]":
        self.answers.append(asyncio.get_running_loop().create_future())
        return self.answers[-1]


async def send(topic: BatchedTopic, *sizes: int) -> None:
    for size in sizes:
        for _ in range(size):
            await topic.append(Generated(b"k", b"v", 0))
        await topic.flush()


async def test_what_settles_is_acknowledged() -> None:
    """All of it."""
    producer = FakeProducer()
    topic = BatchedTopic(producer, "t", 1)
    await send(topic, 3, 2)
    for answer in producer.answers:
        answer.set_result(None)
    await topic.settle()
    assert 5 == topic.acknowledged


async def test_a_broker_that_went_away_leaves_no_error_unseen() -> None:
    """Every batch fails, one error is raised; what was acknowledged is counted, in whatever order it came."""
    unseen: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unseen.append(context["message"]))
    producer = FakeProducer()
    topic = BatchedTopic(producer, "t", 1)
    await send(topic, 3, 2, 4, 1, 1)
    producer.answers[0].set_result(None)
    producer.answers[1].set_exception(KafkaConnectionError("gone"))
    producer.answers[2].set_result(None)
    producer.answers[3].set_exception(KafkaConnectionError("gone"))
    with pytest.raises(KafkaConnectionError):
        await topic.settle()
    topic.abandon()
    producer.answers[4].set_exception(KafkaConnectionError("closed"))
    await asyncio.sleep(0)
    assert 7 == topic.acknowledged
    del topic
    producer.answers.clear()
    gc.collect()
    await asyncio.sleep(0)
    assert [] == unseen


async def test_no_answer_at_all_is_an_error_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that is gone says nothing: the waiting has an end."""
    monkeypatch.setattr("portfolio_stream.load.producer.ANSWER_SECONDS", 0.01)
    topic = BatchedTopic(FakeProducer(), "t", 1)
    await send(topic, 1)
    with pytest.raises(KafkaConnectionError):
        await topic.settle()


async def test_a_stop_waits_for_no_broker(monkeypatch: pytest.MonkeyPatch) -> None:
    """aiokafka's own stop awaits every batch for ever; then sender and connections are closed all the same."""
    monkeypatch.setattr("portfolio_stream.kafka.aiokafka_stop.FLUSH_SECONDS", 0.01)
    closed = []

    class FakePart:
        async def close(self) -> None:
            closed.append(self)

    class StuckBatch:
        _sender, client = FakePart(), FakePart()

        async def stop(self) -> None:
            await asyncio.get_running_loop().create_future()

    await stop_producer(StuckBatch())
    assert [StuckBatch._sender, StuckBatch.client] == closed

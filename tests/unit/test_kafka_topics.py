"""Topics of a cluster whose brokers do not learn of them all at once."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import NodeNotReadyError
from aiokafka.protocol.metadata import MetadataRequest_v4

from portfolio_stream.errors import TopicMissing
from portfolio_stream.kafka import topics as kafka_topics
from portfolio_stream.kafka.topics import Topic, create_missing, describe_topics

UNKNOWN = 3  # UNKNOWN_TOPIC_OR_PARTITION
TOPIC = Topic(
    name="made", role="output", partitions=2, replication_factor=1, configuration={"cleanup.policy": "delete"}
)


class Brokers:
    """An admin client: `lags` says how often a broker is asked before it knows a topic that was made; None: it is gone.

    Requests that may go anywhere go to the first broker for metadata and to the last for configurations.
    """

    def __init__(self, lags: Mapping[int, int | None], configuration: Mapping[str, str] = TOPIC.configuration) -> None:
        self.left = dict(lags)
        self.configuration = configuration
        self.is_made = False
        cluster = SimpleNamespace(brokers=lambda: [SimpleNamespace(nodeId=node) for node in self.left])
        self._client = SimpleNamespace(cluster=cluster, send=self.send)

    def knows(self, node: int) -> bool:
        left = self.left[node]
        if left is None:
            raise NodeNotReadyError
        if self.is_made:
            self.left[node] = max(0, left - 1)
        return self.is_made and left == 0

    def topics(self, node: int) -> list[dict[str, Any]]:
        code = 0 if self.knows(node) else UNKNOWN
        partitions = [{"replicas": [0]}] * 2
        return [{"topic": TOPIC.name, "error_code": code, "partitions": partitions, "is_internal": False}]

    async def send(self, node: int, request: Any) -> Any:
        assert not request.build(MetadataRequest_v4).allow_auto_topic_creation
        topics = self.topics(node)
        return SimpleNamespace(to_object=lambda: {"topics": topics})

    async def _send_request(self, request: Any) -> Any:
        return await self.send(min(self.left), request)

    async def describe_configs(self, _resources: Any) -> list[Any]:
        is_known = self.knows(max(self.left))
        entries = [*self.configuration.items()] if is_known else []
        return [SimpleNamespace(resources=[(0 if is_known else UNKNOWN, "", 2, TOPIC.name, entries)])]

    async def create_topics(self, _topics: Any) -> Any:
        self.is_made = True
        return SimpleNamespace(topic_errors=[(TOPIC.name, 0, None)])


async def test_a_topic_is_made_when_every_broker_knows_it() -> None:
    """Who comes next may ask any of them."""
    brokers = Brokers({0: 0, 1: 3, 2: 7})
    assert (TOPIC.name,) == await create_missing(brokers, [TOPIC])
    assert {0: 0, 1: 0, 2: 0} == brokers.left
    assert TOPIC.name in await describe_topics(brokers, [TOPIC.name])


async def test_a_broker_that_is_gone_is_not_waited_for() -> None:
    """It misleads nobody; when it comes back it learns of the topic before it serves."""
    assert (TOPIC.name,) == await create_missing(Brokers({0: 0, 1: None, 2: 2}), [TOPIC])


async def test_a_topic_that_one_broker_does_not_know_does_not_exist() -> None:
    """Made or deleted by somebody else just now: no error of Kafka's comes out of it."""
    brokers = Brokers({0: 0, 1: 5})
    await brokers.create_topics([])
    assert {} == await describe_topics(brokers, [TOPIC.name])


async def test_a_topic_that_never_comes_is_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the error names it."""
    monkeypatch.setattr(kafka_topics, "VISIBLE_SECONDS", 0.0)
    with pytest.raises(TopicMissing, match="made"):
        await create_missing(Brokers({0: 0, 1: 10**9}), [TOPIC])

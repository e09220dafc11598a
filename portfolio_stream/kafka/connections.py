"""The port between the engine and a Kafka cluster. Tests put a simulated cluster behind the port.

The protocols here list every method of aiokafka that the engine calls.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka import errors as kafka_errors
from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.structs import TopicPartition

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.reach import bootstrapped, why_unreachable
from portfolio_stream.kafka.reader import BatchReader, FetchLimits, Records
from portfolio_stream.kafka.rebootstrap import recovering

REQUEST_TIMEOUT_MS = 10_000


class ClusterView(Protocol):
    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        """None or -1 if the partition has no leader, or if the leader is not known."""
        ...


class Client(Protocol):
    """The methods of AIOKafkaClient that the engine calls. `send` has a connection for each `group`: see wire.call."""

    cluster: ClusterView

    async def bootstrap(self) -> None: ...
    async def set_topics(self, topics: Sequence[str]) -> Any: ...
    async def send(self, node_id: int, request: Any, *, group: Any) -> Any: ...
    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int: ...
    def get_random_node(self) -> int: ...
    async def force_metadata_update(self) -> Any: ...
    async def close(self) -> None: ...


class Reader(Protocol):
    """Reads committed records of all partitions of one topic; see BatchReader."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def fetch(self, timeout_ms: int) -> Mapping[int, list[Records]]: ...
    def wake(self) -> None: ...
    def pace(self, seconds: float) -> None: ...
    def resume(self, partition: int, offset: int) -> None: ...
    def pause(self, partitions: Iterable[int]) -> None: ...
    async def position(self, partition: int) -> int: ...
    def last_stable_offset(self, partition: int) -> int | None: ...
    def take_decode_seconds(self) -> float: ...
    def has_buffered(self, partition: int) -> bool: ...
    def is_behind(self, partitions: Iterable[int]) -> bool: ...


class Connections(Protocol):
    def client(self) -> Client:
        """Returns a client for requests, not yet connected."""
        ...

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> Reader: ...
    async def why_unreachable(self) -> PortfolioStreamError: ...


async def connected_client(kafka: Connections, opened: AsyncExitStack) -> Client:
    """Returns a client that has found the cluster; `opened` closes it. Raises PortfolioStreamError."""
    client = kafka.client()
    opened.push_async_callback(client.close)
    try:
        await bootstrapped(client.bootstrap)
    except kafka_errors.KafkaConnectionError:
        raise await kafka.why_unreachable() from None
    return client


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaConnections:
    """Connections to a real cluster."""

    #: options of all aiokafka clients: bootstrap_servers and security
    options: Mapping[str, Any] = field(default_factory=dict)
    #: our name for other members of the group, e.g. instance@host:port
    client_id: str

    def client(self) -> Client:
        client = AIOKafkaClient(request_timeout_ms=REQUEST_TIMEOUT_MS, client_id=self.client_id, **self.options)
        return recovering(client)  # type: ignore[no-any-return]

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> Reader:
        return BatchReader(topic, partitions, self.options, limits)

    async def why_unreachable(self) -> PortfolioStreamError:
        return await why_unreachable(self.options)

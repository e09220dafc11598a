"""How an engine reaches Kafka: the one port between it and a cluster, which a simulated one implements too.

What the engine uses of aiokafka stands in the protocols here, method for method; nothing else of it is called.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from aiokafka.client import AIOKafkaClient, CoordinationType
from aiokafka.structs import TopicPartition

from portfolio_stream.errors import PortfolioStreamError
from portfolio_stream.kafka.reach import why_unreachable
from portfolio_stream.kafka.reader import BatchReader, FetchLimits, Records
from portfolio_stream.kafka.rebootstrap import recovering

REQUEST_TIMEOUT_MS = 10_000


class ClusterView(Protocol):
    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        """None or -1: there is none now, or none is known."""
        ...


class Client(Protocol):
    """What the engine uses of AIOKafkaClient. `send` carries a `wire.call`, each group on a connection of its own."""

    cluster: ClusterView

    async def bootstrap(self) -> None: ...
    async def set_topics(self, topics: Sequence[str]) -> Any: ...
    async def send(self, node_id: int, request: Any, *, group: Any) -> Any: ...
    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int: ...
    def get_random_node(self) -> int: ...
    async def force_metadata_update(self) -> Any: ...
    async def close(self) -> None: ...


class Reader(Protocol):
    """All partitions of one topic at read_committed; see BatchReader."""

    async def start(self) -> None: ...
    async def stop(self) -> None: ...
    async def fetch(self, timeout_ms: int) -> Mapping[int, list[Records]]: ...
    def wake(self) -> None: ...
    def resume(self, partition: int, offset: int) -> None: ...
    def pause(self, partitions: Iterable[int]) -> None: ...
    async def position(self, partition: int) -> int: ...
    def last_stable_offset(self, partition: int) -> int | None: ...
    def has_buffered(self, partition: int) -> bool: ...


class Connections(Protocol):
    def client(self) -> Client:
        """For requests; not connected yet."""
        ...

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> Reader: ...
    async def why_unreachable(self) -> PortfolioStreamError: ...


@dataclass(frozen=True, kw_only=True, slots=True)
class KafkaConnections:
    """To a real cluster."""

    #: aiokafka's options of every client: bootstrap_servers, security
    options: Mapping[str, Any] = field(default_factory=dict)
    #: what other members see of us, e.g. instance@host:port
    client_id: str

    def client(self) -> Client:
        client = AIOKafkaClient(request_timeout_ms=REQUEST_TIMEOUT_MS, client_id=self.client_id, **self.options)
        return recovering(client)  # type: ignore[no-any-return]

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> Reader:
        return BatchReader(topic, partitions, self.options, limits)

    async def why_unreachable(self) -> PortfolioStreamError:
        return await why_unreachable(self.options)

"""The engine's ports (`exactly_once.connections`) to a simulated cluster."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aiokafka import errors as kafka_errors
from aiokafka.client import CoordinationType
from aiokafka.structs import TopicPartition

from portfolio_stream.errors import BrokerUnreachable, PortfolioStreamError
from portfolio_stream.kafka.connections import Client, ClusterView, Reader
from portfolio_stream.kafka.reader import FetchLimits, Records
from tests.simulation.kafka.connection import Connection
from tests.simulation.kafka.network import REQUEST_SECONDS, Link

if TYPE_CHECKING:
    from tests.simulation.kafka.cluster import SimulatedKafka

CONNECT_SECONDS = 0.01  # until a refused connection is known
RETRY_SECONDS = 0.1  # of a reader whose leader is away


class SimulatedConnections:
    def __init__(self, kafka: "SimulatedKafka", link: Link) -> None:
        self._kafka = kafka
        self._link = link

    def client(self) -> Client:
        return SimulatedClient(self._kafka, self._link)

    def reader(self, topic: str, partitions: int, limits: FetchLimits) -> Reader:
        return SimulatedReader(self._kafka, self._link, topic, partitions, limits)

    async def why_unreachable(self) -> PortfolioStreamError:
        return BrokerUnreachable("simulated")


class SimulatedClient:
    """Its view of who leads is as old as its last metadata."""

    def __init__(self, kafka: "SimulatedKafka", link: Link) -> None:
        self._kafka = kafka
        self._link = link
        self._leaders: dict[tuple[str, int], int] = {}
        self._connections: dict[tuple[int, str], Connection] = {}
        self.cluster: ClusterView = self

    async def bootstrap(self) -> None:
        for node in self._kafka.nodes:
            if await self._reaches(node):
                self._learn(node)
                return
        raise kafka_errors.KafkaConnectionError("no broker answers")

    async def set_topics(self, topics: Sequence[str]) -> Any:
        self._learn(self.get_random_node())

    def leader_for_partition(self, partition: TopicPartition) -> int | None:
        return self._leaders.get((partition.topic, partition.partition))

    def get_random_node(self) -> int:
        return self._link.random.choice(self._kafka.nodes)

    async def force_metadata_update(self) -> Any:
        for node in self._kafka.nodes:
            if await self._reaches(node):
                self._learn(node)
                return True
        return False

    async def coordinator_lookup(self, kind: CoordinationType, key: str) -> int:
        node = self.get_random_node()
        if not await self._reaches(node):
            raise kafka_errors.NodeNotReadyError(f"node {node}")
        if self._link.loses_reply("FindCoordinator"):
            raise kafka_errors.KafkaConnectionError(f"node {node}")
        found = self._kafka.coordinator(kind, key)
        if found is None:
            raise kafka_errors.GroupCoordinatorNotAvailableError(key)
        return found

    async def close(self) -> None:
        """Connections need no goodbye."""

    async def send(self, node_id: int, request: Any, *, group: Any) -> Any:
        if not await self._connects(node_id):
            raise kafka_errors.NodeNotReadyError(f"node {node_id}")
        connection = self._connections.get((node_id, group))
        if connection is None or not connection.is_open:
            connection = self._connections[node_id, group] = Connection(self._kafka, self._link, node_id)
        return await connection.ask(request.entity)

    async def _connects(self, node: int) -> bool:
        """Time passes only where there is no connection to be had."""
        if self._link.is_cut and self._link.is_silent:
            await asyncio.sleep(REQUEST_SECONDS)
        elif not self._kafka.is_up(node) or self._link.is_cut:
            await asyncio.sleep(CONNECT_SECONDS)
        return self._kafka.is_up(node) and not self._link.is_cut

    async def _reaches(self, node: int) -> bool:
        """A round trip for metadata."""
        if not await self._connects(node) or self._kafka.is_paused(node):
            return False
        await asyncio.sleep(self._link.delay() + self._link.delay())
        return self._kafka.is_up(node) and not self._link.loses_request()

    def _learn(self, node: int) -> None:
        self._leaders = self._kafka.leaders(node)


class SimulatedReader:
    """As BatchReader: a fetch is under way for each partition that is read and has nothing buffered."""

    def __init__(self, kafka: "SimulatedKafka", link: Link, topic: str, partitions: int, limits: FetchLimits) -> None:
        self._kafka = kafka
        self._link = link
        self._topic = topic
        self._limits = limits
        self._positions = dict.fromkeys(range(partitions), 0)
        self._reading: set[int] = set()
        #: seeks void what is under way
        self._turns = dict.fromkeys(range(partitions), 0)
        self._asked: dict[int, int] = {}
        self._buffers: dict[int, tuple[list[Records], int] | Exception] = {}
        self._stable: dict[int, int] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._is_closed = False
        self._pace_seconds = 0.0
        self._rests_until = 0.0

    async def start(self) -> None:
        """Nothing is read yet."""

    async def stop(self) -> None:
        self._is_closed = True

    async def fetch(self, timeout_ms: int) -> Mapping[int, list[Records]]:
        if not self._has_news() and timeout_ms:
            loop = asyncio.get_running_loop()
            self._waiter = loop.create_future()
            timer = loop.call_later(timeout_ms / 1000, self.wake)
            try:
                await self._waiter
            finally:
                self._waiter = None
                timer.cancel()
        found: dict[int, list[Records]] = {}
        for partition in list(self._buffers):
            buffered = self._buffers[partition]
            if isinstance(buffered, Exception):
                if found:
                    break
                del self._buffers[partition]
                if partition in self._reading:
                    self._ask(partition)
                raise buffered
            del self._buffers[partition]
            if partition not in self._reading:  # it is fetched again
                continue
            batches, self._positions[partition] = buffered
            self._ask(partition)
            if batches:
                found[partition] = batches
        return found

    def pace(self, seconds: float) -> None:
        self._pace_seconds = seconds

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def resume(self, partition: int, offset: int) -> None:
        self._positions[partition] = offset
        self._rests_until = 0.0
        self._turns[partition] += 1
        self._buffers.pop(partition, None)
        self._reading.add(partition)
        self._ask(partition)

    def pause(self, partitions: Iterable[int]) -> None:
        self._reading.difference_update(partitions)

    async def position(self, partition: int) -> int:
        return self._positions[partition]

    def last_stable_offset(self, partition: int) -> int | None:
        return self._stable.get(partition)

    def take_decode_seconds(self) -> float:
        return 0.0

    def has_buffered(self, partition: int) -> bool:
        return partition in self._buffers

    def is_behind(self, partitions: Iterable[int]) -> bool:
        return any(
            partition in self._buffers or self._positions[partition] < self._stable.get(partition, 0)
            for partition in self._reading.intersection(partitions)
        )

    def _has_news(self) -> bool:
        return any(partition in self._reading for partition in self._buffers)

    # -- the fetch under way

    def _ask(self, partition: int) -> None:
        turn = self._turns[partition]
        if self._asked.get(partition) != turn:
            self._asked[partition] = turn
            rest = max(0.0, self._rests_until - asyncio.get_running_loop().time())
            self._kafka.at(rest + self._link.delay(), self._arrive, partition, turn)

    def _arrive(self, partition: int, turn: int) -> None:
        if self._is_closed or turn != self._turns[partition]:
            return
        if partition not in self._reading or self._link.is_cut or self._link.loses_request():
            self._kafka.at(RETRY_SECONDS, self._again, partition, turn)
            return
        position = self._positions[partition]
        fetched = self._kafka.fetch(self._topic, partition, position, self._limits.partition_bytes)
        if fetched is None:  # no leader
            self._kafka.at(RETRY_SECONDS, self._again, partition, turn)
        elif isinstance(fetched, Exception):
            self._kafka.at(self._link.delay(), self._deliver, partition, turn, fetched, None)
        elif fetched[1] > position:
            self._kafka.at(self._link.delay(), self._deliver, partition, turn, fetched[:2], fetched[2])
        else:
            self._stable[partition] = fetched[2]
            self._kafka.when_stable_moves(self._topic, partition, fetched[2], self._again, partition, turn)

    def _again(self, partition: int, turn: int) -> None:
        if partition in self._reading:
            self._kafka.at(self._link.delay(), self._arrive, partition, turn)
        elif self._asked.get(partition) == turn:
            del self._asked[partition]  # resume() asks anew

    def _deliver(self, partition: int, turn: int, fetched: Any, stable: int | None) -> None:
        if self._is_closed or turn != self._turns[partition]:
            return
        if self._link.is_cut or self._link.loses_reply("Fetch"):
            self._kafka.at(RETRY_SECONDS, self._again, partition, turn)
            return
        del self._asked[partition]
        self._buffers[partition] = fetched
        self._rests_until = asyncio.get_running_loop().time() + self._pace_seconds
        if stable is not None:
            self._stable[partition] = stable
        self.wake()
